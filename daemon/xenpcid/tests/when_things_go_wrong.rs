//! Crashes, lost connections and bad moments.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{
    E1000E, NVME, ONE_GUEST, backend_becomes, end, host_with_devices, released, start, under_the_daemon,
    under_the_daemon_on,
};
use pcifront_shim::{Request, Width};
use xenpcid::checks::Owner;
use xenpcid::claim::{ClaimError, Claimed};
use xenpcid::supervisor::Event;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Policies, ResetRequirement};
use xenpcid_host::{Errno, EventChannels, EventPort, Host, HostError, PciHost, Wakeup};
use xenpcid_simhost::{DomainOptions, SimDevice, SimGuest, World};
use xenstore_protocol::memory::{Fault, FaultAction};
use xenstore_protocol::pci_nodes::PciNodes;
use xenstore_protocol::wire::MessageType;
use xenstore_protocol::{Path, XenbusState};

/// Where the MSI-X capability of the simulated NVMe has its Message Control.
const MSIX_CONTROL: usize = 0x52;

/// Claims a device with the policies that come with xenpcid.
fn claim(host: &Host, device: &Device) -> Result<Box<Claimed>, ClaimError> {
    Claimed::claim(host, device.identity.bdf.unwrap(), device, &Policies::shipped().unwrap(), &|_| Owner::Dom0)
}

#[tokio::test]
async fn vector_that_cannot_be_had_leaves_msix_off() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        for failing in 1..=2 {
            world.fail("map_msi", failing, Errno::EIO);
            let refused = guest.with_frontend(move |frontend| frontend.enable_msix(nvme, &[0, 1])).await?;
            assert!(refused.is_err(), "{refused:?}");
            let control = world.hardware(NVME)[MSIX_CONTROL + 1] & 0xc0;
            assert_eq!(control, 0, "with map_msi {failing} failing");
        }
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

/// Told when a notification waits; asked when it may go.
type Gate = Arc<Mutex<Option<(Sender<()>, Receiver<()>)>>>;

/// Event channels whose notifications wait to be let go.
struct Held {
    inner: Arc<dyn EventChannels>,
    gate: Gate,
}

struct HeldPort(Arc<dyn EventPort>, Gate);

impl EventChannels for Held {
    fn bind(&self, domain: DomainId, port: u32) -> Result<Arc<dyn EventPort>, HostError> {
        Ok(Arc::new(HeldPort(self.inner.bind(domain, port)?, self.gate.clone())))
    }
}

impl EventPort for HeldPort {
    fn wait(&self, timeout: Option<Duration>) -> Result<Wakeup, HostError> {
        self.0.wait(timeout)
    }

    fn unmask(&self) -> Result<(), HostError> {
        self.0.unmask()
    }

    fn notify(&self) -> Result<(), HostError> {
        if let Some((waits, go)) = self.1.lock().unwrap().take() {
            waits.send(()).unwrap();
            go.recv().unwrap();
        }
        self.0.notify()
    }

    fn wake(&self) -> Result<(), HostError> {
        self.0.wake()
    }
}

