//! What has been done to the host for a device, so that it can be undone.
//!
//! Each [`Step`] is recorded before it is carried out and undone in reverse order. Rollback of a half-made attachment, the end
//! of a guest and the return of a device to dom0 are all the same code.

use std::fmt;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Errno, Host, HostError, Pirq, PowerPolicy, ReservedMemory};

/// Driver name that keeps all other drivers away; the driver itself does nothing and need not exist.
const STUB_DRIVER: &str = "pci-stub";

/// One thing that is done to the host and can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Taken from the driver of dom0 that held it, if any, and kept from all others.
    TakenFromDriver {
        /// The device.
        function: Sbdf,
        /// Who held it.
        driver: Option<String>,
        /// Who alone could bind it.
        driver_override: Option<String>,
    },
    /// Kept in D0.
    PowerPinned {
        /// The device.
        function: Sbdf,
        /// How its power was managed.
        before: PowerPolicy,
    },
    /// Decodes memory and I/O, has its INTx routed.
    Enabled {
        /// The device.
        function: Sbdf,
    },
    /// Xen knows its MSI-X table.
    MsixPrepared {
        /// The device, which must have an MSI-X capability.
        function: Sbdf,
    },
    /// Its DMA reaches nothing.
    Quarantined {
        /// The device.
        function: Sbdf,
    },
    /// Held by pci-stub, if that driver is loaded, so that Linux leaves its power state alone.
    StubBound {
        /// The device.
        function: Sbdf,
    },
    /// A guest may map machine frames.
    MemoryPermitted {
        /// The guest.
        domain: DomainId,
        /// First frame of 4 KiB.
        first_frame: u64,
        /// Number of frames.
        frames: u64,
    },
    /// A guest may use I/O ports.
    PortsPermitted {
        /// The guest.
        domain: DomainId,
        /// First port.
        first_port: u32,
        /// Number of ports.
        ports: u32,
    },
    /// A guest has the pirq of an INTx line.
    LineMapped {
        /// The guest.
        domain: DomainId,
        /// The line, and the number of its pirq.
        gsi: u32,
    },
    /// A guest may use that pirq.
    LinePermitted {
        /// The guest.
        domain: DomainId,
        /// The line, and the number of its pirq.
        gsi: u32,
    },
    /// A guest's device: its DMA reaches that guest's memory.
    Assigned {
        /// The guest.
        domain: DomainId,
        /// The device.
        function: Sbdf,
        /// What becomes of memory that firmware reserved for it.
        reserved: ReservedMemory,
    },
    /// A guest has the pirq of an MSI or MSI-X vector.
    VectorMapped {
        /// The guest.
        domain: DomainId,
        /// The pirq.
        pirq: Pirq,
    },
}

impl Step {
    fn apply(&self, host: &Host) -> Result<(), HostError> {
        match self {
            Self::TakenFromDriver { function, .. } => {
                host.pci.set_driver_override(*function, Some(STUB_DRIVER))?;
                host.pci.unbind(*function)
            }
            Self::PowerPinned { function, before } => host.pci.set_power_policy(*function, before.pinned()),
            Self::Enabled { function } => host.pci.set_enabled(*function, true),
            // Prepared by a daemon before this one, which did not get to release it. The promise stands.
            Self::MsixPrepared { function } => except(host.hypervisor.prepare_msix(*function), &[Errno::EBUSY]),
            Self::Quarantined { function } => {
                host.hypervisor.assign_device(DomainId::IO, *function, ReservedMemory::Relaxed)
            }
            Self::StubBound { function } => host.pci.probe(*function),
            Self::MemoryPermitted { domain, first_frame, frames } => {
                host.hypervisor.iomem_permission(*domain, *first_frame, *frames, true)
            }
            Self::PortsPermitted { domain, first_port, ports } => {
                host.hypervisor.ioport_permission(*domain, *first_port, *ports, true)
            }
            Self::LineMapped { domain, gsi } => host.hypervisor.map_gsi(*domain, *gsi).map(drop),
            Self::LinePermitted { domain, gsi } => host.hypervisor.irq_permission(*domain, Pirq(*gsi), true),
            Self::Assigned { domain, function, reserved } => {
                host.hypervisor.assign_device(*domain, *function, *reserved)
            }
            // The pirq is Xen's choice, so it is known only once it is mapped: see `Ledger::record`.
            Self::VectorMapped { .. } => Ok(()),
        }
    }

