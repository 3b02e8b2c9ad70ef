use xenpcid_address::{DomainId, Sbdf};

use crate::HostError;

/// A physical interrupt in the numbering of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pirq(pub u32);

/// What Xen says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HypervisorInfo {
    /// Major and minor version, such as (4, 17).
    pub version: (u16, u16),
    /// An IOMMU is enabled (`XEN_SYSCTL_PHYSCAP_directio`): devices can be assigned.
    pub iommu: bool,
}

/// What Xen says of a domain (`XEN_DOMCTL_getdomaininfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// The domain.
    pub domain: DomainId,
    /// The UUID that the toolstack gave it.
    pub uuid: [u8; 16],
    /// Being destroyed: it will run no more, and what it held goes back.
    pub dying: bool,
    /// Stopped by itself (power off, reboot, crash) and kept by the toolstack for now.
    pub shutdown: bool,
    /// Hardware virtualised, so that it has no PV frontend for PCI.
    pub hvm: bool,
}

/// Which interrupt of a function [`Hypervisor::map_msi`] maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsiVector {
    /// The one MSI vector. (Multi-vector MSI is never used, XSA-458.)
    Msi,
    /// One MSI-X entry.
    Msix {
        /// Index in the table.
        entry: u16,
        /// Address of the BAR that holds the table, without the table's offset in it.
        table_bar: u64,
    },
}

/// What to do with a device that firmware gave a reserved memory region (RMRR, unity mapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedMemory {
    /// Refuse to assign it.
    Refuse,
    /// Assign it all the same (`XEN_DOMCTL_DEV_RDM_RELAXED`); right for quarantine, which runs nothing.
    Relaxed,
}

/// Domctls and physdev operations (xen/include/public/domctl.h and physdev.h).
///
/// A guest's interrupts, memory and DMA need all of these, in this order:
/// [`prepare_msix`](Self::prepare_msix) while dom0 or quarantine owns the device, permissions, then
/// [`assign_device`](Self::assign_device), then [`map_msi`](Self::map_msi).
pub trait Hypervisor: Send + Sync {
    /// Version and capabilities.
    fn info(&self) -> Result<HypervisorInfo, HostError>;

    /// One domain; `None` if Xen has no domain of that number.
    fn domain(&self, domain: DomainId) -> Result<Option<DomainInfo>, HostError>;

    /// All domains, in ascending order.
    fn domains(&self) -> Result<Vec<DomainInfo>, HostError>;

    /// Whether `function` could be assigned: `EOPNOTSUPP` if the domain has no IOMMU, `EINVAL` if the function is unknown to
    /// Xen or another guest has it.
    fn test_assign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError>;

    /// Gives the function's DMA to a domain. [`DomainId::IO`] is quarantine. `EBUSY` if another guest has it, or if MSI-X
    /// Function Mask is set; `ENODEV` if Xen does not know it; `EOPNOTSUPP` without IOMMU.
    fn assign_device(&self, domain: DomainId, function: Sbdf, reserved: ReservedMemory) -> Result<(), HostError>;

    /// Takes it back: from a guest into quarantine, from quarantine to dom0. `ENODEV` if that domain does not have it.
    fn deassign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError>;

    /// Allows or forbids mapping of machine frames (4 KiB each).
    fn iomem_permission(&self, domain: DomainId, first_frame: u64, frames: u64, allow: bool) -> Result<(), HostError>;

    /// Allows or forbids I/O ports.
    fn ioport_permission(&self, domain: DomainId, first_port: u32, ports: u32, allow: bool) -> Result<(), HostError>;

    /// Allows or forbids an interrupt, named by the pirq that **dom0** has for it; `EPERM` if dom0 has none.
    fn irq_permission(&self, domain: DomainId, pirq: Pirq, allow: bool) -> Result<(), HostError>;

    /// Gives a domain the pirq of the same number for a GSI (an INTx line).
    fn map_gsi(&self, domain: DomainId, gsi: u32) -> Result<Pirq, HostError>;

    /// Gives a domain a new pirq for an MSI or MSI-X vector of a function that is assigned to it. Xen writes address, data and
    /// mask; the enable bit is the caller's to write. `ENODATA` without [`prepare_msix`](Self::prepare_msix), `ENXIO` if memory
    /// decoding is off, `ENODEV` if the domain does not have the function, `ENOSPC` if its pirqs are used up.
    fn map_msi(&self, domain: DomainId, function: Sbdf, vector: MsiVector) -> Result<Pirq, HostError>;

    /// Takes a pirq back. `ESRCH` once the domain is gone, `EINVAL` if it is not mapped.
    fn unmap_pirq(&self, domain: DomainId, pirq: Pirq) -> Result<(), HostError>;

    /// Promises Xen that the BARs stay where they are, so that it protects the MSI-X table. To be called only for a function
    /// **with** an MSI-X capability (Xen does not check and may crash), with memory decoding on, before a guest owns it. `EBUSY`
    /// if done already, `ENXIO` if memory is not decoded.
    fn prepare_msix(&self, function: Sbdf) -> Result<(), HostError>;

    /// Ends that promise. `EBUSY` while vectors are mapped.
    fn release_msix(&self, function: Sbdf) -> Result<(), HostError>;
}
