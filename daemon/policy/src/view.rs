use std::fmt;

use crate::access::{Access, ConfigSize};
use crate::bar::BaseAddresses;
use crate::register::InterruptMode;
use crate::snapshot::Snapshot;
use crate::write::{AccessDenied, Effect, HardwareWrite, Verdict, Write};

/// How a read is answered: `(hardware value & hardware) | emulated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bits that the device answers; 0 if it need not be asked.
    pub hardware: u32,
    /// The other bits.
    pub emulated: u32,
}

impl Read {
    /// What the guest reads when the device answered `hardware`.
    #[must_use]
    pub const fn value(self, hardware: u32) -> u32 {
        hardware & self.hardware | self.emulated
    }
}

/// What a register does beyond its masks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Behaviour {
    #[default]
    None,
    /// Lets through only the states of `supported` (bit n is state n) that can be entered from the present one.
    PowerState { mask: u32, supported: u8 },
    /// The base address register of that number.
    BaseAddress(u8),
    /// Tells when the guest writes 1.
    FunctionReset { mask: u32 },
}

/// Four bytes of configuration space, compiled: bits by what is done with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dword {
    /// Read from the device.
    pub(crate) hardware: u32,
    /// The other bits' values, and what the guest last wrote to `store` bits.
    pub(crate) shadow: u32,
    /// `shadow` for a new guest.
    pub(crate) reset: u32,
    /// Kept in `shadow` when written.
    pub(crate) store: u32,
    /// Passed to the device when written.
    pub(crate) pass: u32,
    /// Written 0 when the register is written and the guest's access does not pass them: writing back a 1 would act.
    pub(crate) clear: u32,
    /// Only a 1 acts.
    pub(crate) ones: u32,
    /// Of `ones`: whatever they read.
    pub(crate) command: u32,
    /// A read is refused.
    pub(crate) deny_read: u32,
    /// A write of 1 is refused.
    pub(crate) deny_ones: u32,
    /// A write of something else than `shadow` is refused.
    pub(crate) deny_change: u32,
    /// A write is refused.
    pub(crate) deny_any: u32,
    /// Of `pass`: written as at the claim before the next guest.
    pub(crate) undo: u32,
    /// Not missed by a guest when discarded.
    pub(crate) quiet: u32,
    /// What the guest last read from the device.
    pub(crate) seen: u32,
    /// For each byte, the bytes of the register it belongs to, as a mask of four; 0 if it belongs to none.
    pub(crate) registers: [u8; 4],
    pub(crate) behaviour: Behaviour,
}

impl Dword {
    /// Reads zero and discards writes.
    pub(crate) const NOTHING: Self = Self {
        hardware: 0,
        shadow: 0,
        reset: 0,
        store: 0,
        pass: 0,
        clear: 0,
        ones: 0,
        command: 0,
        deny_read: 0,
        deny_ones: 0,
        deny_change: 0,
        deny_any: 0,
        undo: 0,
        quiet: 0,
        seen: 0,
        registers: [0; 4],
        behaviour: Behaviour::None,
    };

    /// The bits of a write of `value` that are refused with the whole of it.
    const fn denied(&self, covered: u32, value: u32) -> u32 {
        covered & (self.deny_any | self.deny_change & (value ^ self.shadow) | self.deny_ones & value)
    }

    /// The bits that a guest wanted to change with `value`, going by what it last read, and that are discarded.
    const fn missed(&self, covered: u32, value: u32) -> u32 {
        let believed = self.seen & self.hardware | self.shadow & !self.hardware;
        let changes = (value ^ believed) & !self.ones | value & self.ones & (believed | self.command);
        covered & changes & !(self.pass | self.store | self.quiet)
    }

