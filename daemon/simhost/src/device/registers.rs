//! A function's configuration registers, as hardware keeps them.

use xenpcid_policy::Access;

/// One byte of configuration space: which of its bits software can change, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    /// What a read gives.
    pub value: u8,
    /// What a reset leaves.
    pub reset: u8,
    /// Bits that take what is written.
    pub writable: u8,
    /// Bits that a written 1 clears.
    pub cleared_by_one: u8,
    /// Bits that survive a reset of the function.
    pub sticky: u8,
}

/// Registers that do more than keep what is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    /// Where Power Management Control/Status is.
    pub power: Option<PowerManagement>,
    /// Bits that reset the function when written as 1, each as the offset of its byte and its mask. They read as 0.
    pub reset_triggers: Vec<(u16, u8)>,
    /// Where Vital Product Data is, and what it holds.
    pub vital_product_data: Option<VitalProductData>,
}

/// PCI Bus Power Management Interface Specification 3.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct PowerManagement {
    /// Offset of PMCSR.
    pub status: u16,
    /// Whether states D0 to D3hot exist.
    pub states: [bool; 4],
}

/// PCI Local Bus Specification 6.4 and appendix I.
#[derive(Clone, Debug)]
pub(super) struct VitalProductData {
    /// Offset of the capability.
    pub capability: u16,
    /// The storage behind it, a multiple of 4 bytes.
    pub storage: Vec<u8>,
}

/// Configuration space with the behaviour of hardware: read-only bits, bits cleared by writing 1, BARs that keep only
/// their address bits, power states, and reset.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub(super) cells: Vec<Cell>,
    pub(super) behaviour: Behaviour,
    resets: u64,
}

/// PMCSR: the state the function is in.
const POWER_STATE: u8 = 0x03;
/// PMCSR: going from D3hot to D0 resets nothing.
pub(super) const NO_SOFT_RESET: u8 = 0x08;
const D3_HOT: u8 = 3;

impl Registers {
    pub(super) fn new(cells: Vec<Cell>, behaviour: Behaviour) -> Self {
        Self { cells, behaviour, resets: 0 }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// How often the function was reset, in whatever way.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// Reads; bytes beyond the space are all ones.
    pub(crate) fn read(&self, access: Access) -> u32 {
        lanes(access).rev().fold(0, |value, offset| value << 8 | u32::from(self.byte(offset)))
    }

    fn byte(&self, offset: u16) -> u8 {
        self.cells.get(usize::from(offset)).map_or(0xff, |cell| cell.value)
    }

    /// Writes, with all that follows from it.
    pub(crate) fn write(&mut self, access: Access, value: u32) {
        let power_before = self.power_state();
        let mut reset = false;
        for (offset, byte) in lanes(access).zip(value.to_le_bytes()) {
            reset |= self.behaviour.reset_triggers.iter().any(|(at, mask)| *at == offset && byte & mask != 0);
            self.write_byte(offset, self.possible(offset, byte));
            self.access_vital_product_data(offset);
        }
        if power_before == D3_HOT && self.power_state() == 0 && !self.keeps_state_in_d3() {
            reset = true;
        }
        if reset {
            self.reset();
        }
    }

    /// The byte as it arrives in PMCSR: a power state that the function does not have is no change.
    fn possible(&self, offset: u16, byte: u8) -> u8 {
        match self.behaviour.power {
            Some(power) if power.status == offset && !power.states[usize::from(byte & POWER_STATE)] => {
                byte & !POWER_STATE | self.byte(offset) & POWER_STATE
            }
            _ => byte,
        }
    }

    fn write_byte(&mut self, offset: u16, byte: u8) {
        if let Some(cell) = self.cells.get_mut(usize::from(offset)) {
            cell.value = (cell.value & !cell.writable | byte & cell.writable) & !(byte & cell.cleared_by_one);
        }
    }

    /// A write of the upper address byte, which holds the flag F, moves 4 bytes between storage and data register and
    /// turns F over to say so.
    fn access_vital_product_data(&mut self, written: u16) {
        let Some(data) = &mut self.behaviour.vital_product_data else { return };
        let start = usize::from(data.capability);
        let Some([_, _, low, high, register @ ..]) = self.cells.get_mut(start..start + 8) else { return };
        if written != data.capability + 3 {
            return;
        }
        let address = usize::from(u16::from_le_bytes([low.value, high.value & 0x7f]));
        let store = high.value & 0x80 != 0;
        high.value ^= 0x80;
        for (cell, at) in register.iter_mut().zip(address..) {
            match data.storage.get_mut(at) {
                Some(byte) if store => *byte = cell.value,
                Some(byte) => cell.value = *byte,
                None if store => {}
                None => cell.value = 0xff,
            }
        }
    }

    /// Power state D0 to D3hot as a number; 0 for a function without power management.
    pub(crate) fn power_state(&self) -> u8 {
        self.behaviour.power.map_or(0, |power| self.byte(power.status) & POWER_STATE)
    }

    fn keeps_state_in_d3(&self) -> bool {
        self.behaviour.power.is_some_and(|power| self.byte(power.status) & NO_SOFT_RESET != 0)
    }

    /// Puts the function into D0, with what that does to it.
    pub(crate) fn wake(&mut self) {
        if let Some(power) = self.behaviour.power {
            let status = self.byte(power.status) & !POWER_STATE;
            self.write(Access::byte(power.status), u32::from(status));
        }
    }

    /// Resets the function: every register as after power-on, but for the sticky ones.
    pub(crate) fn reset(&mut self) {
        self.resets += 1;
        for cell in &mut self.cells {
            cell.value = cell.value & cell.sticky | cell.reset & !cell.sticky;
        }
    }

    /// A copy of all bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.cells.iter().map(|cell| cell.value).collect()
    }
}

/// Offsets of the bytes that an access moves, lowest first.
fn lanes(access: Access) -> std::ops::Range<u16> {
    access.offset()..access.offset() + access.width().bytes()
}
