//! Xen's rules, each with its errno.

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Errno, Host, HostError, MsiVector, Pirq, ReservedMemory, ShutdownReason, Vcpu};
use xenpcid_policy::Access;
use xenpcid_simhost::{DomainOptions, HostOptions, Interrupt, SimDevice, World};

use super::{ABSENT, NIC, NVME, OLD_NIC, PHYSICAL, VIRTUAL, world};

const NOBODY: DomainId = DomainId(99);
pub const NVME_BAR: u64 = 0x38_0000_0000;
/// GSI of the conventional NIC.
const LINE: u32 = 23;

pub fn errno<T>(result: Result<T, HostError>) -> Option<Errno> {
    result.err().map(|error| error.errno)
}

pub async fn domain(world: &World) -> DomainId {
    world.create_domain("web1", [1; 16], DomainOptions::default()).await.unwrap()
}

pub fn entry(entry: u16) -> MsiVector {
    MsiVector::Msix { entry, table_bar: NVME_BAR }
}

pub fn assign(host: &Host, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
    host.hypervisor.assign_device(domain, function, ReservedMemory::Refuse)
}

/// Takes a function from its driver as a claim does.
pub fn claim(host: &Host, function: Sbdf) {
    host.pci.set_driver_override(function, Some("pci-stub")).unwrap();
    host.pci.unbind(function).unwrap();
    host.pci.set_power_policy(function, crate::PINNED).unwrap();
    host.pci.set_enabled(function, true).unwrap();
}

/// A host whose NVMe controller is prepared and given to the domain, with all interrupts that it may use enabled.
pub async fn with_nvme() -> (World, Host, DomainId) {
    let world = world();
    let host = world.host();
    let domain = domain(&world).await;
    claim(&host, NVME);
    host.hypervisor.prepare_msix(NVME).unwrap();
    assign(&host, domain, NVME).unwrap();
    (world, host, domain)
}

#[test]
fn host_describes_itself() {
    let with = World::new().host().hypervisor.info().unwrap();
    let without = World::with_options(HostOptions { iommu: false, ..HostOptions::default() }).host();

    assert_eq!((with.version, with.iommu), ((4, 17), true));
    assert!(!without.hypervisor.info().unwrap().iommu);
    assert_eq!(errno(without.hypervisor.test_assign_device(DomainId::INVALID, NIC)), Some(Errno::EOPNOTSUPP));
}

#[tokio::test]
async fn domains_are_listed_with_what_the_toolstack_said() {
    let world = world();
    let options = DomainOptions { hvm: true, ..DomainOptions::default() };
    let domain = world.create_domain("web1", [7; 16], options).await.unwrap();
    let hypervisor = world.host().hypervisor;

    world.shutdown_domain(domain);

    let info = hypervisor.domain(domain).unwrap().unwrap();
    assert_eq!((info.uuid, info.hvm, info.dying), ([7; 16], true, false));
    assert_eq!((info.shutdown, info.paused), (Some(ShutdownReason::PowerOff), false));
    let listed: Vec<_> = hypervisor.domains().unwrap().into_iter().map(|info| info.domain).collect();
    assert_eq!(listed, [DomainId::DOM0, domain]);
    assert_eq!(hypervisor.domain(NOBODY).unwrap(), None);
}

#[tokio::test]
async fn domain_that_does_not_exist_is_esrch_everywhere() {
    let hypervisor = world().host().hypervisor;

    for refused in [
        errno(hypervisor.test_assign_device(NOBODY, NIC)),
        errno(hypervisor.assign_device(NOBODY, NIC, ReservedMemory::Refuse)),
        errno(hypervisor.deassign_device(NOBODY, NIC)),
        errno(hypervisor.iomem_permission(NOBODY, 1, 1, true)),
        errno(hypervisor.ioport_permission(NOBODY, 1, 1, true)),
        errno(hypervisor.irq_permission(NOBODY, Pirq(LINE), true)),
        errno(hypervisor.map_gsi(NOBODY, LINE)),
        errno(hypervisor.map_msi(NOBODY, NIC, MsiVector::Msi)),
        errno(hypervisor.unmap_pirq(NOBODY, Pirq(LINE))),
    ] {
        assert_eq!(refused, Some(Errno::ESRCH));
    }
}

