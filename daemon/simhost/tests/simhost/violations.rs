//! What Xen and Linux let pass and a real host would be harmed by, and what a device reaches.

use xenpcid_address::DomainId;
use xenpcid_host::{Errno, MsiVector, ShutdownReason};
use xenpcid_policy::Access;
use xenpcid_simhost::Interrupt;

use super::hypervisor::{NVME_BAR, assign, claim, domain, entry, errno, with_nvme};
use super::{NIC, NVME, OLD_NIC, world};

#[test]
fn preparation_without_msix_is_recorded_as_what_would_crash_xen() {
    let world = world();
    let hypervisor = world.host().hypervisor;

    assert_eq!(errno(hypervisor.prepare_msix(OLD_NIC)), Some(Errno::EFAULT));
    assert_eq!(errno(hypervisor.release_msix(OLD_NIC)), Some(Errno::EFAULT));

    let violations = world.violations();
    assert_eq!(violations.len(), 2);
    assert!(violations.iter().all(|text| text.contains("crashes Xen")), "{violations:?}");
}

#[tokio::test]
async fn preparation_of_a_guests_device_crashes_the_guest() {
    let world = world();
    let host = world.host();
    let domain = domain(&world).await;
    claim(&host, NVME);
    assign(&host, domain, NVME).unwrap();

    host.hypervisor.prepare_msix(NVME).unwrap();

    assert_eq!(host.hypervisor.domain(domain).unwrap().unwrap().shutdown, Some(ShutdownReason::Crash));
    assert!(world.violations()[0].contains("crashes that domain"), "{:?}", world.violations());
}

#[tokio::test]
async fn mappings_that_xen_lets_pass_and_no_device_can_use_are_violations() {
    let (world, host, domain) = with_nvme().await;
    let wrong_bar = MsiVector::Msix { entry: 1, table_bar: NVME_BAR + 0x2000 };

    for vector in [entry(0), entry(0), wrong_bar] {
        host.hypervisor.map_msi(domain, NVME, vector).unwrap();
    }

    let violations = world.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations[0].contains("mapped already") && violations[1].contains("not in the memory"), "{violations:?}");
}

#[tokio::test]
async fn msi_and_msix_at_once_is_a_violation() {
    let world = world();
    let host = world.host();
    let domain = domain(&world).await;
    claim(&host, NIC);
    host.hypervisor.prepare_msix(NIC).unwrap();
    assign(&host, domain, NIC).unwrap();

    host.hypervisor.map_msi(domain, NIC, MsiVector::Msi).unwrap();
    host.hypervisor.map_msi(domain, NIC, MsiVector::Msix { entry: 0, table_bar: 0xfebd_4000 }).unwrap();
    host.hypervisor.map_msi(domain, NIC, MsiVector::Msix { entry: 0, table_bar: 0 }).unwrap();

    let violations = world.violations().join("\n");
    assert!(violations.contains("MSI and MSI-X are mapped at the same time"), "{violations}");
    assert!(violations.contains("an MSI-X vector at address 0 is mapped as MSI"), "{violations}");
}

#[tokio::test]
async fn handover_of_a_device_that_is_not_ready_is_a_violation() {
    let world = world();
    let host = world.host();
    let (first, second) = (domain(&world).await, domain(&world).await);
    host.hypervisor.iomem_permission(first, NVME_BAR >> 12, 1, true).unwrap();
    assign(&host, first, NVME).unwrap();
    host.hypervisor.deassign_device(first, NVME).unwrap();
    host.pci.unbind(NVME).unwrap();
    assign(&host, second, NVME).unwrap();

    let violations = world.violations();
    for (text, reason) in violations.iter().zip([
        "while dom0's driver nvme holds it",
        "not reset",
        "while Linux may still power it down",
        "while domain 1 may still use its BARs",
    ]) {
        assert!(text.contains(reason), "{text} instead of {reason}");
    }
    assert_eq!(violations.len(), 4, "{violations:?}");
}

#[tokio::test]
async fn reset_between_guests_and_before_dom0_is_what_is_asked_for() {
    let (world, host, first) = with_nvme().await;
    let second = domain(&world).await;
    host.hypervisor.deassign_device(first, NVME).unwrap();
    host.pci.reset(NVME, "flr").unwrap();
    assign(&host, second, NVME).unwrap();
    host.hypervisor.deassign_device(second, NVME).unwrap();
    let before = world.violations();

    host.hypervisor.deassign_device(DomainId::IO, NVME).unwrap();

    assert_eq!(before, Vec::<String>::new());
    assert!(world.violations()[0].contains("given to dom0 with what domain 2 left in it"), "{:?}", world.violations());
}

#[tokio::test]
async fn decoding_that_goes_off_while_a_guest_has_the_device_is_a_violation() {
    let (world, host, _) = with_nvme().await;

    host.pci.open_config(NVME).unwrap().write(Access::COMMAND, 0x0400).unwrap();

    assert!(world.violations()[0].contains("decode bits 0x2 switched off"), "{:?}", world.violations());
}

#[tokio::test]
async fn driver_of_dom0_on_a_guests_device_is_a_violation() {
    let (world, host, _) = with_nvme().await;
    host.pci.set_driver_override(NVME, None).unwrap();

    host.pci.probe(NVME).unwrap();

    assert!(world.violations()[0].contains("a driver of dom0 bound"), "{:?}", world.violations());
}

#[tokio::test]
async fn interrupts_and_dma_reach_what_the_registers_and_xen_allow() {
    let (world, host, domain) = with_nvme().await;
    let config = host.pci.open_config(NVME).unwrap();
    let control = Access::word(0x52);
    let raise = |number| world.raise(NVME, Interrupt::Msix(number)).map_err(|lost| lost.reason);
    let pirq = host.hypervisor.map_msi(domain, NVME, entry(3)).unwrap();

    assert_eq!(raise(3), Err("MSI-X is not enabled"));
    config.write(control, 0xc000).unwrap();
    assert_eq!(raise(3), Err("MSI-X is masked for the whole function"));
    config.write(control, 0x8000).unwrap();
    assert_eq!(raise(3), Err("the device is not a bus master"));
    assert_eq!(world.dma(NVME).map_err(|lost| lost.reason), Err("the device is not a bus master"));
    config.write(Access::COMMAND, 0x0006).unwrap();
    assert_eq!(raise(3), Ok((domain, pirq)));
    assert_eq!(raise(2), Err("the vector is not mapped"));
    assert_eq!(world.dma(NVME), Ok(domain));
    assert_eq!(world.raise(NVME, Interrupt::Line).map_err(|lost| lost.reason), Err("INTx is disabled"));
    assert_eq!(world.raise(NVME, Interrupt::Msi).map_err(|lost| lost.reason), Err("MSI is not enabled"));
    config.write(Access::word(0x44), 3).unwrap();
    assert_eq!(raise(3), Err("the device is not in D0"));
    world.set_responding(NVME, false);
    assert_eq!(raise(3), Err("the device is gone"));
    world.set_responding(NVME, true);
    host.hypervisor.deassign_device(domain, NVME).unwrap();
    config.write(Access::word(0x44), 0).unwrap();
    config.write(Access::COMMAND, 0x0006).unwrap();
    assert_eq!(world.dma(NVME), Ok(DomainId::IO));
}
