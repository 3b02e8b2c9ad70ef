//! What a guest reads, and what its writes do, bit by bit.

use xenpcid_policy::policy::{Policy, ReadAction, WriteAction};
use xenpcid_policy::{Effect, InterruptMode, Snapshot, Verdict};

use super::bars::ROM;
use super::description::Description;
use super::registers::Shown;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Offset, bytes and value of the one hardware write.
    pub written: Option<(u16, u16, u32)>,
    pub effect: Option<Effect>,
    pub missed: u32,
}

#[derive(Clone)]
pub struct Model {
    pub description: Description,
    pub hardware: Vec<u8>,
    /// For each bit what the guest reads where it is emulated.
    shadow: Vec<bool>,
    /// For each bit what the guest last read of it in hardware.
    seen: Vec<bool>,
}

impl Model {
    pub fn new(snapshot: &Snapshot, policy: &Policy, vectors: u16) -> Self {
        let description = Description::new(snapshot, policy, vectors);
        let shadow = description.bits.iter().map(|bit| bit.initial).collect();
        let hardware = snapshot.config.clone();
        let seen = (0..hardware.len() * 8).map(|at| hardware[at / 8] >> (at % 8) & 1 != 0).collect();
        Self { description, hardware, shadow, seen }
    }

    /// The guest's interrupts are of this kind.
    pub fn set_interrupt_mode(&mut self, mode: InterruptMode) {
        for (bit, shadow) in self.description.bits.iter().zip(&mut self.shadow) {
            match bit.guarded {
                Some(Shown::MsiEnable) => *shadow = mode == InterruptMode::Msi,
                Some(Shown::MsixEnable) => *shadow = mode == InterruptMode::Msix,
                _ => {}
            }
        }
    }

    /// Back to what a new guest finds. What the old one has seen it has seen.
    pub fn reset(&mut self) {
        self.shadow = self.description.bits.iter().map(|bit| bit.initial).collect();
    }

    fn in_hardware(&self, at: usize) -> bool {
        self.hardware[at / 8] >> (at % 8) & 1 != 0
    }

    /// Of a refusal, the bits refused.
    pub fn read(&mut self, offset: u16, bytes: u16) -> Result<u32, u32> {
        let bits = || (0..usize::from(bytes) * 8).map(|n| (n, usize::from(offset) * 8 + n));
        let described = &self.description.bits;
        let denied = number(bits(), |at| described[at].read == ReadAction::Deny);
        if denied != 0 {
            return Err(denied);
        }
        for (_, at) in bits() {
            if self.description.bits[at].read == ReadAction::Pass {
                self.seen[at] = self.in_hardware(at);
            }
        }
        Ok(number(bits(), |at| match self.description.bits[at].read {
            ReadAction::Pass => self.in_hardware(at),
            _ => self.shadow[at],
        }))
    }

    /// Of a refusal, the bits refused.
    pub fn write(&mut self, offset: u16, bytes: u16, value: u32) -> Result<Outcome, u32> {
        let bits = || (0..usize::from(bytes) * 8).map(|n| (n, usize::from(offset) * 8 + n, value >> n & 1 != 0));
        let refused = bits().fold(0, |refused, (n, at, one)| refused | u32::from(self.is_refused(at, one)) << n);
        if refused != 0 {
            return Err(refused);
        }
        let missed = bits().fold(0, |missed, (n, at, one)| missed | u32::from(self.is_missed(at, one)) << n);
        let (is_kept, effect) = self.keep(offset, bytes, value);
        let written = self.pass(offset, bytes, value);
        let verdict = match written {
            Some(_) => Verdict::Pass,
            None if is_kept || effect.is_some() => Verdict::Emulate,
            None => Verdict::Discard,
        };
        Ok(Outcome { verdict, written, effect, missed })
    }

    /// Refused bits are those that the write would do something to.
    fn is_refused(&self, at: usize, one: bool) -> bool {
        let bit = &self.description.bits[at];
        bit.write == WriteAction::Deny
            && if bit.acts_on_one { one } else { bit.read != ReadAction::Emulate || one != self.shadow[at] }
    }

    /// To write 0 to a command that may not be given is what the rest of the register may need.
    fn passes(&self, at: usize) -> bool {
        let bit = &self.description.bits[at];
        let is_command_not_given = bit.write == WriteAction::Deny && bit.is_command && bit.guarded.is_none();
        bit.write == WriteAction::Pass || is_command_not_given
    }

    /// An address register of the device's that has something behind it.
    fn is_absent_bar(&self, at: usize) -> bool {
        let start = (at / 8) as u16 & !3;
        let is_bar = self.description.bits[at].guarded == Some(Shown::Address);
        is_bar && !self.description.bars.iter().any(|bar| bar.at == start)
    }

    fn keeps(&self, at: usize) -> bool {
        let bit = &self.description.bits[at];
        bit.write == WriteAction::Emulate && bit.guarded != Some(Shown::Reset) && !self.is_absent_bar(at)
    }