    /// What it takes to undo the writes that passed to the registers of this dword, which had the value `claimed`.
    fn undoing(&self, offset: u16, claimed: u32) -> impl Iterator<Item = HardwareWrite> {
        let Self { hardware, clear, command, undo, registers, .. } = *self;
        let mut lanes = registers;
        // Bytes that belong to no register are written one by one.
        for (owner, lane) in lanes.iter_mut().zip([0b0001, 0b0010, 0b0100, 0b1000]).filter(|(owner, _)| **owner == 0) {
            *owner = lane;
        }
        lanes.sort_unstable();
        let owners = lanes.into_iter().zip([0].into_iter().chain(lanes)).filter(|(owner, before)| owner != before);
        owners.filter_map(move |(owner, _)| {
            let access = Access::of_lanes(offset, owner);
            let of_register = |bits: u32| bits >> access.shift() & access.width().mask();
            let mask = of_register(undo);
            // Where the device answers for a command, as for the F of VPD, a 0 may be a command as well.
            let is_left = mask == 0 || of_register(command & hardware) != 0 || access == Access::COMMAND;
            let (value, clear) = (of_register(claimed) & mask, of_register(clear) & !mask);
            (!is_left).then_some(HardwareWrite { access, value, mask, clear })
        })
    }

    /// What the device gets of a write of `value` to the bits `covered`.
    fn hardware_write(&self, dword_index: usize, covered: u32, value: u32) -> Option<HardwareWrite> {
        let mask = covered & self.pass;
        if mask == 0 {
            return None;
        }
        let touched = (0..4_u8).zip(mask.to_le_bytes()).zip(self.registers).filter(|((_, mask), _)| *mask != 0);
        let bytes = touched.fold(0, |bytes, ((lane, _), register)| bytes | register | 1 << lane);
        let base = u16::try_from(dword_index).ok()?.checked_mul(4)?;
        let access = Access::of_lanes(base, bytes);
        let width = access.width();
        let in_access = |bits: u32| bits >> access.shift() & width.mask();
        Some(HardwareWrite {
            access,
            value: in_access(value & mask),
            mask: in_access(mask),
            clear: in_access(self.clear & !mask),
        })
    }
}

/// What one guest sees of one function's configuration space, and what its writes do.
///
/// Made by [`ConfigView::compile`](crate::ConfigView::compile); an access is a lookup and a few masks.
#[derive(Clone)]
pub struct ConfigView {
    pub(crate) size: ConfigSize,
    pub(crate) dwords: Box<[Dword]>,
    pub(crate) base_addresses: BaseAddresses,
    /// Bits that show the interrupt mode: index of the dword, mask, mode in which they are one.
    pub(crate) enabled: Vec<(usize, u32, InterruptMode)>,
    pub(crate) msix_vectors: u16,
    pub(crate) offers_msi: bool,
}

impl fmt::Debug for ConfigView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigView").field("size", &self.size).finish_non_exhaustive()
    }
}

impl ConfigView {
    /// Size of the space.
    #[must_use]
    pub fn size(&self) -> ConfigSize {
        self.size
    }

    /// Entries of the MSI-X table that the guest is shown; 0 if it is shown none.
    #[must_use]
    pub fn msix_vectors(&self) -> u16 {
        self.msix_vectors
    }

    /// Whether the policy lets the guest have the MSI of a device that has it.
    #[must_use]
    pub fn offers_msi(&self) -> bool {
        self.offers_msi
    }

    /// How to answer a read. Beyond the space (if `access` was made for a larger one): all ones.
    ///
    /// # Errors
    /// [`AccessDenied`] if the policy refuses to tell.
    pub fn read(&self, access: Access) -> Result<Read, AccessDenied> {
        let mask = access.width().mask();
        let Some(dword) = self.dwords.get(access.dword_index()) else {
            return Ok(Read { hardware: 0, emulated: mask });
        };
        let in_access = |bits: u32| bits >> access.shift() & mask;
        match in_access(dword.deny_read) {
            0 => Ok(Read { hardware: in_access(dword.hardware), emulated: in_access(dword.shadow & !dword.hardware) }),
            bits => Err(AccessDenied { access, value: 0, bits }),
        }
    }

    /// Remembers that the guest was told `hardware` by the device, so that it is known what a later write changes.
    pub fn told(&mut self, access: Access, hardware: u32) {
        if let Some(dword) = self.dwords.get_mut(access.dword_index()) {
            let covered = access.width().mask() << access.shift();
            dword.seen = dword.seen & !covered | hardware << access.shift() & covered;
        }
    }

