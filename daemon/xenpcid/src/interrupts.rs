//! MSI and MSI-X of an assigned device.
//!
//! Xen writes addresses, data and masks; the enable bit is ours to write.
//!
//! ```text
//!             enable_msi                    enable_msix
//!   MSI  ◄──────────────────  INTx / none ──────────────────►  MSI-X
//!    │   ──────────────────►              ◄──────────────────    │
//!    │     disable_msi, disable_msix        disable_msi, disable_msix
//!    └──────────────── enable_msix: disable, then enable ────────┘   (and the other way round, and twice the same)
//! ```
//! A guest's disable means "whatever is on", and an enable while enabled replaces: Linux guests since 5.17 send disable_msi for
//! a device with MSI-X, and then enable again.

use std::fmt;

use xenpcid_address::DomainId;
use xenpcid_host::{Errno, Host, HostError, MsiVector, Pirq};
use xenpcid_policy::{InterruptMode, MsixCapability};

use crate::claim::{Claimed, Vector};
use crate::ledger::{Ledger, Step};

/// Command register: INTx Disable.
const COMMAND_INTX_DISABLE: u32 = 0x0400;
/// MSI Message Control: MSI Enable, and Multiple Message Enable, which stays 0: one vector.
const MSI_ENABLE: u32 = 0x0001;
const MSI_MULTIPLE_MESSAGE_ENABLE: u32 = 0x0070;
/// MSI-X Message Control.
const MSIX_ENABLE: u32 = 0x8000;
const MSIX_FUNCTION_MASK: u32 = 0x4000;

/// Why vectors could not be enabled.
#[derive(Debug, thiserror::Error)]
pub enum EnableError {
    /// The device does not have that capability.
    #[error("the device has no {0:?}")]
    NoCapability(InterruptMode),
    /// The guest asked for table entries that do not exist, for the same one twice, or for none.
    #[error("the list of {count} MSI-X entries is not possible: the guest sees a table of {table_size}")]
    Entries {
        /// How many were asked for.
        count: u32,
        /// How many there are.
        table_size: u16,
    },
    /// Xen gives the domain no more than this many interrupts.
    #[error("only {available} of {count} vectors are to be had: raise extra_guest_irqs= on Xen's command line")]
    Exhausted {
        /// How many were asked for.
        count: u32,
        /// How many could be mapped.
        available: u32,
    },
    /// A hypercall or a configuration access failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Xen's number does not fit the protocol's 16 bits.
    #[error("pirq {} does not fit the protocol", .0.0)]
    PirqTooLarge(Pirq),
}

/// The vectors a guest has.
#[derive(Debug, Default)]
pub struct Interrupts {
    mode: InterruptMode,
    vectors: Ledger,
}

impl Interrupts {
    /// What is on.
    #[must_use]
    pub const fn mode(&self) -> InterruptMode {
        self.mode
    }

    /// Enables the one MSI vector and returns its pirq.
    ///
    /// # Errors
    /// Then no interrupt is enabled.
    pub fn enable_msi(&mut self, host: &Host, domain: DomainId, claimed: &Claimed) -> Result<Pirq, EnableError> {
        self.disable(host, claimed)?;
        let control = claimed.capabilities().msi.ok_or(EnableError::NoCapability(InterruptMode::Msi))?.control();
        self.mode = InterruptMode::Msi;
        let enabled = (|| {
            let pirq = host.hypervisor.map_msi(domain, claimed.function(), MsiVector::Msi)?;
            self.vectors.record(Step::VectorMapped { domain, pirq });
            claimed.modify(xenpcid_policy::Access::COMMAND, COMMAND_INTX_DISABLE, COMMAND_INTX_DISABLE)?;
            claimed.modify(control, MSI_ENABLE | MSI_MULTIPLE_MESSAGE_ENABLE, MSI_ENABLE)?;
            claimed.facts().set_vectors_in_use(vec![Vector { mode: InterruptMode::Msi, entry: 0, pirq }]);
            Ok(pirq)
        })();
        self.or_disabled(host, claimed, enabled)
    }

    /// Enables MSI-X entries, by their index in the part of the table that the guest is shown, which has `table_size` entries,
    /// and returns their pirqs in the same order.
    ///
    /// # Errors
    /// Then no interrupt is enabled.
    pub fn enable_msix(
        &mut self,
        host: &Host,
        domain: DomainId,
        claimed: &Claimed,
        table_size: u16,
        count: u32,
        entries: &[u16],
    ) -> Result<Vec<u16>, EnableError> {
        self.disable(host, claimed)?;
        let msix = claimed.capabilities().msix.filter(|_| table_size > 0);
        let msix = msix.ok_or(EnableError::NoCapability(InterruptMode::Msix))?;
        check_entries(table_size, count, entries)?;
        let enabled = self.map_entries(host, domain, claimed, &msix, entries);
        self.or_disabled(host, claimed, enabled)
    }

