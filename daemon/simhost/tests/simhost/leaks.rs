//! What is left over is found, calls are recorded, and calls can be made to fail.

use std::sync::Arc;

use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, Pirq, ReservedMemory};
use xenpcid_policy::Access;
use xenpcid_simhost::{DomainOptions, World};

use super::{NVME, OLD_NIC, world};

async fn domain(world: &World) -> DomainId {
    world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap()
}

#[tokio::test]
async fn untouched_host_has_no_leaks() {
    let world = world();
    domain(&world).await;

    assert_eq!(world.leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn each_thing_that_is_given_is_a_leak_until_it_is_taken_back() {
    let world = world();
    let host = world.host();
    let hypervisor = &host.hypervisor;
    let domain = domain(&world).await;
    let ring = world.open_ring(domain, Arc::new(SharedPage::zeroed())).unwrap();
    let leaks = || world.leaks();

    hypervisor.iomem_permission(domain, 0x100, 2, true).unwrap();
    assert_eq!(leaks(), ["domain 1 may map frames 0x100..0x102"]);
    hypervisor.iomem_permission(domain, 0x100, 2, false).unwrap();

    hypervisor.ioport_permission(domain, 0xc000, 4, true).unwrap();
    assert_eq!(leaks(), ["domain 1 may use ports 0xc000..0xc004"]);
    hypervisor.ioport_permission(domain, 0xc000, 4, false).unwrap();

    hypervisor.irq_permission(domain, Pirq(23), true).unwrap();
    assert_eq!(leaks(), ["domain 1 may use interrupt 23"]);
    hypervisor.irq_permission(domain, Pirq(23), false).unwrap();

    hypervisor.map_gsi(domain, 23).unwrap();
    assert_eq!(leaks(), ["domain 1 may use interrupt 23", "domain 1 has pirq 23"]);
    hypervisor.unmap_pirq(domain, Pirq(23)).unwrap();

    let port = host.events.bind(domain, ring.port).unwrap();
    assert_eq!(leaks(), [format!("port {} of domain 1 is bound", ring.port)]);
    drop(port);

    let page = host.grants.map(domain, ring.reference).unwrap();
    assert_eq!(leaks(), [format!("grant {} of domain 1 is mapped", ring.reference)]);
    drop(page);

    assert_eq!(leaks(), Vec::<String>::new());
}

#[tokio::test]
async fn claim_that_is_half_undone_is_a_leak() {
    let world = world();
    let host = world.host();
    host.pci.set_driver_override(NVME, Some("pci-stub")).unwrap();
    host.pci.unbind(NVME).unwrap();
    host.pci.set_power_policy(NVME, crate::PINNED).unwrap();
    host.pci.set_enabled(NVME, true).unwrap();
    host.hypervisor.prepare_msix(NVME).unwrap();

    let half = world.leaks();
    host.hypervisor.assign_device(DomainId::IO, NVME, ReservedMemory::Relaxed).unwrap();
    let claimed = world.leaks();
    host.pci.open_config(NVME).unwrap().write(Access::COMMAND, 0).unwrap();
    let deaf = world.leaks();

    assert_eq!(half.len(), 4, "{half:?}");
    assert_eq!(claimed, Vec::<String>::new());
    assert!(deaf[0].contains("does not decode its addresses"), "{deaf:?}");
}

#[tokio::test]
async fn device_of_a_guest_and_violations_are_leaks() {
    let world = world();
    let host = world.host();
    let domain = domain(&world).await;

    host.hypervisor.assign_device(domain, OLD_NIC, ReservedMemory::Refuse).unwrap();

    let leaks = world.leaks().join("\n");
    assert!(leaks.contains("domain 1 has the device") && leaks.contains("while dom0's driver"), "{leaks}");
}

#[test]
fn calls_are_recorded_with_what_they_were_about() {
    let world = world();
    let host = world.host();

    host.pci.set_driver_override(NVME, Some("pci-stub")).unwrap();
    host.hypervisor.deassign_device(DomainId::IO, NVME).unwrap_err();

    let calls: Vec<_> = world.calls().iter().map(ToString::to_string).collect();
    assert_eq!(
        calls,
        ["set_driver_override 0000:02:00.0 pci-stub", "deassign_device 0000:02:00.0 for domain 32753: ENODEV"]
    );
}

#[test]
fn nth_call_of_an_operation_fails_and_changes_nothing() {
    let world = world();
    let pci = world.host().pci;
    world.fail("set_driver_override", 2, Errno::EACCES);

    pci.set_driver_override(NVME, Some("one")).unwrap();
    pci.unbind(NVME).unwrap();
    let failed = pci.set_driver_override(NVME, None).unwrap_err();
    pci.probe(NVME).unwrap();

    assert_eq!(failed.errno, Errno::EACCES);
    assert_eq!(pci.describe(NVME).unwrap().driver, None, "the override is still there");
    pci.set_driver_override(NVME, None).unwrap();
}

#[test]
fn nth_call_of_any_operation_fails() {
    let world = world();
    let host = world.host();
    let config = host.pci.open_config(NVME).unwrap();
    world.fail_any(3, Errno::EIO);

    let results = [
        host.hypervisor.info().is_err(),
        config.read(Access::COMMAND).is_err(),
        config.write(Access::COMMAND, 0).is_err(),
        config.write(Access::COMMAND, 0).is_err(),
    ];

    assert_eq!(results, [false, false, true, false]);
}

#[tokio::test]
async fn event_channel_that_fails_is_recorded_only_then() {
    let world = world();
    let domain = domain(&world).await;
    let ring = world.open_ring(domain, Arc::new(SharedPage::zeroed())).unwrap();
    let port = world.host().events.bind(domain, ring.port).unwrap();
    world.fail("notify_event_channel", 2, Errno::EIO);

    port.notify().unwrap();
    let before = world.calls().len();
    let failed = port.notify().unwrap_err();

    assert_eq!(failed.errno, Errno::EIO);
    assert_eq!(world.calls().len(), before + 1);
}
