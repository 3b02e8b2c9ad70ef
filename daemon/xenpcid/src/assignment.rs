//! Giving a claimed device to a guest and taking it back.

use std::collections::BTreeSet;

use pcifront_shim::abi::ErrorCode;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Host, HostError};
use xenpcid_policy::{Access, ConfigView, Effect, HardwareWrite, Resource, Snapshot, VirtualAddress};

use crate::claim::{ClaimError, Claimed, FRAME, Failures};
use crate::denials::{Operation, Refusal};
use crate::interrupts::Interrupts;
use crate::ledger::{Ledger, Step};
use crate::rate_limit::{Line, RateLimit};

/// A device that a guest has.
pub struct Assigned {
    claimed: Box<Claimed>,
    address: VirtualAddress,
    view: ConfigView,
    interrupts: Interrupts,
    ledger: Ledger,
    complaints: RateLimit,
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
        let view = claimed.view();
        let mut ledger = Ledger::default();
        match Self::grant(host, domain, &claimed, lines, &mut ledger) {
            Ok(()) => Ok(Self {
                claimed,
                address,
                view,
                interrupts: Interrupts::default(),
                ledger,
                complaints: RateLimit::default(),
            }),
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
    pub fn read(&mut self, offset: i32, size: i32) -> Result<u32, ErrorCode> {
        let access = Access::new(offset, size, self.view.size()).map_err(|_| ErrorCode::INVALID_OFFSET)?;
        let read = self.view.read(access).map_err(|denied| {
            self.refused(access, Operation::Read, Refusal::Denied, denied.bits, 0);
            ErrorCode::ACCESS_DENIED
        })?;
        if read.hardware == 0 {
            return Ok(read.emulated);
        }
        let hardware = self.hardware(self.claimed.config().read(access))?;
        self.view.told(access, hardware);
        Ok(read.value(hardware))
    }

    /// Carries out a guest's write.
    ///
    /// # Errors
    /// The protocol's error code.
    pub fn write(&mut self, host: &Host, offset: i32, size: i32, value: u32) -> Result<(), ErrorCode> {
        let access = Access::new(offset, size, self.view.size()).map_err(|_| ErrorCode::INVALID_OFFSET)?;
        let write = self.view.write(access, value).map_err(|denied| {
            self.refused(access, Operation::Write, Refusal::Denied, denied.bits, value);
            ErrorCode::ACCESS_DENIED
        })?;
        tracing::trace!(function = %self.claimed.function(), %access, value, verdict = ?write.verdict, "write");
        if write.missed != 0 {
            self.refused(access, Operation::Write, Refusal::Discarded, write.missed, value);
        }
        if let Some(write) = &write.hardware {
            self.hardware(self.write_hardware(write))?;
        }
        match write.effect {
            None => Ok(()),
            Some(Effect::FunctionReset) => self.reset_function(host),
        }
    }

    /// The guest has asked for a Function Level Reset.
    fn reset_function(&mut self, host: &Host) -> Result<(), ErrorCode> {
        // A reset takes the interrupts with it, and a driver asks for them anew. They are not written back: Xen would write to
        // the table of a device that may have its guest switch decoding off meanwhile, and stop at what it reads there.
        let disabled = self.interrupts.disable(host, &self.claimed);
        let reset = self.claimed.reset_for_guest(host).and(disabled.map_err(ClaimError::from));
        self.view.reset();
        self.view.set_interrupt_mode(self.interrupts.mode());
        match reset {
            Ok(()) => {
                tracing::debug!(function = %self.claimed.function(), "reset by its guest");
                Ok(())
            }
            Err(error) => {
                if let Some(Line { suppressed }) = self.complaints.admit() {
                    tracing::warn!(function = %self.claimed.function(), %error, suppressed, "a guest's reset of its device failed");
                }
                Err(ErrorCode::OP_FAILED)
            }
        }
    }

    /// Counts what a guest did not get, and says so the first time.
    fn refused(&mut self, access: Access, operation: Operation, refusal: Refusal, bits: u32, value: u32) {
        let facts = self.claimed.facts();
        for (register, bits) in self.view.registers(access, bits) {
            let first_bit = u32::from(access.offset() & 3) << 3;
            let value = value << first_bit >> (u32::from(register.offset() & 3) << 3) & register.width().mask();
            if !facts.denials.record(register, operation, refusal, bits, value) {
                continue;
            }
            if let Some(Line { suppressed }) = self.complaints.admit() {
                tracing::info!(function = %facts.function, %register, ?operation, bits = format_args!("{bits:#x}"),
                    value = format_args!("{value:#x}"), suppressed, "{refusal:?}; `xenpci denied` counts the next ones");
            }
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
    pub fn function(&self) -> Sbdf {
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
