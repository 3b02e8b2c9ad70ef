use crate::access::Access;
use crate::plan::{Bit, CompileError, Placed, Plan, Terms, Treatment};
use crate::policy::{ReadAction, WriteAction};
use crate::register::{Field, Kind, Shown};
use crate::registers::AnyCapabilityId;
use crate::snapshot::Snapshot;
use crate::view::{Behaviour, ConfigView, Dword};

/// Registers that drivers write although requests decide them: nothing that is discarded there was missed.
const BY_REQUEST: [&str; 2] = ["msi.control", "msix.control"];

impl ConfigView {
    /// Makes the view of a new guest from what is known of the function, on the terms given.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn compile(snapshot: &Snapshot, terms: &Terms<'_>) -> Result<Self, CompileError> {
        Ok(Plan::new(snapshot, terms)?.view())
    }
}

impl Plan {
    /// The table that accesses are looked up in.
    #[must_use]
    pub fn view(&self) -> ConfigView {
        let offsets = (0..self.size.bytes()).step_by(4);
        let mut view = ConfigView {
            size: self.size,
            dwords: offsets.zip(self.bits.chunks(32)).map(|(offset, bits)| self.dword(offset, bits)).collect(),
            base_addresses: self.base_addresses,
            enabled: Vec::new(),
            msix_vectors: if self.shows(AnyCapabilityId::MSIX) { self.vectors } else { 0 },
            offers_msi: self.shows(AnyCapabilityId::MSI),
        };
        for placed in &self.registers {
            self.place_in_view(placed, &mut view);
        }
        view
    }

    fn dword(&self, offset: u16, bits: &[Bit]) -> Dword {
        let mut dword = Dword::NOTHING;
        for (n, bit) in (0_u32..).zip(bits) {
            let mask = 1_u32.wrapping_shl(n);
            place_bit(&mut dword, mask, bit.field, self.treatment_of(bit));
        }
        dword.reset = self.initial_at(offset);
        dword.shadow = dword.reset;
        dword.seen = self.claimed_at(offset);
        dword
    }

    /// What follows from a register as a whole: its width, and behaviour beyond masks.
    fn place_in_view(&self, placed: &Placed, view: &mut ConfigView) {
        let index = usize::from(placed.offset >> 2);
        let shift = (u32::from(placed.offset) & 3) << 3;
        let Some(dword) = view.dwords.get_mut(index) else { return };
        let bytes = Access::within(placed.offset, 0, placed.width).lanes();
        for (byte, owner) in dword.registers.iter_mut().enumerate() {
            if bytes >> byte & 1 != 0 {
                *owner = bytes;
            }
        }
        let Some(register) = placed.register else { return };
        for field in register.fields {
            let Kind::Guarded { shown, .. } = field.kind else { continue };
            let mask = (field.mask & register.width.mask()) << shift;
            if BY_REQUEST.contains(&register.name) {
                dword.quiet |= mask;
            }
            match shown {
                Shown::Enabled(mode) => view.enabled.push((index, mask, mode)),
                Shown::PowerState if dword.store & mask != 0 => {
                    let capabilities = self.claimed_at(placed.offset.saturating_sub(2));
                    dword.behaviour = Behaviour::PowerState { mask, supported: supported_power_states(capabilities) };
                }
                Shown::FunctionReset { distance, capable } if dword.store & mask != 0 => {
                    dword.store &= !mask;
                    dword.quiet |= mask;
                    if self.claimed_at(placed.offset.saturating_sub(distance)) & capable != 0 {
                        dword.behaviour = Behaviour::FunctionReset { mask };
                    }
                }
                Shown::BaseAddress(number) => {
                    match self.base_addresses.get(usize::from(number)).filter(|base| !base.is_absent()) {
                        Some(_) => dword.behaviour = Behaviour::BaseAddress(number),
                        None => {
                            dword.store = 0;
                            dword.quiet = mask;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// Sets the masks of one bit.
fn place_bit(dword: &mut Dword, mask: u32, field: Option<&Field>, treatment: &Treatment) {
    let Treatment { read, write, undo, .. } = *treatment;
    let kind = field.map_or(Kind::ReadWrite, |field| field.kind);
    let starts_something = match kind {
        Kind::Command => true,
        Kind::Guarded { shown, .. } => matches!(shown, Shown::Trigger | Shown::FunctionReset { .. }),
        _ => false,
    };
    if starts_something {
        dword.command |= mask;
    }
    if starts_something || kind == Kind::WriteOneToClear {
        dword.ones |= mask;
        dword.clear |= mask;
    } else if write == WriteAction::Pass && undo.unwrap_or(field.is_some()) {
        dword.undo |= mask;
    }
    match read {
        ReadAction::Pass => dword.hardware |= mask,
        ReadAction::Emulate => {}
        ReadAction::Deny => dword.deny_read |= mask,
    }
    match write {
        WriteAction::Pass => dword.pass |= mask,
        WriteAction::Emulate => dword.store |= mask,
        WriteAction::Discard => {}
        WriteAction::Deny if dword.ones & mask != 0 => {
            dword.deny_ones |= mask;
            if kind == Kind::Command {
                // Not to start it is a command of its own, which may pass.
                dword.pass |= mask;
            }
        }
        WriteAction::Deny if read == ReadAction::Emulate => dword.deny_change |= mask,
        WriteAction::Deny => dword.deny_any |= mask,
    }
}

/// States by number of bit, from Power Management Capabilities: D0 and D3 always (PM 3.2.3).
fn supported_power_states(capabilities: u32) -> u8 {
    let d1 = if capabilities & 0x0200 != 0 { 0b0010 } else { 0 };
    let d2 = if capabilities & 0x0400 != 0 { 0b0100 } else { 0 };
    0b1001 | d1 | d2
}