    /// The registers that `bits` of an access belong to, each with its bits; bytes that belong to none are the access
    /// itself.
    pub fn registers(&self, access: Access, bits: u32) -> impl Iterator<Item = (Access, u32)> {
        let owners = self.dwords.get(access.dword_index()).map_or([0; 4], |dword| dword.registers);
        let bits = bits << access.shift();
        let base = access.offset() & !3;
        let mut rest = [0_u8, 1, 2, 3].into_iter().zip(owners).zip(bits.to_le_bytes()).filter(|(_, bits)| *bits != 0);
        let mut seen = 0_u8;
        std::iter::from_fn(move || {
            let ((lane, owner), _) = rest.find(|((lane, _), _)| seen >> lane & 1 == 0)?;
            let bytes = if owner == 0 { access.lanes() } else { owner };
            seen |= bytes | 1 << lane;
            let register = Access::of_lanes(base, bytes);
            Some((register, bits >> register.shift() & register.width().mask()))
        })
    }

    /// Takes a write: changes the shadow state and tells what else is to be done. Bits of `value` above the access's
    /// width are ignored. Beyond the space (if `access` was made for a larger one) it is discarded.
    ///
    /// # Errors
    /// [`AccessDenied`] if the policy refuses it; nothing has changed then.
    pub fn write(&mut self, access: Access, value: u32) -> Result<Write, AccessDenied> {
        let dword_index = access.dword_index();
        let Some(dword) = self.dwords.get_mut(dword_index) else {
            return Ok(Write::DISCARDED);
        };
        let covered = access.width().mask() << access.shift();
        let value_in_dword = value << access.shift() & covered;
        let denied = dword.denied(covered, value_in_dword);
        if denied != 0 {
            return Err(AccessDenied { access, value, bits: denied >> access.shift() });
        }

        let missed = dword.missed(covered, value_in_dword) >> access.shift();
        let before = dword.shadow;
        let mut written = before & !(covered & dword.store) | value_in_dword & dword.store;
        let mut effect = None;
        match dword.behaviour {
            Behaviour::None => {}
            Behaviour::PowerState { mask, supported } => {
                let state = |shadow: u32| (shadow & mask) >> mask.trailing_zeros();
                let (from, to) = (state(before), state(written));
                // Anything to D0, and deeper; an unsupported state completes without an effect (PM 3.2.4).
                if to != 0 && (to < from || supported >> to & 1 == 0) {
                    written = written & !mask | before & mask;
                }
            }
            Behaviour::BaseAddress(index) => {
                if let Some(register) = self.base_addresses.get(usize::from(index)) {
                    written = if covered == u32::MAX {
                        register.after_dword(value_in_dword)
                    } else {
                        register.after_part(covered, value_in_dword, before)
                    };
                }
            }
            Behaviour::FunctionReset { mask } => {
                if value_in_dword & mask != 0 {
                    effect = Some(Effect::FunctionReset);
                }
            }
        }
        dword.shadow = written;

        let hardware = dword.hardware_write(dword_index, covered, value_in_dword);
        let verdict = match hardware {
            Some(_) => Verdict::Pass,
            None if covered & dword.store != 0 || effect.is_some() => Verdict::Emulate,
            None => Verdict::Discard,
        };
        Ok(Write { verdict, hardware, effect, missed })
    }

    /// Shows the guest which interrupts it has: the enable bits of MSI and MSI-X. Interrupt Disable in the command
    /// register stays as the guest wrote it.
    pub fn set_interrupt_mode(&mut self, mode: InterruptMode) {
        for (index, mask, shown_in) in &self.enabled {
            if let Some(dword) = self.dwords.get_mut(*index) {
                dword.shadow = if *shown_in == mode { dword.shadow | mask } else { dword.shadow & !mask };
            }
        }
    }

    /// What it takes to undo a guest's writes that passed: the registers that the tables or a rule name, as they were at the
    /// claim. Not the command register, which is the host's to set, nor what would start something, as the tables know or
    /// [`Rule::undo`](crate::policy::Rule::undo) says; status that was cleared stays cleared. What passes only because nothing
    /// is said against it stays too: nobody knows what writing it does.
    pub fn undoing<'a>(&'a self, claimed: &'a Snapshot) -> impl Iterator<Item = HardwareWrite> + 'a {
        let offsets = (0..self.size.bytes()).step_by(4);
        offsets.zip(&self.dwords).flat_map(|(offset, dword)| dword.undoing(offset, claimed.dword(offset)))
    }

    /// Back to what a new guest finds, and a guest after a reset of the function.
    pub fn reset(&mut self) {
        for dword in &mut self.dwords {
            dword.shadow = dword.reset;
        }
    }
}
