use std::collections::BTreeSet;

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
    /// Xen's command line.
    pub command_line: String,
}

impl HypervisorInfo {
    /// Pirqs that a guest can have beside those of the INTx lines: one for each MSI and MSI-X vector. It is the first number of
    /// `extra_guest_irqs=` (docs/misc/xen-command-line of Xen), and 32 without that.
    #[must_use]
    pub fn extra_guest_irqs(&self) -> u32 {
        const DEFAULT: u32 = 32;
        let values = self.command_line.split_whitespace().filter_map(|word| word.strip_prefix("extra_guest_irqs="));
        // Xen goes by the last one that says something about guests; the number after a comma is dom0's.
        values.filter_map(|value| number(value.split(',').next()?)).next_back().unwrap_or(DEFAULT)
    }
}

/// A number as Xen's command line has it: decimal, hexadecimal with 0x, octal with 0.
fn number(text: &str) -> Option<u32> {
    match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
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
    /// Why it stopped, if it stopped by itself and is kept by the toolstack for now.
    pub shutdown: Option<ShutdownReason>,
    /// Somebody holds it: it runs again when everybody who paused it has unpaused it.
    pub paused: bool,
    /// Hardware virtualised, so that it has no PV frontend for PCI.
    pub hvm: bool,
}

/// Why a domain stopped (`SHUTDOWN_*` of xen/include/public/sched.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It powered off.
    PowerOff,
    /// It wants to be started again.
    Reboot,
    /// It was saved.
    Suspend,
    /// It crashed, by itself or because Xen made it.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// It wants to be started again in the same domain.
    SoftReset,
    /// A number that Xen gives no meaning.
    Unknown(u8),
}

impl ShutdownReason {
    /// The reason of that number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::PowerOff,
            1 => Self::Reboot,
            2 => Self::Suspend,
            3 => Self::Crash,
            4 => Self::Watchdog,
            5 => Self::SoftReset,
            other => Self::Unknown(other),
        }
    }
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

/// A CPU of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// Its number in the domain.
    pub id: u32,
    /// The domain uses it.
    pub online: bool,
    /// The CPU of the host on which it runs, or ran last.
    pub cpu: u32,
}

/// Where Xen sends an interrupt of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptRoute {
    /// Xen's number of it; of an INTx line its GSI.
    pub irq: u32,
    /// The vector with which it comes to a CPU.
    pub vector: u8,
    /// What it comes from, in Xen's words: `PCI-MSI`, `PCI-MSI/-X`, `IO-APIC-level`, ...
    pub kind: String,
    /// The host's CPUs to which it is delivered.
    pub cpus: BTreeSet<u32>,
    /// The domains that handle it, each with its pirq.
    pub bound: Vec<(DomainId, Pirq)>,
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

    /// Keeps a domain from running until it is unpaused as often as it was paused. A toolstack pauses, too: a new domain is paused
    /// once until the toolstack has made it. `EINVAL` for dom0, `EOVERFLOW` after 255 times, `ESRCH` if there is no such domain.
    fn pause(&self, domain: DomainId) -> Result<(), HostError>;

    /// Takes back one [`pause`](Self::pause). `EINVAL` if the domain is not paused, `ESRCH` if there is no such domain.
    fn unpause(&self, domain: DomainId) -> Result<(), HostError>;

    /// The CPUs of a domain, in ascending order. `ESRCH` if there is no such domain.
    fn vcpus(&self, domain: DomainId) -> Result<Vec<Vcpu>, HostError>;

    /// Where all interrupts of the host go. Takes as long as Xen needs to write a hundred lines to its console; they are in its log
    /// afterwards, as by `xl debug-keys i`.
    fn interrupts(&self) -> Result<Vec<InterruptRoute>, HostError>;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn info(command_line: &str) -> HypervisorInfo {
        HypervisorInfo { version: (4, 17), iommu: true, command_line: command_line.to_owned() }
    }

    #[test]
    fn guests_have_the_interrupts_that_the_command_line_gives_them() {
        assert_eq!(info("placeholder dom0_mem=2G").extra_guest_irqs(), 32);
        assert_eq!(info("extra_guest_irqs=64 iommu=on").extra_guest_irqs(), 64);
        assert_eq!(info("extra_guest_irqs=0x80,512").extra_guest_irqs(), 128);
        assert_eq!(info("extra_guest_irqs=,512").extra_guest_irqs(), 32);
        assert_eq!(info("extra_guest_irqs=64 extra_guest_irqs=96").extra_guest_irqs(), 96);
        assert_eq!(info("extra_guest_irqs=0").extra_guest_irqs(), 0);
    }
}