    /// Undoing what is not there any more is success: a domain that dies takes its permissions and interrupts with it, and Xen
    /// itself moves its devices into quarantine.
    fn undo(&self, host: &Host) -> Result<(), HostError> {
        const DOMAIN_GONE: &[Errno] = &[Errno::ESRCH];
        const INTERRUPT_GONE: &[Errno] = &[Errno::ESRCH, Errno::EINVAL];
        const DEVICE_GONE: &[Errno] = &[Errno::ESRCH, Errno::ENODEV];
        match self {
            Self::TakenFromDriver { function, driver, driver_override } => {
                host.pci.set_driver_override(*function, driver_override.as_deref())?;
                let Some(driver) = driver else { return Ok(()) };
                host.pci.probe(*function)?;
                if host.pci.describe(*function).is_ok_and(|now| now.driver.is_none()) {
                    tracing::warn!(%function, %driver, "no driver took it back: try `echo {function} > /sys/bus/pci/drivers/{driver}/bind`");
                }
                Ok(())
            }
            Self::PowerPinned { function, before } => host.pci.set_power_policy(*function, *before),
            Self::Enabled { function } => host.pci.set_enabled(*function, false),
            Self::MsixPrepared { function } => host.hypervisor.release_msix(*function),
            Self::Quarantined { function } => host.hypervisor.deassign_device(DomainId::IO, *function),
            Self::StubBound { function } => host.pci.unbind(*function),
            Self::MemoryPermitted { domain, first_frame, frames } => {
                except(host.hypervisor.iomem_permission(*domain, *first_frame, *frames, false), DOMAIN_GONE)
            }
            Self::PortsPermitted { domain, first_port, ports } => {
                except(host.hypervisor.ioport_permission(*domain, *first_port, *ports, false), DOMAIN_GONE)
            }
            Self::LineMapped { domain, gsi } => except(host.hypervisor.unmap_pirq(*domain, Pirq(*gsi)), INTERRUPT_GONE),
            Self::LinePermitted { domain, gsi } => {
                except(host.hypervisor.irq_permission(*domain, Pirq(*gsi), false), INTERRUPT_GONE)
            }
            Self::Assigned { domain, function, .. } => {
                except(host.hypervisor.deassign_device(*domain, *function), DEVICE_GONE)
            }
            Self::VectorMapped { domain, pirq } => except(host.hypervisor.unmap_pirq(*domain, *pirq), INTERRUPT_GONE),
        }
    }
}

fn except(result: Result<(), HostError>, accepted: &[Errno]) -> Result<(), HostError> {
    match result {
        Err(error) if accepted.contains(&error.errno) => Ok(()),
        other => other,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenFromDriver { function, driver: Some(driver), .. } => {
                write!(f, "{function} taken from driver {driver}")
            }
            Self::TakenFromDriver { function, driver: None, .. } => write!(f, "{function} kept from drivers"),
            Self::PowerPinned { function, .. } => write!(f, "{function} kept powered"),
            Self::Enabled { function } => write!(f, "{function} enabled"),
            Self::MsixPrepared { function } => write!(f, "{function} MSI-X table made known to Xen"),
            Self::Quarantined { function } => write!(f, "{function} in quarantine"),
            Self::StubBound { function } => write!(f, "{function} held by {STUB_DRIVER}"),
            Self::MemoryPermitted { domain, first_frame, frames } => {
                write!(f, "domain {domain} may map {frames} frames from {first_frame:#x}")
            }
            Self::PortsPermitted { domain, first_port, ports } => {
                write!(f, "domain {domain} may use {ports} ports from {first_port:#x}")
            }
            Self::LineMapped { domain, gsi } => write!(f, "domain {domain} has the pirq of GSI {gsi}"),
            Self::LinePermitted { domain, gsi } => write!(f, "domain {domain} may use GSI {gsi}"),
            Self::Assigned { domain, function, .. } => write!(f, "{function} assigned to domain {domain}"),
            Self::VectorMapped { domain, pirq } => write!(f, "domain {domain} has pirq {}", pirq.0),
        }
    }
}

/// The steps taken for one device, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    steps: Vec<Step>,
}

impl Ledger {
    /// Records a step and carries it out. If it fails, what it may have done by halves is undone, and only what cannot be
    /// undone stays recorded.
    ///
    /// # Errors
    /// That of the step.
    pub fn carry_out(&mut self, host: &Host, step: Step) -> Result<(), HostError> {
        self.steps.push(step.clone());
        tracing::debug!(%step, "carrying out");
        step.apply(host).inspect_err(|_| {
            // Steps of two actions can be done by halves.
            if matches!(step, Step::TakenFromDriver { .. } | Step::PowerPinned { .. }) && step.undo(host).is_err() {
                return;
            }
            self.steps.pop();
        })
    }

    /// Records what a hypercall has just done with a result that only it could know.
    pub fn record(&mut self, step: Step) {
        tracing::debug!(%step, "recorded");
        self.steps.push(step);
    }

    /// Undoes everything, last step first. What cannot be undone stays recorded, and a device that is not whole again is not
    /// given to a driver of dom0.
    ///
    /// # Errors
    /// The failures, none of which kept the other steps from being undone.
    pub fn undo(&mut self, host: &Host) -> Result<(), Vec<HostError>> {
        let mut stuck = Vec::new();
        let mut errors = Vec::new();
        while let Some(step) = self.steps.pop() {
            if !stuck.is_empty() && matches!(step, Step::TakenFromDriver { .. }) {
                stuck.push(step);
                continue;
            }
            tracing::debug!(%step, "undoing");
            if let Err(error) = step.undo(host) {
                errors.push(error);
                stuck.push(step);
            }
        }
        stuck.reverse();
        self.steps = stuck;
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Takes over the steps of another ledger, as the later ones.
    pub fn append(&mut self, other: &mut Self) {
        self.steps.append(&mut other.steps);
    }

    /// Undone, a device that was taken from its driver stays without one.
    pub fn forget_driver(&mut self) {
        for step in &mut self.steps {
            if let Step::TakenFromDriver { driver, .. } = step {
                *driver = None;
            }
        }
    }

    /// What is done and not undone, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
