//! The filter and the reference model side by side: whatever is done to both, they have to agree.

use xenpcid_policy::policy::{ReadAction, WriteAction};
use xenpcid_policy::{Access, CompileError, HardwareWrite, InterruptMode, Policy, Snapshot, Width};

use crate::machine::{Machine, accesses};
use crate::reference::Model;
use crate::reference::description::Description;

pub struct Pair {
    pub machine: Machine,
    pub model: Model,
}

impl Pair {
    pub fn new(snapshot: &Snapshot, policy: &Policy, vectors: u16) -> Result<Self, CompileError> {
        let machine = Machine::with_vectors(snapshot, policy, vectors)?;
        Ok(Self { machine, model: Model::new(snapshot, policy, vectors) })
    }

    pub fn set_interrupt_mode(&mut self, mode: InterruptMode) {
        self.machine.view.set_interrupt_mode(mode);
        self.model.set_interrupt_mode(mode);
    }

    pub fn reset(&mut self) {
        self.machine.view.reset();
        self.model.reset();
    }

    /// Every bit of the device becomes what it is not.
    pub fn flip_hardware(&mut self) {
        self.machine.hardware.iter_mut().for_each(|byte| *byte = !*byte);
        self.model.hardware.iter_mut().for_each(|byte| *byte = !*byte);
    }

    pub fn read(&mut self, access: Access) {
        let expected = self.model.read(access.offset(), access.width().bytes());
        let read = self.machine.read(access).map_err(|denied| denied.bits);
        assert_eq!(read, expected, "read {access}: {read:x?}, expected {expected:x?}");
    }

    /// Offset, bytes and value of the write that the hardware got.
    pub fn write(&mut self, access: Access, value: u32) -> Option<(u16, u16, u32)> {
        let expected = self.model.write(access.offset(), access.width().bytes(), value);
        let outcome = self.machine.write(access, value);
        if let Err(denied) = &outcome {
            assert_eq!((denied.access, denied.value), (access, value));
        }
        let outcome = outcome.map_err(|denied| denied.bits);
        assert_eq!(outcome, expected, "write {value:#x} to {access}: {outcome:x?}, expected {expected:x?}");
        outcome.ok().and_then(|outcome| outcome.written)
    }

    /// The device changes a byte of its own.
    pub fn change_hardware(&mut self, at: u16, value: u8) {
        self.machine.hardware[usize::from(at)] = value;
        self.model.hardware[usize::from(at)] = value;
    }

    /// Every byte as the guest reads it; `None` for those that it is not told.
    pub fn shown(&mut self) -> Vec<Option<u8>> {
        let offsets = 0..self.machine.view.size().bytes();
        let bytes = offsets.map(|at| {
            self.read(Access::byte(at));
            self.machine.read(Access::byte(at)).ok().map(|value| value as u8)
        });
        bytes.collect()
    }

    /// The whole space, as the guest reads it and in hardware.
    pub fn agree(&mut self) {
        for access in accesses(self.machine.view.size()).filter(|access| access.width() == Width::Dword) {
            self.read(access);
        }
        let hardware =
            self.machine.hardware.iter().zip(&self.model.hardware).position(|(machine, model)| machine != model);
        assert_eq!(hardware, None, "the hardware differs at this offset");
    }

    /// Undoes what the guest wrote to the device, which was `claimed`, and looks at the hardware.
    pub fn undo(&mut self, claimed: &Snapshot) {
        let before = self.machine.hardware.clone();
        let writes: Vec<HardwareWrite> = self.machine.view.undoing(claimed).collect();
        for write in &writes {
            let value = write.merge(self.machine.hardware(write.access));
            let at = usize::from(write.access.offset());
            let bytes = usize::from(write.access.width().bytes());
            self.machine.hardware[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        let one = |space: &[u8], at: usize| space[at / 8] >> (at % 8) & 1 != 0;
        for (at, bit) in self.model.description.bits.iter().enumerate() {
            let now = one(&self.machine.hardware, at);
            let expected = if is_undone(&self.model.description, at) {
                one(&claimed.config, at)
            } else if bit.acts_on_one {
                // In a register that is written, it is written 0.
                assert!(!now || one(&before, at), "bit {} of {:#x} was set", at % 8, at / 8);
                continue;
            } else {
                one(&before, at)
            };
            assert_eq!(now, expected, "bit {} of {:#x}", at % 8, at / 8);
        }
    }
}

/// Whether bit `at` of the space is as it was at the claim for the next guest: what passed, unless the host sets it itself (the
/// command register), or a write of the old value would do something (status, and all of a register whose command the guest
/// can give: a 0 is one as well).
fn is_undone(description: &Description, at: usize) -> bool {
    let bit = &description.bits[at];
    let byte = u16::try_from(at / 8).unwrap();
    let (start, bytes) = description.owners[at / 8].unwrap_or((byte, 1));
    let of_register = &description.bits[usize::from(start) * 8..usize::from(start + bytes) * 8];
    let has_command = of_register.iter().any(|bit| bit.is_command && bit.read == ReadAction::Pass);
    bit.write == WriteAction::Pass && bit.is_undone && !bit.acts_on_one && !has_command && !(4..6).contains(&byte)
}
