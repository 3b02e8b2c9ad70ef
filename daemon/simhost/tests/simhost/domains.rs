//! Domains come and go as xl has it.

use std::sync::Arc;

use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, ReservedMemory, ShutdownReason};
use xenpcid_simhost::{DomainOptions, GuestError, SimDevice, SimGuest, World};
use xenstore_protocol::pci_nodes::{DeviceOptions, NewDevice, PciNodes};
use xenstore_protocol::{Client, ErrorName, Path};

use super::{NIC, NVME, OLD_NIC, world};

const UUID: [u8; 16] = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8];
const VM: &str = "/vm/12345678-9abc-def0-0102-030405060708";

fn path(text: impl ToString) -> Path {
    text.to_string().parse().unwrap()
}

async fn read(store: &Client, text: &str) -> String {
    store.read_string(&path(text)).await.unwrap()
}

async fn permissions(store: &Client, text: &str) -> String {
    store.permissions(&path(text)).await.unwrap().to_string()
}

#[tokio::test]
async fn new_domain_has_the_nodes_of_xl_with_their_permissions_and_is_introduced() {
    let world = World::new();
    let dom0 = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let mut introduced = dom0.watch(&Path::INTRODUCE_DOMAIN).await.unwrap();
    introduced.changed().await.unwrap();

    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();

    introduced.changed().await.unwrap();
    assert_eq!(domain, DomainId(1));
    assert_eq!(read(&dom0, "/local/domain/1/name").await, "web1");
    assert_eq!(read(&dom0, "/local/domain/1/vm").await, VM);
    assert_eq!(read(&dom0, &format!("{VM}/uuid")).await, &VM[4..]);
    assert_eq!(read(&dom0, "/libxl/1/type").await, "pv");
    assert_eq!(permissions(&dom0, "/local/domain/1/name").await, "n0,r1");
    assert_eq!(permissions(&dom0, "/local/domain/1/device").await, "n0,r1");
    assert_eq!(permissions(&dom0, "/local/domain/1/device/suspend").await, "n0,r1");
    assert_eq!(permissions(&dom0, "/local/domain/1/device/suspend/event-channel").await, "n1");
    assert_eq!(permissions(&dom0, "/libxl/1/type").await, "n0");
}

#[tokio::test]
async fn guest_reads_its_own_nodes_and_no_other_domains() {
    let world = World::new();
    let first = world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap();
    let second = world.create_domain("web2", [2; 16], DomainOptions::default()).await.unwrap();
    let guest = Client::over(world.xenstore().connect(second));

    let foreign = guest.read(&path(format!("/local/domain/{first}/name"))).await.unwrap_err();
    let hidden = guest.read(&path(format!("/libxl/{second}/type"))).await.unwrap_err();

    assert_eq!(read(&guest, &format!("/local/domain/{second}/name")).await, "web2");
    assert_eq!(foreign.name(), Some(&ErrorName::Eacces));
    assert_eq!(hidden.name(), Some(&ErrorName::Eacces));
}

#[tokio::test]
async fn shutdown_and_destruction_are_told_to_who_watches() {
    let world = World::new();
    let dom0 = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    let mut released = dom0.watch(&Path::RELEASE_DOMAIN).await.unwrap();
    released.changed().await.unwrap();

    world.shutdown_domain(domain);
    released.changed().await.unwrap();
    let stopped = world.host().hypervisor.domain(domain).unwrap().unwrap();
    world.destroy_domain(domain).await.unwrap();
    released.changed().await.unwrap();

    assert_eq!((stopped.shutdown, stopped.dying), (Some(ShutdownReason::PowerOff), false));
    assert_eq!(world.host().hypervisor.domain(domain).unwrap(), None);
    for gone in ["/local/domain/1", "/libxl/1", VM] {
        assert!(!dom0.exists(&path(gone)).await.unwrap(), "{gone}");
    }
}

#[tokio::test]
async fn destroyed_domain_leaves_its_devices_in_quarantine_and_its_interrupts_free() {
    let world = world();
    let host = world.host();
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    host.hypervisor.prepare_msix(NVME).unwrap();
    host.hypervisor.assign_device(domain, NVME, ReservedMemory::Refuse).unwrap();
    let vector = xenpcid_host::MsiVector::Msix { entry: 0, table_bar: 0x38_0000_0000 };
    host.hypervisor.map_msi(domain, NVME, vector).unwrap();

    world.destroy_domain(domain).await.unwrap();

    assert_eq!(world.owner(NVME), Some(DomainId::IO));
    host.hypervisor.release_msix(NVME).unwrap();
}

