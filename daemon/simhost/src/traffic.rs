//! What a device and a guest reach, as the hardware and Xen are set up now.

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{MsiVector, Pirq};

use crate::World;
use crate::domain::Source;
use crate::function::{COMMAND_INTX_DISABLE, COMMAND_MASTER, MSI_ENABLE, MSIX_ENABLE, MSIX_FUNCTION_MASK};

/// An interrupt that a device raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Its INTx line.
    Line,
    /// Its MSI vector.
    Msi,
    /// This entry of its MSI-X table.
    Msix(u16),
}

/// Why something that a device did reached nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{function}: {reason}")]
pub struct Unreachable {
    /// The device.
    pub function: Sbdf,
    /// What stands in the way.
    pub reason: &'static str,
}

impl World {
    /// Has the device raise an interrupt: the domain that gets it, and the pirq by which it knows it.
    ///
    /// # Errors
    /// What keeps the interrupt from being delivered.
    pub fn raise(&self, function: Sbdf, interrupt: Interrupt) -> Result<(DomainId, Pirq), Unreachable> {
        let lost = |reason| Err(Unreachable { function, reason });
        let state = self.lock();
        let Some(device) = state.functions.get(&function).filter(|device| device.responding) else {
            return lost("the device is gone");
        };
        if device.registers.power_state() != 0 {
            return lost("the device is not in D0");
        }
        let (msi, msix) = (device.msi_control() & MSI_ENABLE != 0, device.msix_control() & MSIX_ENABLE != 0);
        let vector = match interrupt {
            Interrupt::Line => {
                let Some(gsi) = device.gsi.filter(|_| device.has_intx()) else { return lost("it has no INTx line") };
                if msi || msix || device.command() & COMMAND_INTX_DISABLE != 0 {
                    return lost("INTx is disabled");
                }
                let pirq = Pirq(gsi);
                if !state.dom0_pirqs.contains(&pirq) {
                    return lost("nobody has set up its INTx line");
                }
                let guest = state.domains.values().find(|domain| domain.pirqs.get(&pirq) == Some(&Source::Gsi));
                return Ok((guest.map_or(DomainId::DOM0, |guest| guest.id), pirq));
            }
            Interrupt::Msi if !msi => return lost("MSI is not enabled"),
            Interrupt::Msi => MsiVector::Msi,
            Interrupt::Msix(_) if !msix => return lost("MSI-X is not enabled"),
            Interrupt::Msix(_) if device.msix_control() & MSIX_FUNCTION_MASK != 0 => {
                return lost("MSI-X is masked for the whole function");
            }
            Interrupt::Msix(entry) => MsiVector::Msix {
                entry,
                table_bar: device.msix.and_then(|msix| device.resources.get(msix.table_bar)).map_or(0, |bar| bar.start),
            },
        };
        // A message is a write to memory by the device.
        if device.command() & COMMAND_MASTER == 0 {
            return lost("the device is not a bus master");
        }
        if !device.programmed {
            return lost("a reset has cleared the vector's address");
        }
        match device.vectors.iter().find(|(_, mapped)| **mapped == vector) {
            Some((target, _)) => Ok(*target),
            None => lost("the vector is not mapped"),
        }
    }

    /// Has the device read or write memory: the domain whose memory that is. [`DomainId::IO`] means that it reaches nothing.
    ///
    /// # Errors
    /// What keeps the device from doing so.
    pub fn dma(&self, function: Sbdf) -> Result<DomainId, Unreachable> {
        let state = self.lock();
        let lost = |reason| Err(Unreachable { function, reason });
        match state.functions.get(&function).filter(|device| device.responding) {
            None => lost("the device is gone"),
            Some(device) if device.registers.power_state() != 0 => lost("the device is not in D0"),
            Some(device) if device.command() & COMMAND_MASTER == 0 => lost("the device is not a bus master"),
            Some(device) => Ok(device.owner),
        }
    }

    /// Whether the domain may map the machine frame (4 KiB).
    #[must_use]
    pub fn may_map(&self, domain: DomainId, frame: u64) -> bool {
        self.lock().domains.get(&domain).is_some_and(|domain| domain.frames.contains(&frame))
    }

    /// Whether the domain may use the I/O port.
    #[must_use]
    pub fn may_use_port(&self, domain: DomainId, port: u32) -> bool {
        self.lock().domains.get(&domain).is_some_and(|domain| domain.ports.contains(&port))
    }
}