#[tokio::test]
async fn assignment_goes_from_dom0_or_quarantine_to_one_guest_and_back() {
    let world = world();
    let host = world.host();
    let (first, second) = (domain(&world).await, domain(&world).await);
    claim(&host, NVME);
    let deassign = |domain| host.hypervisor.deassign_device(domain, NVME);
    let test = |domain| errno(host.hypervisor.test_assign_device(domain, NVME));

    assert_eq!((test(first), test(DomainId::INVALID)), (None, None));
    assert_eq!(errno(deassign(DomainId::IO)), Some(Errno::ENODEV));
    assign(&host, DomainId::IO, NVME).unwrap();
    assign(&host, DomainId::IO, NVME).unwrap();
    assign(&host, first, NVME).unwrap();
    assert_eq!(world.owner(NVME), Some(first));
    assert_eq!((test(second), test(DomainId::INVALID)), (Some(Errno::EINVAL), Some(Errno::EINVAL)));
    assert_eq!(errno(assign(&host, second, NVME)), Some(Errno::EBUSY));
    assert_eq!(errno(assign(&host, DomainId::IO, NVME)), Some(Errno::EBUSY));
    assert_eq!(errno(deassign(second)), Some(Errno::ENODEV));
    deassign(first).unwrap();
    assert_eq!(world.owner(NVME), Some(DomainId::IO));
    deassign(DomainId::IO).unwrap();
    assert_eq!(world.owner(NVME), Some(DomainId::DOM0));
}

#[tokio::test]
async fn assignment_is_refused_with_the_errno_of_its_reason() {
    let world = world();
    world.add_device(SimDevice::nvme(ABSENT).with_reserved_memory());
    let host = world.host();
    let domain = domain(&world).await;
    let plain = world.create_domain("plain", [2; 16], DomainOptions { iommu: false, hvm: false }).await.unwrap();
    let unknown = Sbdf::from_devfn(0, 0xff, 0);
    host.pci.open_config(NVME).unwrap().write(Access::word(0x52), 0x4000).unwrap();

    assert_eq!(errno(assign(&host, domain, unknown)), Some(Errno::ENODEV));
    assert_eq!(errno(host.hypervisor.test_assign_device(domain, unknown)), Some(Errno::EINVAL));
    assert_eq!(errno(assign(&host, plain, NIC)), Some(Errno::EOPNOTSUPP));
    assert_eq!(errno(host.hypervisor.test_assign_device(plain, NIC)), Some(Errno::EOPNOTSUPP));
    assert_eq!(errno(host.hypervisor.deassign_device(plain, NIC)), Some(Errno::EINVAL));
    assert_eq!(errno(assign(&host, DomainId::DOM0, NIC)), Some(Errno::EINVAL));
    assert_eq!(errno(host.hypervisor.deassign_device(DomainId::DOM0, NIC)), Some(Errno::EINVAL));
    assert_eq!(errno(assign(&host, domain, NVME)), Some(Errno::EBUSY), "MSI-X Function Mask");
    assert_eq!(errno(assign(&host, domain, ABSENT)), Some(Errno::EPERM), "reserved memory");
    assert_eq!(errno(host.hypervisor.assign_device(domain, ABSENT, ReservedMemory::Relaxed)), None);
}

#[tokio::test]
async fn dying_domain_is_given_nothing() {
    let (world, host, domain) = with_nvme().await;
    let ring = world.open_ring(domain, std::sync::Arc::new(pcifront_shim::SharedPage::zeroed())).unwrap();
    let _held = host.grants.map(domain, ring.reference).unwrap();

    world.destroy_domain(domain).await.unwrap();

    assert_eq!(errno(assign(&host, domain, NIC)), Some(Errno::EINVAL));
    assert_eq!(errno(host.hypervisor.map_msi(domain, NVME, entry(0))), Some(Errno::ENODEV));
    assert_eq!(world.owner(NVME), Some(DomainId::IO));
}

#[tokio::test]
async fn permissions_are_ranges_that_add_up() {
    let world = world();
    let hypervisor = world.host().hypervisor;
    let domain = domain(&world).await;

    hypervisor.iomem_permission(domain, 0x100, 0x10, true).unwrap();
    hypervisor.iomem_permission(domain, 0x104, 2, false).unwrap();
    hypervisor.iomem_permission(domain, 0x900, 1, false).unwrap();
    hypervisor.ioport_permission(domain, 0xc000, 0x40, true).unwrap();

    let allowed = [0xff, 0x100, 0x103, 0x104, 0x105, 0x106, 0x10f, 0x110].map(|frame| world.may_map(domain, frame));
    assert_eq!(allowed, [false, true, true, false, false, true, true, false]);
    assert_eq!(
        [0xbfff, 0xc000, 0xc03f, 0xc040].map(|port| world.may_use_port(domain, port)),
        [false, true, true, false]
    );
}