    /// The guest wanted something, going by what it saw, and it did not happen. Nobody misses what requests decide, what
    /// is written to find out that there is no BAR, or a reset that the device cannot do.
    fn is_missed(&self, at: usize, one: bool) -> bool {
        let bit = &self.description.bits[at];
        let is_taken = self.passes(at) || self.keeps(at) || bit.write == WriteAction::Emulate;
        let is_quiet = bit.is_quiet || self.is_absent_bar(at);
        let saw = if bit.read == ReadAction::Pass { self.seen[at] } else { self.shadow[at] };
        let wants = if bit.acts_on_one { one && (saw || bit.is_command) } else { one != saw };
        wants && !is_taken && !is_quiet
    }

    /// Changes what is kept. Tells whether anything could be, and what is to be done.
    fn keep(&mut self, offset: u16, bytes: u16, value: u32) -> (bool, Option<Effect>) {
        let before: [bool; 32] = self.shadow[usize::from(offset & !3) * 8..][..32].try_into().unwrap();
        let mut is_kept = false;
        let mut effect = None;
        for n in 0..usize::from(bytes) * 8 {
            let at = usize::from(offset) * 8 + n;
            let one = value >> n & 1 != 0;
            let bit = self.description.bits[at];
            let asks_for_reset = bit.guarded == Some(Shown::Reset) && bit.write == WriteAction::Emulate && one;
            if asks_for_reset && self.description.resets.contains(&((at / 8) as u16)) {
                effect = Some(Effect::FunctionReset);
            }
            if self.keeps(at) {
                self.shadow[at] = one;
                is_kept = true;
            }
        }
        if let Some((at, states)) = &self.description.power {
            // PM 3.2.4: a state that is not there is ignored. Out of a state leads only D0, or a deeper one.
            let first = usize::from(*at) * 8;
            let state = |low: bool, high: bool| u8::from(low) | u8::from(high) << 1;
            if (offset & !3..(offset & !3) + 4).contains(at) {
                let n = usize::from(at & 3) * 8;
                let from = state(before[n], before[n + 1]);
                let to = state(self.shadow[first], self.shadow[first + 1]);
                if to != 0 && (to < from || !states.contains(&to)) {
                    self.shadow[first] = before[n];
                    self.shadow[first + 1] = before[n + 1];
                }
            }
        }
        let start = offset & !3;
        if let Some(bar) = self.description.bars.iter().find(|bar| bar.at == start) {
            let asks_for_size = bytes == 4 && value | bar.low_bits == 0xffff_ffff;
            let shown = if asks_for_size { bar.size } else { bar.address };
            for n in 0..32 {
                // The ROM's enable bit is the guest's.
                if start != ROM || n != 0 {
                    self.shadow[usize::from(start) * 8 + n] = shown >> n & 1 != 0;
                }
            }
        }
        (is_kept, effect)
    }

    /// Changes the hardware: one write that is as wide as the registers with bits that pass. Tells which.
    fn pass(&mut self, offset: u16, bytes: u16, value: u32) -> Option<(u16, u16, u32)> {
        let passing = |at: u16| (0..8).any(|n| self.passes(usize::from(at) * 8 + n));
        let touched: Vec<u16> = (offset..offset + bytes).filter(|at| passing(*at)).collect();
        let registers = touched.iter().map(|at| self.description.owners[usize::from(*at)].unwrap_or((*at, 1)));
        let first = registers.clone().map(|(start, _)| start).min()?;
        let end = registers.map(|(start, bytes)| start + bytes).max()?;
        // The narrowest access that has them all.
        let (start, width) = [1, 2, 4]
            .into_iter()
            .map(|width| (first & !(width - 1), width))
            .find(|(start, width)| start + width >= end)?;
        let mut written = 0_u32;
        for n in 0..width * 8 {
            let at = usize::from(start) * 8 + usize::from(n);
            let in_guest_s_write = (at / 8).checked_sub(usize::from(offset)).filter(|byte| *byte < usize::from(bytes));
            let one = match in_guest_s_write {
                Some(byte) if self.passes(at) => value >> (byte * 8 + at % 8) & 1 != 0,
                // What would act is written 0, the rest as it is.
                _ => self.in_hardware(at) && !self.description.bits[at].acts_on_one,
            };
            written |= u32::from(one) << n;
        }
        let bytes = usize::from(width);
        self.hardware[usize::from(start)..][..bytes].copy_from_slice(&written.to_le_bytes()[..bytes]);
        Some((start, width, written))
    }
}

/// The number whose bit n is that of `at`.
fn number(bits: impl Iterator<Item = (usize, usize)>, is_one: impl Fn(usize) -> bool) -> u32 {
    bits.fold(0, |number, (n, at)| number | u32::from(is_one(at)) << n)
}
