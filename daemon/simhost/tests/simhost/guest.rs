//! A simulated guest against a backend that is no more than the protocol: one function, read from its registers.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::{Answer, BackendEnd, Delivery};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{EventPort, GrantedPage, Host, Pirq, ReservedMemory, Wakeup};
use xenpcid_policy::Access;
use xenpcid_simhost::{DomainOptions, DriverInterrupts, SimDevice, SimGuest, World};
use xenstore_protocol::pci_nodes::{DeviceOptions, NewDevice, PciNodes, Root};
use xenstore_protocol::xenbus::switch_state;
use xenstore_protocol::{Client, Path, XenbusState};

const VIRTUAL: Sbdf = Sbdf::from_devfn(0, 0, 0);
use super::NIC;

const UUID: [u8; 16] = [7; 16];

/// Serves config accesses of one function, straight to its registers, and one MSI vector.
struct Backend {
    port: Arc<dyn EventPort>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Backend {
    fn start(host: &Host, page: Box<dyn GrantedPage>, port: Arc<dyn EventPort>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let config = host.pci.open_config(NIC).unwrap();
        let (stopped, bell) = (stop.clone(), port.clone());
        let thread = std::thread::spawn(move || {
            let end = BackendEnd::new(page.page());
            while !stopped.load(Ordering::Relaxed) {
                while let Some(request) = end.take() {
                    let access = Access::new(request.offset, request.size, config.size());
                    let here = (request.domain, request.bus, request.devfn) == (0, 0, 0);
                    let answer = match (request.operation, access) {
                        _ if !here => Answer::refusal(ErrorCode::DEV_NOT_FOUND, &request),
                        (Operation::CONFIG_READ, Ok(access)) => Answer::success(config.read(access).unwrap()),
                        (Operation::CONFIG_WRITE, Ok(_)) => Answer::success(request.value),
                        (Operation::ENABLE_MSIX, _) => Answer::success(1),
                        (Operation::DISABLE_MSI, _) => Answer::success(0),
                        _ => Answer::refusal(ErrorCode::NOT_IMPLEMENTED, &request),
                    };
                    let answer = match answer {
                        // One vector can be had, and is given when one is asked for.
                        answer if request.operation == Operation::ENABLE_MSIX && request.value == 1 => {
                            Answer { value: 0, vectors: &[55], ..answer }
                        }
                        answer => answer,
                    };
                    assert_eq!(end.answer(&request, &answer), Delivery::Delivered);
                    bell.notify().unwrap();
                }
                bell.unmask().unwrap();
                if end.take().is_none() {
                    assert!(matches!(bell.wait(None).unwrap(), Wakeup::Event | Wakeup::Woken));
                }
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.port.wake().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Scene {
    world: World,
    host: Host,
    dom0: Client,
    domain: DomainId,
    nodes: PciNodes,
}

/// A host with one NIC and a new domain, whose directories the toolstack has made.
async fn scene() -> Scene {
    let world = World::new();
    world.add_device(SimDevice::e1000e(NIC));
    let dom0 = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    let nodes = PciNodes::new(domain);
    let host = world.host();
    Scene { world, host, dom0, domain, nodes }
}

impl Scene {
    async fn publish_bus(&self) {
        let device = NewDevice { host: NIC, options: DeviceOptions::default() };
        let transaction = self.dom0.begin().await.unwrap();
        self.nodes.create(&transaction, "web1", &[device]).await.unwrap();
        self.nodes.publish_device(&transaction, 0, VIRTUAL).await.unwrap();
        self.nodes.publish_roots(&transaction, &[Root { segment: 0, bus: 0 }]).await.unwrap();
        transaction.commit().await.unwrap();
        self.switch(XenbusState::Initialised).await;
    }

    async fn switch(&self, state: XenbusState) {
        switch_state(&self.dom0, &self.nodes.backend_state(), state).await.unwrap();
    }

    async fn connect(&self, guest: &SimGuest) -> Backend {
        guest.wait_for(|status| status.state == XenbusState::Initialised).await.unwrap();
        let ring = self.nodes.read_frontend(&self.dom0).await.unwrap().ring.unwrap();
        let page = self.host.grants.map(self.domain, ring.grant_reference).unwrap();
        let port = self.host.events.bind(self.domain, ring.event_channel).unwrap();
        let backend = Backend::start(&self.host, page, port);
        self.switch(XenbusState::Connected).await;
        backend
    }
}

#[tokio::test]
async fn guest_connects_scans_starts_a_driver_and_closes_when_the_backend_does() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;
    let backend = scene.connect(&guest).await;

    let found = guest.connected().await.unwrap();
    let interrupts = guest.start_driver(VIRTUAL, 4).await.unwrap();
    guest.stop_driver(VIRTUAL).await.unwrap();
    scene.switch(XenbusState::Closing).await;
    guest.closed().await.unwrap();

    assert_eq!(found.len(), 1);
    assert_eq!((found[0].vendor, found[0].device, found[0].config_size), (0x8086, 0x10d3, 4096));
    assert_eq!(interrupts, DriverInterrupts::Msix(vec![55]));
    assert!(guest.ring().is_none());
    drop(backend);
    assert_eq!(scene.world.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn device_whose_state_is_closing_is_forgotten_and_the_rest_scanned_again() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;
    let _backend = scene.connect(&guest).await;
    guest.connected().await.unwrap();

    let transaction = scene.dom0.begin().await.unwrap();
    scene.nodes.set_device_state(&transaction, 0, XenbusState::Closing).await.unwrap();
    transaction.write(&scene.nodes.backend_state(), "7").await.unwrap();
    transaction.commit().await.unwrap();
    let reconfiguring = guest.wait_for(|status| status.state == XenbusState::Reconfiguring).await.unwrap();
    scene.switch(XenbusState::Reconfigured).await;
    let connected = guest.wait_for(|status| status.state == XenbusState::Connected).await.unwrap();

    assert!(reconfiguring.functions.is_empty());
    // The backend of this test still answers for it.
    assert_eq!(connected.functions.len(), 1);
}

#[tokio::test]
async fn guest_connects_again_only_over_a_new_directory() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;
    let backend = scene.connect(&guest).await;
    guest.connected().await.unwrap();
    let first = guest.ring().unwrap();
    guest.close().await.unwrap();
    drop(backend);

    scene.nodes.remove(&scene.dom0).await.unwrap();
    guest.wait_for(|status| status.state == XenbusState::Unknown).await.unwrap();
    scene.publish_bus().await;
    let _backend = scene.connect(&guest).await;
    let found = guest.connected().await.unwrap();

    assert_eq!(found.len(), 1);
    assert_ne!(guest.ring().unwrap().port, first.port);
}

#[tokio::test]
async fn guest_ends_with_its_domain() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;
    let backend = scene.connect(&guest).await;
    guest.connected().await.unwrap();

    scene.world.destroy_domain(scene.domain).await.unwrap();
    let ended = guest.wait_for(|_| false).await.unwrap_err();
    let zombie = scene.host.hypervisor.domain(scene.domain).unwrap().unwrap();
    drop(backend);

    assert!(ended.to_string().contains("pcifront ended"), "{ended}");
    assert!(zombie.dying);
    assert_eq!(scene.host.hypervisor.domain(scene.domain).unwrap(), None);
    assert!(!scene.dom0.exists(&Path::domain(scene.domain)).await.unwrap());
}

#[tokio::test]
async fn xl_destroy_asks_a_guest_that_answers_and_leaves_no_node() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;
    let backend = scene.connect(&guest).await;
    guest.connected().await.unwrap();

    const FRAME: u64 = 0xfeb80;
    scene.host.pci.set_power_policy(NIC, crate::PINNED).unwrap();
    scene.host.pci.unbind(NIC).unwrap();
    scene.host.hypervisor.iomem_permission(scene.domain, FRAME, 32, true).unwrap();
    scene.host.hypervisor.map_gsi(scene.domain, 21).unwrap();
    scene.host.hypervisor.assign_device(scene.domain, NIC, ReservedMemory::Refuse).unwrap();

    let part_of_the_backend = async {
        guest.wait_for(|status| status.state == XenbusState::Reconfiguring).await.unwrap();
        assert!(!scene.world.may_map(scene.domain, FRAME), "taken away before the guest is asked");
        assert_eq!(scene.world.owner(NIC), Some(DomainId::IO));
        assert!(scene.host.hypervisor.unmap_pirq(scene.domain, Pirq(21)).is_err());
        scene.switch(XenbusState::Reconfigured).await;
        guest.connected().await.unwrap();
        scene.switch(XenbusState::Connected).await;
    };
    tokio::join!(scene.world.xl_destroy(scene.domain), part_of_the_backend).0.unwrap();
    drop(backend);

    assert!(!scene.dom0.exists(scene.nodes.backend()).await.unwrap());
    assert!(!scene.dom0.exists(&Path::domain(scene.domain)).await.unwrap());
    assert_eq!(scene.world.resets(NIC), 1);
    assert_eq!(scene.world.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn guest_cannot_write_what_is_not_its_own() {
    let scene = scene().await;
    let guest = SimGuest::start(&scene.world, scene.domain);
    scene.publish_bus().await;

    let error = guest.xenstore().write(&scene.nodes.backend_state(), "4").await.unwrap_err();

    assert_eq!(error.name(), Some(&xenstore_protocol::ErrorName::Eacces));
}
