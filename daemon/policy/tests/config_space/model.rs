//! What a guest is to see, written from the description and not from the tables: byte by byte for reads, register by
//! register for writes. Where a device has its capabilities is told to it by hand.

use xenpcid_policy::{Effect, InterruptMode, PowerState, Snapshot, Verdict};

/// A base address register with something behind it.
#[derive(Clone, Copy)]
pub struct Bar {
    pub offset: u16,
    pub address: u32,
    /// What it reads after a sizing write.
    pub size: u32,
    /// Bits that a sizing write may have clear.
    pub low_bits: u32,
}

pub struct Layout {
    pub bars: &'static [Bar],
    /// Capability identifiers and pointers.
    pub conventional: &'static [u16],
    pub extended: &'static [u16],
    pub power_management: u16,
    /// Power states to be had, from light to deep.
    pub power_states: &'static [u8],
    pub vital_product_data: Option<u16>,
    /// Start and end.
    pub msi: (u16, u16),
    pub msix: u16,
    /// Table Size field that is shown.
    pub msix_table_size: u16,
}

pub const ROM: u16 = 0x30;

#[derive(Clone)]
pub struct Model<'a> {
    layout: &'a Layout,
    claimed: &'a Snapshot,
    pub hardware: Vec<u8>,
    pub mode: InterruptMode,
    command: u16,
    bus_master: bool,
    power: u8,
    sizing: Vec<bool>,
    rom_enable: bool,
}

#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Offset, bytes and value of the one hardware write.
    pub written: Option<(u16, u16, u32)>,
    pub effect: Option<Effect>,
}

impl<'a> Model<'a> {
    pub fn new(layout: &'a Layout, claimed: &'a Snapshot) -> Self {
        Self {
            layout,
            claimed,
            hardware: claimed.config.clone(),
            mode: InterruptMode::None,
            command: 0,
            bus_master: false,
            power: 0,
            sizing: vec![false; layout.bars.len()],
            rom_enable: false,
        }
    }

    pub fn read(&self, offset: u16, bytes: u16) -> u32 {
        (0..bytes).map(|n| u32::from(self.read_byte(offset + n)) << (8 * n)).sum()
    }

    fn hardware_word(&self, offset: u16) -> u16 {
        let at = usize::from(offset);
        u16::from_le_bytes([self.hardware[at], self.hardware[at + 1]])
    }

    fn read_byte(&self, offset: u16) -> u8 {
        let layout = self.layout;
        let real = self.hardware[usize::from(offset)];
        let claimed = self.claimed.config[usize::from(offset)];
        let of_word = |start: u16, word: u16| word.to_le_bytes()[usize::from(offset - start)];
        let of_dword = |start: u16, dword: u32| dword.to_le_bytes()[usize::from(offset - start)];
        let pm = layout.power_management;
        match offset {
            0x00..=0x01 => of_word(0x00, self.claimed.vendor),
            0x02..=0x03 => of_word(0x02, self.claimed.device),
            0x04..=0x05 => of_word(0x04, self.hardware_word(0x04) & 0x02bc | self.command),
            0x06 => real & !0x10 | claimed & 0x10,
            0x10..=0x27 | 0x30..=0x33 => {
                let start = offset & !3;
                of_dword(start, self.base_address(start))
            }
            0x34 => claimed,
            0x3c => self.claimed.interrupt_line,
            0x3d if self.claimed.interrupt_line == 0 => 0,
            0x3d => claimed,
            _ if layout.conventional.iter().any(|start| (*start..start + 2).contains(&offset)) => claimed,
            _ if layout.extended.iter().any(|start| (*start..start + 4).contains(&offset)) => claimed,
            _ if offset == pm + 3 => real & 0x07,
            _ if offset == pm + 4 => real & 0xf4 | 0x08 | self.power,
            _ if offset == pm + 5 => real & 0xfe,
            _ if offset == layout.msi.0 + 2 => claimed & 0x80 | u8::from(self.mode == InterruptMode::Msi),
            _ if (layout.msi.0 + 3..layout.msi.1).contains(&offset) => 0,
            _ if (layout.msix + 2..layout.msix + 4).contains(&offset) => {
                let enable = if self.mode == InterruptMode::Msix { 0x8000 } else { 0 };
                of_word(layout.msix + 2, layout.msix_table_size | enable)
            }
            _ if (layout.msix + 4..layout.msix + 12).contains(&offset) => claimed,
            _ => real,
        }
    }

