//! A guest's view in front of a device that keeps whatever is written to it.

use xenpcid_policy::{Access, ConfigView, Snapshot, Width};

use crate::model::Outcome;

/// One guest's view with hardware behind it, which keeps what is written.
pub struct Machine {
    pub view: ConfigView,
    pub hardware: Vec<u8>,
}

impl Machine {
    pub fn new(snapshot: &Snapshot) -> Self {
        Self { view: ConfigView::compile(snapshot).unwrap(), hardware: snapshot.config.clone() }
    }

    pub fn hardware(&self, access: Access) -> u32 {
        let mut value = [0; 4];
        let bytes = usize::from(access.width().bytes());
        let at = usize::from(access.offset());
        value[..bytes].copy_from_slice(&self.hardware[at..at + bytes]);
        u32::from_le_bytes(value)
    }

    pub fn read(&self, access: Access) -> u32 {
        self.view.read(access).value(self.hardware(access))
    }

    pub fn write(&mut self, access: Access, value: u32) -> Option<Outcome> {
        let write = self.view.write(access, value).ok()?;
        let written = write.hardware.map(|hardware| {
            let value = hardware.merge(self.hardware(hardware.access));
            let bytes = hardware.access.width().bytes();
            let at = usize::from(hardware.access.offset());
            self.hardware[at..at + usize::from(bytes)].copy_from_slice(&value.to_le_bytes()[..usize::from(bytes)]);
            (hardware.access.offset(), bytes, value)
        });
        Some(Outcome { verdict: write.verdict, written, effect: write.effect })
    }
}

/// Every access of the device's space.
pub fn accesses(snapshot: &Snapshot) -> impl Iterator<Item = Access> {
    let space = snapshot.size().unwrap();
    let possible = move |width: Width| {
        let size = i32::from(width.bytes());
        (0..i32::from(space.bytes())).filter_map(move |offset| Access::new(offset, size, space).ok())
    };
    Width::ALL.into_iter().flat_map(possible)
}
