//! Giving a claimed device to a guest and taking it back.

use std::collections::BTreeSet;

use pcifront_shim::abi::ErrorCode;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Host, HostError};
use xenpcid_policy::{Access, ConfigView, HardwareWrite, Resource, Snapshot, Terms, VirtualAddress};

use crate::claim::{ClaimError, Claimed, FRAME, Failures};
use crate::interrupts::Interrupts;
use crate::ledger::{Ledger, Step};

/// A device that a guest has.
pub struct Assigned {
    claimed: Box<Claimed>,
    address: VirtualAddress,
    view: ConfigView,
    interrupts: Interrupts,
    ledger: Ledger,
}

impl Assigned {
    /// Gives `claimed` to `domain`: permission for its memory, ports and INTx line, then its DMA.
    ///
    /// `lines` are the INTx lines that the guest already has by another device: they are shared, and mapped once.
    ///
    /// # Errors
    /// What stood in the way, with the device, which is in quarantine as before.
    pub fn assign(
        host: &Host,
        domain: DomainId,
        claimed: Box<Claimed>,
        address: VirtualAddress,
        lines: &mut BTreeSet<u8>,
    ) -> Result<Self, (Box<Claimed>, ClaimError)> {
        let policy = crate::interim::policy();
        let terms = Terms { policy: &policy, name: None, vectors: u16::MAX };
        let view = match ConfigView::compile(claimed.snapshot(), &terms) {
            Ok(view) => view,
            Err(reason) => {
                let function = claimed.function();
                return Err((claimed, ClaimError::Policy { function, reason }));
            }
        };
        let mut ledger = Ledger::default();
        match Self::grant(host, domain, &claimed, lines, &mut ledger) {
            Ok(()) => Ok(Self { claimed, address, view, interrupts: Interrupts::default(), ledger }),
            Err(error) => {
                for error in ledger.undo(host).err().into_iter().flatten() {
                    tracing::error!(function = %claimed.function(), domain = domain.0, %error, "could not be undone");
                }
                Err((claimed, error.into()))
            }
        }
    }

    fn grant(
        host: &Host,
        domain: DomainId,
        claimed: &Claimed,
        lines: &mut BTreeSet<u8>,
        ledger: &mut Ledger,
    ) -> Result<(), HostError> {
        let function = claimed.function();
        // Not the expansion ROM: its decoding is off and stays off, and an access that nobody decodes can take the host down.
        let bars = claimed.snapshot().resources.iter().take(Snapshot::ROM);
        for resource in bars.filter(|resource| resource.is_present()) {
            ledger.carry_out(host, permission(domain, resource))?;
        }
        let line = claimed.snapshot().interrupt_line;
        if line != 0 && lines.insert(line) {
            let gsi = u32::from(line);
            ledger.carry_out(host, Step::LineMapped { domain, gsi })?;
            ledger.carry_out(host, Step::LinePermitted { domain, gsi })?;
        }
        claimed.hand_over()?;
        ledger.carry_out(host, Step::Assigned { domain, function })
    }

    /// Takes the device back into quarantine and makes it as it was. The guest must be gone, or have let go of it.
    ///
    /// # Errors
    /// A device that cannot be renewed, and must not be given to anybody.
    pub fn take_back(mut self, host: &Host) -> Result<Box<Claimed>, (Box<Claimed>, ClaimError)> {
        let function = self.claimed.function();
        if let Err(error) = self.interrupts.disable(host, &self.claimed) {
            tracing::warn!(%function, %error, "could not switch its interrupts off; the reset will");
        }
        if let Err(errors) = self.ledger.undo(host) {
            if let Err(error) = self.claimed.silence() {
                tracing::error!(%function, %error, "could not be silenced");
            }
            let stuck = self.ledger.steps().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err((self.claimed, ClaimError::Stuck { function, stuck, errors: Failures(errors) }));
        }
        match self.claimed.renew(host) {
            Ok(()) => Ok(self.claimed),
            Err(error) => Err((self.claimed, error)),
        }
    }

    /// Answers a guest's read.
    ///
    /// # Errors
    /// The protocol's error code.
    pub fn read(&self, offset: i32, size: i32) -> Result<u32, ErrorCode> {
        let access = Access::new(offset, size, self.view.size()).map_err(|_| ErrorCode::INVALID_OFFSET)?;
        let read = self.view.read(access).map_err(|_| ErrorCode::ACCESS_DENIED)?;
        let hardware = if read.hardware == 0 { 0 } else { self.hardware(self.claimed.config().read(access))? };
        Ok(read.value(hardware))
    }

    /// Carries out a guest's write.
    ///
    /// # Errors
    /// The protocol's error code.
    pub fn write(&mut self, offset: i32, size: i32, value: u32) -> Result<(), ErrorCode> {
        let access = Access::new(offset, size, self.view.size()).map_err(|_| ErrorCode::INVALID_OFFSET)?;
        let write = self.view.write(access, value).map_err(|_| ErrorCode::ACCESS_DENIED)?;
        tracing::trace!(function = %self.claimed.function(), %access, value, verdict = ?write.verdict, "write");
        match write.hardware {
            None => Ok(()),
            Some(write) => self.hardware(self.write_hardware(&write)),
        }
    }

    fn write_hardware(&self, write: &HardwareWrite) -> Result<(), HostError> {
        let config = self.claimed.config();
        let now = if write.needs_read() { config.read(write.access)? } else { 0 };
        config.write(write.access, write.merge(now))
    }

    /// What a failure of the host looks like to the guest.
    fn hardware<T>(&self, result: Result<T, HostError>) -> Result<T, ErrorCode> {
        result.map_err(|error| {
            tracing::debug!(function = %self.claimed.function(), %error, "configuration access failed");
            ErrorCode::OP_FAILED
        })
    }

    /// Splits the device so that its interrupts can be changed while the rest of it is looked at.
    pub(crate) fn interrupt_parts(&mut self) -> (&mut Interrupts, &Claimed, &mut ConfigView) {
        (&mut self.interrupts, &self.claimed, &mut self.view)
    }

    /// Its interrupts.
    #[must_use]
    pub const fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// The device.
    #[must_use]
    pub const fn function(&self) -> Sbdf {
        self.claimed.function()
    }

    /// Where the guest sees it.
    #[must_use]
    pub const fn address(&self) -> VirtualAddress {
        self.address
    }
}

/// Permission for a whole resource. Memory is given in frames, so a BAR smaller than a frame brings its neighbours with it.
fn permission(domain: DomainId, resource: &Resource) -> Step {
    if resource.is_io() {
        // Ports have 16 bits on x86; a resource that says otherwise is refused by Xen.
        let port = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
        Step::PortsPermitted { domain, first_port: port(resource.start), ports: port(resource.size()) }
    } else {
        let first_frame = resource.start / FRAME;
        Step::MemoryPermitted { domain, first_frame, frames: resource.end / FRAME - first_frame + 1 }
    }
}
