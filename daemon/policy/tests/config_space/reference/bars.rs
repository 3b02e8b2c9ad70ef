//! Base address registers, from the resource table: the address that is shown, and the answer to a dword of ones.

use xenpcid_policy::{Resource, Snapshot};

/// One base address register with something behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub at: u16,
    pub address: u32,
    /// What it reads after a sizing write.
    pub size: u32,
    /// Bits that a sizing write may have clear.
    pub low_bits: u32,
}

pub const ROM: u16 = 0x30;

/// All that the device has, by offset.
pub fn bars(snapshot: &Snapshot) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (number, resource) in snapshot.resources.iter().enumerate() {
        let at = if number == 6 { ROM } else { 0x10 + 4 * number as u16 };
        let is_there = resource.flags & (Resource::IO | Resource::MEMORY) != 0
            && resource.flags & (Resource::DISABLED | Resource::UNSET | Resource::BUSY) == 0
            && resource.start <= resource.end;
        let is_io = resource.flags & Resource::IO != 0;
        if !is_there || at == ROM && (is_io || resource.flags & Resource::ROM_SHADOW != 0) {
            continue;
        }
        let low = |value: u64| (value & 0xffff_ffff) as u32;
        let ones_above = !(resource.end - resource.start);
        let (kind, low_bits) = match (at == ROM, is_io) {
            (true, _) => (0, 0x7ff),
            // Bit 0: ports.
            (_, true) => (1, 0x3),
            // Bits 1 and 2: width; bit 3: prefetchable. Linux keeps them in the resource's flags.
            (_, false) => (low(resource.flags) & 0xf, 0xf),
        };
        let is_64_bit = at != ROM && !is_io && resource.flags & (Resource::MEMORY_64 | 0x4) != 0;
        let kind = if is_64_bit { kind | 0x4 } else { kind };
        bars.push(Bar { at, address: low(resource.start) | kind, size: low(ones_above) | kind, low_bits });
        if is_64_bit {
            let (address, size) = (low(resource.start >> 32), low(ones_above >> 32));
            bars.push(Bar { at: at + 4, address, size, low_bits: 0 });
        }
    }
    bars
}
