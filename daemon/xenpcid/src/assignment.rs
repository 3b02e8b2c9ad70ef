//! Giving a claimed device to a guest and taking it back.

use pcifront_shim::abi::ErrorCode;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Host, HostError};
use xenpcid_policy::{Access, ConfigView, Effect, HardwareWrite, Resource, Snapshot, VirtualAddress};

use crate::claim::{ClaimError, Claimed, FRAME, undo};
use crate::denials::{Operation, Refusal, written_to};
use crate::interrupts::Interrupts;
use crate::ledger::{Ledger, Step};
use crate::rate_limit::{Line, RateLimit};

/// A device that a guest has.
pub struct Assigned {
    claimed: Box<Claimed>,
    domain: DomainId,
    address: VirtualAddress,
    view: ConfigView,
    interrupts: Interrupts,
    ledger: Ledger,
    /// The INTx line, if it was mapped for this device and not for another one of the guest.
    line: Ledger,
    complaints: RateLimit,
}

impl Assigned {
    /// Gives `claimed` to `domain`: permission for its memory, ports and INTx line, then its DMA.
    ///
    /// `has_line` says that the guest has the INTx line already by another device: it is shared, and mapped once.
    ///
    /// # Errors
    /// What stood in the way, with the device, which is in quarantine as before unless the error says otherwise.
    pub fn assign(
        host: &Host,
        domain: DomainId,
        claimed: Box<Claimed>,
        address: VirtualAddress,
        has_line: bool,
    ) -> Result<Self, (Box<Claimed>, ClaimError)> {
        let view = claimed.view();
        let mut assigned = Self {
            claimed,
            domain,
            address,
            view,
            interrupts: Interrupts::default(),
            ledger: Ledger::default(),
            line: Ledger::default(),
            complaints: RateLimit::default(),
        };
        match assigned.grant(host, has_line) {
            Ok(()) => Ok(assigned),
            Err(error) => match assigned.revoke(host) {
                Ok(()) => Err((assigned.claimed, error.into())),
                Err(stuck) => {
                    tracing::error!(function = %assigned.function(), domain = domain.0, %error, "cannot be assigned");
                    Err((assigned.claimed, stuck))
                }
            },
        }
    }

    fn grant(&mut self, host: &Host, has_line: bool) -> Result<(), HostError> {
        let Self { claimed, domain, ledger, line, .. } = self;
        let (function, domain) = (claimed.function(), *domain);
        // Not the expansion ROM: its decoding is off and stays off, and an access that nobody decodes can take the host down.
        let bars = claimed.snapshot().resources.iter().take(Snapshot::ROM);
        for resource in bars.filter(|resource| resource.is_present()) {
            ledger.carry_out(host, permission(domain, resource))?;
        }
        if let Some(gsi) = line_of(claimed).filter(|_| !has_line).map(u32::from) {
            line.carry_out(host, Step::LineMapped { domain, gsi })?;
            line.carry_out(host, Step::LinePermitted { domain, gsi })?;
        }
        claimed.hand_over()?;
        ledger.carry_out(host, Step::Assigned { domain, function, reserved: claimed.reserved_memory() })
    }

    /// Takes away everything that was granted. What cannot be taken away stays with the device, which must not be given to
    /// anybody before that is done.
    fn revoke(&mut self, host: &Host) -> Result<(), ClaimError> {
        self.ledger.append(&mut self.line);
        undo(host, self.claimed.function(), &mut self.ledger)
            .inspect_err(|_| self.claimed.keep_leftover(std::mem::take(&mut self.ledger)))
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
        if let Err(stuck) = self.revoke(host) {
            if let Err(error) = self.claimed.silence() {
                tracing::error!(%function, %error, "could not be silenced");
            }
            return Err((self.claimed, stuck));
        }
        match self.claimed.recover(host) {
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
        match self.reset_while_paused(host) {
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

    /// Resets the device under a guest that stands still: a reset switches decoding off for 100 ms, and the memory is mapped
    /// by all of its virtual CPUs (XSA-120).
    fn reset_while_paused(&mut self, host: &Host) -> Result<(), ClaimError> {
        let _paused = Paused::new(host, self.domain)?;
        let disabled = self.interrupts.disable(host, &self.claimed);
        let reset = self.claimed.reset_for_guest(host).and(disabled.map_err(ClaimError::from));
        self.view.reset();
        self.view.set_interrupt_mode(self.interrupts.mode());
        reset
    }

    /// Makes the device as a frontend expects it that knows nothing of the one before.
    pub fn start_over(&mut self, host: &Host) {
        match self.reset_while_paused(host) {
            Ok(()) => {}
            // Known and accepted since it was claimed, and of no consequence for a guest that only shuts down.
            Err(error @ ClaimError::NoFunctionLevelReset { .. }) => {
                tracing::debug!(function = %self.function(), %error, "not reset for the guest's new frontend");
            }
            Err(error) => {
                tracing::warn!(function = %self.function(), %error, "could not be reset for the guest's new frontend");
            }
        }
    }

    /// Counts what a guest did not get, and says so once.
    fn refused(&mut self, access: Access, operation: Operation, refusal: Refusal, bits: u32, value: u32) {
        let facts = self.claimed.facts();
        for (register, bits) in self.view.registers(access, bits) {
            let value = written_to(register, access, value);
            let Some(unsaid) = facts.denials.record(register, operation, refusal, bits, value) else { continue };
            if let Some(Line { suppressed }) = self.complaints.admit() {
                unsaid.said();
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

    /// Its INTx line, which is also the number of the pirq; `None` if it has none.
    #[must_use]
    pub fn line(&self) -> Option<u8> {
        line_of(&self.claimed)
    }

    /// Whether both use one INTx line.
    #[must_use]
    pub fn shares_line_with(&self, other: &Self) -> bool {
        self.line().is_some() && self.line() == other.line()
    }

    /// Lets another device of the guest, which shares the INTx line, answer for it.
    pub fn leave_line_to(&mut self, heir: &mut Self) {
        if !self.line.steps().is_empty() {
            heir.line = std::mem::take(&mut self.line);
        }
    }

    /// Where the guest sees it.
    #[must_use]
    pub const fn address(&self) -> VirtualAddress {
        self.address
    }
}

fn line_of(claimed: &Claimed) -> Option<u8> {
    Some(claimed.snapshot().interrupt_line).filter(|line| *line != 0)
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

/// A guest that stands still for as long as this lives.
struct Paused<'a> {
    host: &'a Host,
    domain: DomainId,
}

impl<'a> Paused<'a> {
    fn new(host: &'a Host, domain: DomainId) -> Result<Self, HostError> {
        host.hypervisor.pause(domain)?;
        Ok(Self { host, domain })
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // A guest that is gone meanwhile needs no unpausing, and one that stays paused is said to be.
        if let Err(error) = self.host.hypervisor.unpause(self.domain) {
            tracing::error!(domain = self.domain.0, %error, "a guest that was paused for a reset may stay so: `xl unpause` it");
        }
    }
}