    fn map_entries(
        &mut self,
        host: &Host,
        domain: DomainId,
        claimed: &Claimed,
        msix: &MsixCapability,
        entries: &[u16],
    ) -> Result<Vec<u16>, EnableError> {
        let table_bar = claimed.snapshot().resources.get(usize::from(msix.table_bir)).map_or(0, |bar| bar.start);
        // From here on there is something to disable.
        self.mode = InterruptMode::Msix;
        // Enabled and masked as a whole while Xen programs the entries.
        claimed.modify(msix.control(), MSIX_ENABLE | MSIX_FUNCTION_MASK, MSIX_ENABLE | MSIX_FUNCTION_MASK)?;
        let mut pirqs = Vec::with_capacity(entries.len());
        let mut in_use = Vec::with_capacity(entries.len());
        for entry in entries {
            let vector = MsiVector::Msix { entry: *entry, table_bar };
            let pirq = host.hypervisor.map_msi(domain, claimed.function(), vector).map_err(|error| {
                if error.errno == Errno::ENOSPC {
                    EnableError::Exhausted { count: saturating(entries.len()), available: saturating(pirqs.len()) }
                } else {
                    error.into()
                }
            })?;
            self.vectors.record(Step::VectorMapped { domain, pirq });
            in_use.push(Vector { mode: InterruptMode::Msix, entry: *entry, pirq });
            pirqs.push(u16::try_from(pirq.0).map_err(|_| EnableError::PirqTooLarge(pirq))?);
        }
        claimed.modify(xenpcid_policy::Access::COMMAND, COMMAND_INTX_DISABLE, COMMAND_INTX_DISABLE)?;
        claimed.modify(msix.control(), MSIX_FUNCTION_MASK, 0)?;
        claimed.facts().set_vectors_in_use(in_use);
        Ok(pirqs)
    }

    /// Leaves nothing half enabled. The first error is the one that counts.
    fn or_disabled<T>(
        &mut self,
        host: &Host,
        claimed: &Claimed,
        enabled: Result<T, EnableError>,
    ) -> Result<T, EnableError> {
        enabled.inspect_err(|_| {
            if let Err(error) = self.disable(host, claimed) {
                tracing::debug!(function = %claimed.function(), %error, "interrupts could not be disabled after a failure");
            }
        })
    }

    /// Disables whatever is on and goes back to INTx. Nothing on is no error.
    ///
    /// # Errors
    /// If the device cannot be written, or Xen does not take a pirq back; the rest is done all the same.
    pub fn disable(&mut self, host: &Host, claimed: &Claimed) -> Result<(), HostError> {
        if self.mode == InterruptMode::None && self.vectors.steps().is_empty() {
            return Ok(());
        }
        claimed.facts().set_vectors_in_use(Vec::new());
        let capabilities = claimed.capabilities();
        let silenced = [
            capabilities.msi.map(|msi| claimed.modify(msi.control(), MSI_ENABLE, 0)),
            capabilities.msix.map(|msix| claimed.modify(msix.control(), MSIX_ENABLE | MSIX_FUNCTION_MASK, 0)),
        ];
        self.mode = InterruptMode::None;
        let unmapped = self.vectors.undo(host).map_err(|mut errors| errors.swap_remove(0));
        let line = claimed.modify(xenpcid_policy::Access::COMMAND, COMMAND_INTX_DISABLE, 0);
        silenced.into_iter().flatten().chain([unmapped, line]).collect()
    }
}

/// At least one entry, as many as were announced, inside the table the guest sees, each once (XSA-164).
fn check_entries(table_size: u16, count: u32, entries: &[u16]) -> Result<(), EnableError> {
    let all_there = u32::try_from(entries.len()) == Ok(count) && count != 0;
    let inside = entries.iter().all(|entry| *entry < table_size);
    let once = entries.iter().collect::<std::collections::BTreeSet<_>>().len() == entries.len();
    if all_there && inside && once { Ok(()) } else { Err(EnableError::Entries { count, table_size }) }
}

fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl fmt::Display for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {} vectors", self.mode, self.vectors.steps().len())
    }
}