    fn base_address(&self, offset: u16) -> u32 {
        let Some(index) = self.layout.bars.iter().position(|bar| bar.offset == offset) else { return 0 };
        let bar = self.layout.bars[index];
        let shown = if self.sizing[index] { bar.size } else { bar.address };
        if offset == ROM { shown & !1 | u32::from(self.rom_enable) } else { shown }
    }

    /// `None` is a refusal.
    pub fn write(&mut self, offset: u16, bytes: u16, value: u32) -> Option<Outcome> {
        let covers = |at: u16| (offset..offset + bytes).contains(&at);
        let byte_at = |at: u16| value.to_le_bytes()[usize::from(at - offset)];
        let word_with = |start: u16, old: u16| {
            let [low, high] = old.to_le_bytes();
            let byte = |at: u16, old: u8| if covers(at) { byte_at(at) } else { old };
            u16::from_le_bytes([byte(start, low), byte(start + 1, high)])
        };
        let mut outcome = Outcome { verdict: Verdict::Discard, written: None, effect: None };

        if let Some(vpd) = self.layout.vital_product_data {
            if covers(vpd + 3) && byte_at(vpd + 3) & 0x80 != 0 {
                return None;
            }
            if covers(vpd + 2) || covers(vpd + 3) {
                let address = word_with(vpd + 2, self.hardware_word(vpd + 2) & 0x7fff);
                outcome.written = Some((vpd + 2, 2, address.into()));
            }
        }
        if covers(0x04) || covers(0x05) {
            outcome.verdict = Verdict::Emulate;
            self.command = word_with(0x04, self.command) & 0x0543;
        }
        if covers(0x04) {
            let command = self.hardware_word(0x04) & !0x14 | u16::from(byte_at(0x04)) & 0x14;
            outcome.written = Some((0x04, 2, command.into()));
            let bus_master = byte_at(0x04) & 4 != 0;
            if bus_master != self.bus_master {
                self.bus_master = bus_master;
                outcome.effect = Some(Effect::BusMaster(bus_master));
            }
        }
        if covers(0x0c) {
            outcome.written = Some((0x0c, 1, byte_at(0x0c).into()));
        }
        for (index, bar) in self.layout.bars.iter().enumerate() {
            if (bar.offset..bar.offset + 4).any(covers) {
                outcome.verdict = Verdict::Emulate;
                self.sizing[index] = bytes == 4 && value | bar.low_bits == 0xffff_ffff;
                if bar.offset == ROM && covers(ROM) {
                    self.rom_enable = byte_at(ROM) & 1 != 0;
                }
            }
        }
        let pm = self.layout.power_management;
        if covers(pm + 4) {
            outcome.verdict = Verdict::Emulate;
            let state = byte_at(pm + 4) & 3;
            let may_enter = state == 0 || self.layout.power_states.contains(&state) && state > self.power;
            if may_enter && state != self.power {
                self.power = state;
                let names = [PowerState::D0, PowerState::D1, PowerState::D2, PowerState::D3Hot];
                outcome.effect = Some(Effect::PowerState(names[usize::from(state)]));
            }
        }
        if covers(pm + 5) {
            let status = self.hardware_word(pm + 4) & !0x9e00 | u16::from(byte_at(pm + 5) & 0x9e) << 8;
            outcome.written = Some((pm + 4, 2, status.into()));
        }

        if let Some((at, bytes, value)) = outcome.written {
            outcome.verdict = Verdict::Pass;
            let at = usize::from(at);
            let bytes = usize::from(bytes);
            self.hardware[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        Some(outcome)
    }
}
