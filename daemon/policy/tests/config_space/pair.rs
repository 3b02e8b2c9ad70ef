//! The filter and the reference model side by side: whatever is done to both, they have to agree.

use xenpcid_policy::{Access, CompileError, InterruptMode, Policy, Snapshot, Width};

use crate::machine::{Machine, accesses};
use crate::reference::Model;

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
}
