//! Xen through libxenctrl (domctls) and `/dev/xen/privcmd` (physdev operations).
//!
//! Domctls change with each release of Xen and libxenctrl is the boundary that Xen supports for them. Physdev operations are a
//! stable interface that libxenctrl covers only in part: no prepare_msix, and before 4.19 only segment 0.

mod domctl;
mod physdev;

use xenpcid_address::{DomainId, Sbdf};

use crate::{
    DomainInfo, HostError, Hypervisor, HypervisorInfo, InterruptRoute, MsiVector, Pirq, ReservedMemory, Vcpu,
    interrupt_routes,
};
use domctl::Libxenctrl;
use physdev::Physdev;

/// The hypervisor below this dom0.
pub struct Xen {
    domctl: Libxenctrl,
    physdev: Physdev,
}

impl Xen {
    /// Opens libxenctrl and the privileged command device.
    ///
    /// # Errors
    /// If this is not dom0, or not root.
    pub fn open() -> Result<Self, HostError> {
        Ok(Self { domctl: Libxenctrl::open()?, physdev: Physdev::open()? })
    }
}

impl Hypervisor for Xen {
    fn info(&self) -> Result<HypervisorInfo, HostError> {
        self.domctl.info()
    }

    fn domain(&self, domain: DomainId) -> Result<Option<DomainInfo>, HostError> {
        let found = self.domctl.domains(domain, 1)?;
        Ok(found.into_iter().find(|info| info.domain == domain))
    }

    fn domains(&self) -> Result<Vec<DomainInfo>, HostError> {
        self.domctl.domains(DomainId::DOM0, usize::from(DomainId::FIRST_RESERVED.0))
    }

    fn pause(&self, domain: DomainId) -> Result<(), HostError> {
        self.domctl.pause(domain)
    }

    fn unpause(&self, domain: DomainId) -> Result<(), HostError> {
        self.domctl.unpause(domain)
    }

    fn vcpus(&self, domain: DomainId) -> Result<Vec<Vcpu>, HostError> {
        self.domctl.vcpus(domain)
    }

    fn interrupts(&self) -> Result<Vec<InterruptRoute>, HostError> {
        Ok(interrupt_routes::parse(&self.domctl.debug_key(interrupt_routes::DEBUG_KEY)?))
    }

    fn test_assign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        self.domctl.test_assign_device(domain, function)
    }

    fn assign_device(&self, domain: DomainId, function: Sbdf, reserved: ReservedMemory) -> Result<(), HostError> {
        self.domctl.assign_device(domain, function, reserved)
    }

    fn deassign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        self.domctl.deassign_device(domain, function)
    }

    fn iomem_permission(&self, domain: DomainId, first_frame: u64, frames: u64, allow: bool) -> Result<(), HostError> {
        self.domctl.iomem_permission(domain, first_frame, frames, allow)
    }

    fn ioport_permission(&self, domain: DomainId, first_port: u32, ports: u32, allow: bool) -> Result<(), HostError> {
        self.domctl.ioport_permission(domain, first_port, ports, allow)
    }

    fn irq_permission(&self, domain: DomainId, pirq: Pirq, allow: bool) -> Result<(), HostError> {
        self.domctl.irq_permission(domain, pirq, allow)
    }

    fn map_gsi(&self, domain: DomainId, gsi: u32) -> Result<Pirq, HostError> {
        self.physdev.map_gsi(domain, gsi)
    }

    fn map_msi(&self, domain: DomainId, function: Sbdf, vector: MsiVector) -> Result<Pirq, HostError> {
        self.physdev.map_msi(domain, function, vector)
    }

    fn unmap_pirq(&self, domain: DomainId, pirq: Pirq) -> Result<(), HostError> {
        self.physdev.unmap_pirq(domain, pirq)
    }

    fn prepare_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.physdev.prepare_msix(function)
    }

    fn release_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.physdev.release_msix(function)
    }
}
