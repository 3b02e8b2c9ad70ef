//! A guest's view in front of a device that keeps whatever is written to it.

use xenpcid_policy::{Access, AccessDenied, CompileError, ConfigSize, ConfigView, Policy, Snapshot, Terms, Width};

use crate::reference::Outcome;

/// One guest's view with hardware behind it, which keeps what is written.
pub struct Machine {
    pub view: ConfigView,
    pub hardware: Vec<u8>,
}

impl Machine {
    pub fn new(snapshot: &Snapshot, policy: &Policy) -> Result<Self, CompileError> {
        Self::with_vectors(snapshot, policy, u16::MAX)
    }

    pub fn with_vectors(snapshot: &Snapshot, policy: &Policy, vectors: u16) -> Result<Self, CompileError> {
        let view = ConfigView::compile(snapshot, &Terms { policy, name: None, vectors })?;
        Ok(Self { view, hardware: snapshot.config.clone() })
    }

    pub fn hardware(&self, access: Access) -> u32 {
        let mut value = [0; 4];
        let bytes = usize::from(access.width().bytes());
        let at = usize::from(access.offset());
        value[..bytes].copy_from_slice(&self.hardware[at..at + bytes]);
        u32::from_le_bytes(value)
    }

    pub fn read(&mut self, access: Access) -> Result<u32, AccessDenied> {
        let read = self.view.read(access)?;
        let hardware = self.hardware(access);
        if read.hardware != 0 {
            self.view.told(access, hardware);
        }
        Ok(read.value(hardware))
    }

    pub fn write(&mut self, access: Access, value: u32) -> Result<Outcome, AccessDenied> {
        let write = self.view.write(access, value)?;
        let written = write.hardware.map(|hardware| {
            let value = hardware.merge(self.hardware(hardware.access));
            let bytes = hardware.access.width().bytes();
            let at = usize::from(hardware.access.offset());
            self.hardware[at..at + usize::from(bytes)].copy_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
            (hardware.access.offset(), bytes, value)
        });
        Ok(Outcome { verdict: write.verdict, written, effect: write.effect, missed: write.missed })
    }
}

/// The access of that width that holds the byte at `offset`.
pub fn access(offset: u16, width: Width) -> Access {
    match width {
        Width::Byte => Access::byte(offset),
        Width::Word => Access::word(offset & !1),
        Width::Dword => Access::dword(offset & !3),
    }
}

/// Every access of a space.
pub fn accesses(space: ConfigSize) -> impl Iterator<Item = Access> {
    let possible = move |width: Width| {
        let size = i32::from(width.bytes());
        (0..i32::from(space.bytes())).filter_map(move |offset| Access::new(offset, size, space).ok())
    };
    Width::ALL.into_iter().flat_map(possible)
}