#[tokio::test]
async fn guest_that_closes_and_dies_while_a_request_takes_long_loses_nothing() {
    let world = host_with_devices();
    let gate = Arc::new(Mutex::new(None));
    let mut host = world.host();
    host.events = Arc::new(Held { inner: host.events.clone(), gate: gate.clone() });

    under_the_daemon_on(host, &world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        let nvme = guest.connected().await?[0].address;
        let (waits, held) = channel();
        let (let_go, go) = channel();
        *gate.lock().unwrap() = Some((waits, go));
        let ring = guest.ring().unwrap();
        pcifront_shim::FrontendEnd::new(pcifront_shim::Connection::page(&ring)).post(&Request::config_read(
            nvme,
            0,
            Width::Dword,
        ));
        pcifront_shim::Connection::ring(&ring)?;
        tokio::task::spawn_blocking(move || held.recv()).await??;

        // The session waits for the ring's thread when it is told that the domain is gone.
        let nodes = PciNodes::new(guest.domain());
        guest.xenstore().write(&nodes.frontend_state(), "5").await?;
        world.destroy_domain(guest.domain()).await?;
        let_go.send(()).unwrap();

        released(&mut events).await;
        let next = start(&world, "web1", 1).await?;
        assert_eq!(next.connected().await?.len(), 3);
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[test]
fn device_that_a_crashed_daemon_left_and_that_cannot_be_reset_goes_to_no_driver_of_dom0() {
    let world = World::new();
    world.add_device(SimDevice::nvme(NVME).with_reset_methods(&["flr"]));
    let device = Device::new(NVME);
    std::mem::forget(claim(&world.host(), &device).map_err(|error| error.to_string()).unwrap());
    world.fail("reset", 1, Errno::ETIMEDOUT);

    let claimed = claim(&world.host(), &device).map(drop);

    assert!(claimed.is_err());
    assert_eq!(world.describe(NVME).unwrap().driver.as_deref(), Some("pci-stub"));
    assert_eq!(world.owner(NVME), Some(DomainId::IO));
    assert_eq!(world.violations(), [""; 0]);
}

#[tokio::test]
async fn connection_to_xenstore_that_is_lost_ends_neither_the_daemon_nor_a_session() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let lose = |kind, below| {
            let action = FaultAction::DisconnectBefore;
            world.xenstore().inject(Fault {
                domain: DomainId::DOM0,
                kind: Some(kind),
                below: Some(below),
                skip: 0,
                action,
            });
        };
        let nodes = PciNodes::new(DomainId(1));
        // While the daemon reads a name, while it publishes devices, and while it says that it is connected.
        lose(MessageType::READ, Path::domain(DomainId(1)).child("name")?);
        lose(MessageType::WRITE, nodes.backend_state());
        world.create_domain("web1", [1; 16], DomainOptions::default()).await?;
        backend_becomes(&world, DomainId(1), XenbusState::Initialised).await?;
        lose(MessageType::WRITE, nodes.backend_state());
        let guest = SimGuest::start(&world, DomainId(1));
        let nvme = guest.connected().await?[0].address;
        guest.start_driver(nvme, 2).await?;
        world.destroy_domain(guest.domain()).await?;
        // The devices could not be published at first.
        assert!(matches!(events.recv().await, Some(Event::Refused(_))));
        released(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn name_that_is_no_text_is_some_other_domain_s() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let other = world.create_domain("unrelated", [9; 16], DomainOptions::default()).await?;
        let store = world.xenstore().client(DomainId::DOM0).await?;
        store.write(&Path::domain(other).child("name")?, [0xff, 0xe9]).await?;
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        end(&world, &guest, &mut events).await
    })
    .await;
}

#[tokio::test]
async fn frontend_that_starts_again_is_served_again() {
    let world = host_with_devices();

    under_the_daemon(&world, ONE_GUEST, async |mut events| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let nodes = PciNodes::new(guest.domain());
        // As after a kexec in the guest: no farewell, a new page.
        guest.xenstore().write(&nodes.frontend_state(), "1").await?;
        backend_becomes(&world, guest.domain(), XenbusState::Initialised).await?;
        assert_eq!(world.owner(NVME), Some(guest.domain()));
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[test]
fn device_that_shares_a_page_of_memory_with_another_is_refused() {
    let world = World::new();
    let recording = std::fs::read_to_string("../simhost/fixtures/e1000e-82574.config.txt").unwrap();
    // The 16 KiB BAR, as if it had 2 KiB, and a neighbour in the other half of the page.
    let small = |first: &str, last: &str| {
        recording.replace("0x00000000febd4000 0x00000000febd7fff", &format!("0x00000000{first} 0x00000000{last}"))
    };
    let (one, other) = (small("febd4000", "febd47ff"), small("febd4800", "febd4fff"));
    assert_ne!(one, recording);
    let neighbour = Sbdf::from_devfn(0, 9, 0);
    world.add_device(SimDevice::from_recording(E1000E, &one).unwrap().with_driver("e1000e"));
    world.add_device(SimDevice::from_recording(neighbour, &other).unwrap());

    let error = claim(&world.host(), &Device { reset: ResetRequirement::BestEffort, ..Device::new(E1000E) });

    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("0000:09:00.0") && error.contains("0xfe"), "{error}");
    assert_eq!(world.describe(E1000E).unwrap().driver.as_deref(), Some("e1000e"));
}
