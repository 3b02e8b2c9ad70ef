use std::fmt;

use crate::access::{Access, ConfigSize, Width};
use crate::bar::BaseAddresses;
use crate::register::{InterruptMode, Register};
use crate::write::{AccessDenied, Effect, HardwareWrite, PowerState, Verdict, Write};

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
    /// Tells of changes of the bit `mask`.
    BusMaster { mask: u32 },
    /// Lets through only the states of `supported` (bit n is state n) that can be entered from the present one.
    PowerState { mask: u32, supported: u8 },
    /// The base address register of that number.
    BaseAddress(u8),
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
    /// Of `pass`: written 0 when the guest's access does not cover them.
    pub(crate) clear: u32,
    /// Of `pass`: a write of 1 is refused.
    pub(crate) deny: u32,
    /// For each byte, the bytes of the register it belongs to, as a mask of four.
    pub(crate) registers: [u8; 4],
    pub(crate) behaviour: Behaviour,
}

impl Dword {
    /// Reads the device and discards writes.
    pub(crate) const READ_THROUGH: Self = Self {
        hardware: u32::MAX,
        shadow: 0,
        reset: 0,
        store: 0,
        pass: 0,
        clear: 0,
        deny: 0,
        registers: [1, 2, 4, 8],
        behaviour: Behaviour::None,
    };

    /// What the device gets of a write of `value` to the bits `covered`.
    fn hardware_write(&self, dword_index: usize, covered: u32, value: u32) -> Option<HardwareWrite> {
        let mask = covered & self.pass;
        if mask == 0 {
            return None;
        }
        let touched = mask.to_le_bytes().into_iter().zip(self.registers);
        let bytes = touched.filter(|(mask, _)| *mask != 0).fold(0, |bytes, (_, register)| bytes | register);
        let (first, width) = match bytes {
            0b0001 => (0, Width::Byte),
            0b0010 => (1, Width::Byte),
            0b0100 => (2, Width::Byte),
            0b1000 => (3, Width::Byte),
            0b0011 => (0, Width::Word),
            0b1100 => (2, Width::Word),
            _ => (0, Width::Dword),
        };
        let base = u16::try_from(dword_index).ok()?.checked_mul(4)?;
        let access = Access::within(base, first, width);
        let in_access = |bits: u32| bits >> access.shift() & width.mask();
        Some(HardwareWrite {
            access,
            value: in_access(value & mask),
            mask: in_access(mask),
            clear: in_access(self.clear & !covered),
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
    /// Where each register of the tables is, in ascending order.
    pub(crate) registers: Vec<(u16, &'static Register)>,
    /// Bits that show the interrupt mode: index of the dword, mask, mode in which they are one.
    pub(crate) enabled: Vec<(usize, u32, InterruptMode)>,
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

    /// The register that the first byte of `access` belongs to, if it is one that the tables name.
    #[must_use]
    pub fn register(&self, access: Access) -> Option<&'static Register> {
        let behind = self.registers.partition_point(|(offset, _)| *offset <= access.offset());
        let (offset, register) = self.registers.get(behind.checked_sub(1)?)?;
        (access.offset().wrapping_sub(*offset) < register.width.bytes()).then_some(*register)
    }

    /// How to answer a read. Beyond the space (if `access` was made for a larger one): all ones.
    #[must_use]
    pub fn read(&self, access: Access) -> Read {
        let mask = access.width().mask();
        let Some(dword) = self.dwords.get(access.dword_index()) else {
            return Read { hardware: 0, emulated: mask };
        };
        let in_access = |bits: u32| bits >> access.shift() & mask;
        Read { hardware: in_access(dword.hardware), emulated: in_access(dword.shadow & !dword.hardware) }
    }

    /// Takes a write: changes the shadow state and tells what else is to be done. Bits of `value` above the access's
    /// width are ignored. Beyond the space (if `access` was made for a larger one) it is discarded.
    ///
    /// # Errors
    /// [`AccessDenied`] if the write gives the device a command that a guest must not give; nothing has changed then.
    pub fn write(&mut self, access: Access, value: u32) -> Result<Write, AccessDenied> {
        let dword_index = access.dword_index();
        let Some(dword) = self.dwords.get_mut(dword_index) else {
            return Ok(Write::DISCARDED);
        };
        let covered = access.width().mask() << access.shift();
        let value_in_dword = value << access.shift() & covered;
        if value_in_dword & dword.deny != 0 {
            return Err(AccessDenied { access, value });
        }

        let before = dword.shadow;
        let mut written = before & !(covered & dword.store) | value_in_dword & dword.store;
        let mut effect = None;
        match dword.behaviour {
            Behaviour::None => {}
            Behaviour::BusMaster { mask } => {
                if (before ^ written) & mask != 0 {
                    effect = Some(Effect::BusMaster(written & mask != 0));
                }
            }
            Behaviour::PowerState { mask, supported } => {
                let state = |shadow: u32| (shadow & mask) >> mask.trailing_zeros();
                let (from, to) = (state(before), state(written));
                // Anything to D0, and deeper; an unsupported state completes without an effect (PM 3.2.4).
                if to != 0 && (to < from || supported >> to & 1 == 0) {
                    written = written & !mask | before & mask;
                } else if to != from {
                    effect = Some(Effect::PowerState(PowerState::from_bits(to)));
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
        }
        dword.shadow = written;

        let hardware = dword.hardware_write(dword_index, covered, value_in_dword);
        let verdict = match hardware {
            Some(_) => Verdict::Pass,
            None if covered & dword.store != 0 => Verdict::Emulate,
            None => Verdict::Discard,
        };
        Ok(Write { verdict, hardware, effect })
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

    /// Back to what a new guest finds.
    pub fn reset(&mut self) {
        for dword in &mut self.dwords {
            dword.shadow = dword.reset;
        }
    }
}