#[tokio::test]
async fn ranges_that_are_empty_or_wrap_or_do_not_exist_are_einval() {
    let world = world();
    let hypervisor = world.host().hypervisor;
    let domain = domain(&world).await;

    for (first, frames) in [(1, 0), (u64::MAX, 2), (1 << 40, 1)] {
        assert_eq!(errno(hypervisor.iomem_permission(domain, first, frames, true)), Some(Errno::EINVAL));
    }
    for (first, ports) in [(1, 0), (u32::MAX, 2), (0xffff, 2)] {
        assert_eq!(errno(hypervisor.ioport_permission(domain, first, ports, true)), Some(Errno::EINVAL));
    }
}

#[tokio::test]
async fn interrupt_that_dom0_does_not_have_cannot_be_permitted() {
    let world = World::new();
    world.add_device(SimDevice::e1000(OLD_NIC).without_driver());
    let host = world.host();
    let domain = domain(&world).await;
    let permit = |pirq| errno(host.hypervisor.irq_permission(domain, Pirq(pirq), true));

    let before = permit(LINE);
    host.pci.set_enabled(OLD_NIC, true).unwrap();

    assert_eq!((before, permit(LINE)), (Some(Errno::EPERM), None));
    assert_eq!(permit(40), Some(Errno::EPERM));
    assert_eq!(permit(4000), Some(Errno::EINVAL));
}