#[tokio::test]
async fn domain_whose_page_is_mapped_stays_until_it_is_unmapped() {
    let world = World::new();
    let host = world.host();
    let dom0 = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    let ring = world.open_ring(domain, Arc::new(SharedPage::zeroed())).unwrap();
    let mapped = host.grants.map(domain, ring.reference).unwrap();
    world.destroy_domain(domain).await.unwrap();
    let mut released = dom0.watch(&Path::RELEASE_DOMAIN).await.unwrap();
    released.changed().await.unwrap();

    let zombie = host.hypervisor.domain(domain).unwrap().unwrap();
    drop(mapped);
    released.changed().await.unwrap();

    assert!(zombie.dying);
    assert_eq!(host.hypervisor.domain(domain).unwrap(), None);
}

#[tokio::test]
async fn numbers_of_domains_are_not_used_again() {
    let world = World::new();
    let first = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    world.destroy_domain(first).await.unwrap();

    let second = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();

    assert_eq!((first, second), (DomainId(1), DomainId(2)));
}

#[tokio::test(start_paused = true)]
async fn xl_destroy_takes_devices_away_before_it_asks_and_waits_in_vain_for_a_silent_backend() {
    let world = World::new();
    world.add_device(SimDevice::nvme(NVME));
    world.add_device(SimDevice::e1000(OLD_NIC));
    let host = world.host();
    let dom0 = world.xenstore().client(DomainId::DOM0).await.unwrap();
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    let nodes = PciNodes::new(domain);
    let devices = [NVME, OLD_NIC, NIC].map(|host| NewDevice { host, options: DeviceOptions::default() });
    let transaction = dom0.begin().await.unwrap();
    nodes.create(&transaction, "web1", &devices).await.unwrap();
    transaction.commit().await.unwrap();
    host.pci.unbind(NVME).unwrap();
    host.pci.set_power_policy(NVME, crate::PINNED).unwrap();
    host.hypervisor.iomem_permission(domain, 0x380_0000, 4, true).unwrap();
    host.hypervisor.map_gsi(domain, 22).unwrap();
    host.hypervisor.assign_device(domain, NVME, ReservedMemory::Refuse).unwrap();
    let before = tokio::time::Instant::now();

    world.xl_destroy(domain).await.unwrap();

    assert_eq!(before.elapsed().as_secs(), 30, "10 seconds for each device");
    assert_eq!(world.resets(NVME), 1);
    assert_eq!(world.owner(NVME), Some(DomainId::IO));
    assert!(dom0.exists(nodes.backend()).await.unwrap(), "libxl leaves it behind");
    assert!(!dom0.exists(nodes.frontend()).await.unwrap());
}

#[tokio::test]
async fn domain_runs_when_everybody_who_paused_it_has_unpaused_it() {
    let world = World::new();
    let hypervisor = world.host().hypervisor;
    let domain = world.create_paused_domain("web1", UUID, DomainOptions::default()).await.unwrap();
    let guest = SimGuest::start(&world, domain);

    hypervisor.pause(domain).unwrap();
    world.unpause_domain(domain);
    let held = world.is_paused(domain);
    let told = hypervisor.domain(domain).unwrap().unwrap().paused;
    let leaks = world.leaks();
    tokio::select! {
        biased;
        _ = guest.start_driver(NIC, 1) => panic!("a paused guest does nothing"),
        () = std::future::ready(()) => {}
    }
    hypervisor.unpause(domain).unwrap();
    let ran = guest.start_driver(NIC, 1).await.unwrap_err();

    assert_eq!((held, told, world.is_paused(domain)), (Some(true), true, Some(false)));
    assert_eq!(leaks, ["domain 1 is paused by the daemon"]);
    assert!(matches!(ran, GuestError::NoBus));
    assert!(world.leaks().is_empty());
}

#[tokio::test]
async fn unpausing_what_the_daemon_did_not_pause_is_a_violation() {
    let world = World::new();
    let hypervisor = world.host().hypervisor;
    let domain = world.create_paused_domain("web1", UUID, DomainOptions::default()).await.unwrap();

    let of_the_toolstack = hypervisor.unpause(domain);
    let running = hypervisor.unpause(domain).unwrap_err();

    assert_eq!((of_the_toolstack, running.errno), (Ok(()), Errno::EINVAL));
    assert_eq!(world.is_paused(domain), Some(false));
    assert_eq!(world.violations().len(), 2, "{:?}", world.violations());
}

#[tokio::test]
async fn pause_is_refused_for_dom0_for_no_domain_and_without_end() {
    let world = World::new();
    let hypervisor = world.host().hypervisor;
    let domain = world.create_domain("web1", UUID, DomainOptions::default()).await.unwrap();

    let often = (0..256).map(|_| hypervisor.pause(domain)).filter_map(Result::err).map(|error| error.errno);

    assert_eq!(often.collect::<Vec<_>>(), [Errno::EOVERFLOW]);
    assert_eq!(hypervisor.pause(DomainId::DOM0).unwrap_err().errno, Errno::EINVAL);
    assert_eq!(hypervisor.pause(DomainId(99)).unwrap_err().errno, Errno::ESRCH);
}