#[tokio::test]
async fn gsi_is_mapped_to_the_pirq_of_its_number_as_often_as_one_likes() {
    let world = world();
    let hypervisor = world.host().hypervisor;
    let domain = domain(&world).await;

    assert_eq!(hypervisor.map_gsi(domain, LINE).unwrap(), Pirq(LINE));
    assert_eq!(hypervisor.map_gsi(domain, LINE).unwrap(), Pirq(LINE));
    assert_eq!(errno(hypervisor.map_gsi(domain, 24)), Some(Errno::EINVAL));
    assert_eq!(world.raise(OLD_NIC, Interrupt::Line).unwrap(), (domain, Pirq(LINE)));
    hypervisor.unmap_pirq(domain, Pirq(LINE)).unwrap();
    assert_eq!(errno(hypervisor.unmap_pirq(domain, Pirq(LINE))), Some(Errno::EINVAL));
    assert_eq!(world.raise(OLD_NIC, Interrupt::Line).unwrap(), (DomainId::DOM0, Pirq(LINE)));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn gsi_that_dom0_never_set_up_is_mapped_and_is_a_violation() {
    let world = World::new();
    let domain = domain(&world).await;

    assert_eq!(world.host().hypervisor.map_gsi(domain, 5).unwrap(), Pirq(5));

    assert!(world.violations()[0].contains("GSI 5"), "{:?}", world.violations());
}

#[tokio::test]
async fn vectors_are_mapped_from_the_highest_pirq_down_until_none_is_left() {
    let (world, host, domain) = with_nvme().await;
    let map = |number| host.hypervisor.map_msi(domain, NVME, entry(number));

    let pirqs: Vec<_> = (0..32).map(|number| map(number).unwrap().0).collect();

    assert_eq!(pirqs, (24..56).rev().collect::<Vec<_>>());
    assert_eq!(errno(map(32)), Some(Errno::ENOSPC));
    host.hypervisor.unmap_pirq(domain, Pirq(40)).unwrap();
    assert_eq!(map(32).unwrap(), Pirq(40));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn vector_is_refused_with_the_errno_of_its_reason() {
    let (_world, host, domain) = with_nvme().await;
    let map = |function, vector| errno(host.hypervisor.map_msi(domain, function, vector));
    claim(&host, OLD_NIC);
    claim(&host, NIC);
    assign(&host, domain, OLD_NIC).unwrap();
    assign(&host, domain, NIC).unwrap();
    let nic_entry = MsiVector::Msix { entry: 0, table_bar: 0xfebd_4000 };

    assert_eq!(map(PHYSICAL, MsiVector::Msi), Some(Errno::ENODEV), "dom0 has it");
    assert_eq!(map(ABSENT, MsiVector::Msi), Some(Errno::ENODEV));
    assert_eq!(map(OLD_NIC, MsiVector::Msi), Some(Errno::ENODEV), "it has no MSI");
    assert_eq!(map(OLD_NIC, entry(0)), Some(Errno::ENODEV), "it has no MSI-X");
    assert_eq!(map(NVME, entry(65)), Some(Errno::EINVAL));
    assert_eq!(map(NIC, nic_entry), Some(Errno::ENODATA), "not prepared");
    host.pci.open_config(NIC).unwrap().write(Access::COMMAND, 0).unwrap();
    assert_eq!(map(NIC, nic_entry), Some(Errno::ENXIO), "memory is not decoded");
    assert_eq!(map(NIC, MsiVector::Msi), None, "MSI needs no memory of the device");
}

#[tokio::test]
async fn virtual_function_decodes_memory_by_its_physical_function() {
    let world = world();
    let host = world.host();
    let domain = domain(&world).await;
    claim(&host, VIRTUAL);
    let physical = host.pci.open_config(PHYSICAL).unwrap();
    let vector = MsiVector::Msix { entry: 2, table_bar: host.pci.describe(VIRTUAL).unwrap().resources[3].start };
    let command = physical.read(Access::COMMAND).unwrap();

    physical.write(Access::COMMAND, command & !2).unwrap();
    let not_decoded = errno(host.hypervisor.prepare_msix(VIRTUAL));
    physical.write(Access::COMMAND, command).unwrap();
    host.hypervisor.prepare_msix(VIRTUAL).unwrap();
    assign(&host, domain, VIRTUAL).unwrap();
    host.hypervisor.map_msi(domain, VIRTUAL, vector).unwrap();

    assert_eq!(not_decoded, Some(Errno::ENXIO));
    assert_eq!(world.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn preparation_counts_as_one_use_of_the_vectors() {
    let (_world, host, domain) = with_nvme().await;
    let hypervisor = &host.hypervisor;

    assert_eq!(errno(hypervisor.prepare_msix(NVME)), Some(Errno::EBUSY));
    let pirq = hypervisor.map_msi(domain, NVME, entry(0)).unwrap();
    assert_eq!(errno(hypervisor.release_msix(NVME)), Some(Errno::EBUSY));
    hypervisor.unmap_pirq(domain, pirq).unwrap();
    hypervisor.release_msix(NVME).unwrap();
    assert_eq!(errno(hypervisor.release_msix(NVME)), Some(Errno::EBUSY));
    assert_eq!(errno(hypervisor.prepare_msix(ABSENT)), Some(Errno::ENODEV));
    assert_eq!(errno(hypervisor.release_msix(ABSENT)), Some(Errno::ENODEV));
}

#[test]
fn preparation_needs_memory_decoding_and_d0() {
    let world = world();
    let host = world.host();
    let config = host.pci.open_config(NVME).unwrap();
    let command = config.read(Access::COMMAND).unwrap();

    config.write(Access::COMMAND, 0).unwrap();
    let off = errno(host.hypervisor.prepare_msix(NVME));
    config.write(Access::COMMAND, command).unwrap();
    config.write(Access::word(0x44), 3).unwrap();
    let asleep = errno(host.hypervisor.prepare_msix(NVME));
    host.pci.reset(NVME, "flr").unwrap();
    config.write(Access::COMMAND, command).unwrap();

    assert_eq!((off, asleep), (Some(Errno::ENXIO), Some(Errno::ENXIO)));
    assert_eq!(errno(host.hypervisor.prepare_msix(NVME)), None);
}

#[tokio::test]
async fn interrupts_go_where_their_domain_runs_until_they_are_moved() {
    let (world, host, guest) = with_nvme().await;
    let pirq = host.hypervisor.map_msi(guest, NVME, entry(0)).unwrap();
    world.set_vcpus(guest, vec![Vcpu { id: 0, online: true, cpu: 3 }]);
    let route = || {
        let routes = host.hypervisor.interrupts().unwrap();
        routes.into_iter().find(|route| route.bound == [(guest, pirq)]).unwrap()
    };

    let before = route();
    world.move_interrupt(guest, pirq, 1);

    assert_eq!((before.kind.as_str(), before.cpus), ("PCI-MSI/-X", [3].into()));
    assert_eq!(route().cpus, [1].into());
    assert_eq!(host.hypervisor.vcpus(guest).unwrap()[0].cpu, 3);
    assert_eq!(errno(host.hypervisor.vcpus(NOBODY)), Some(Errno::ESRCH));
}
