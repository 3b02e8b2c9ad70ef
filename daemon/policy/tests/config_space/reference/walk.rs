//! Capability lists, walked and shortened by hand.

use xenpcid_policy::Snapshot;

use super::registers;

/// A kind of capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// By its 8-bit identifier, in the first 256 bytes.
    Conventional(u8),
    /// By its 16-bit identifier, above.
    Extended(u16),
}

/// A capability at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub at: u16,
}

pub fn byte(config: &[u8], at: u16) -> u8 {
    config.get(usize::from(at)).copied().unwrap_or(0xff)
}

pub fn word(config: &[u8], at: u16) -> u16 {
    u16::from(byte(config, at)) | u16::from(byte(config, at + 1)) << 8
}

pub fn dword(config: &[u8], at: u16) -> u32 {
    u32::from(word(config, at)) | u32::from(word(config, at + 2)) << 16
}

/// Follows both lists of a space, as a guest's driver does. A list that does not end, or leaves its part of the space,
/// is an error.
pub fn walk(config: &[u8]) -> Result<Vec<Found>, String> {
    let mut found: Vec<Found> = Vec::new();
    // Status bit 4: there is a list (PCI 6.7).
    let mut next = if byte(config, 0x06) & 0x10 == 0 { 0 } else { byte(config, 0x34) & 0xfc };
    while next != 0 {
        let at = u16::from(next);
        if at < 0x40 || found.iter().any(|before| before.at == at) {
            return Err(format!("the conventional list goes wrong at {at:#x}"));
        }
        found.push(Found { kind: Kind::Conventional(byte(config, at)), at });
        next = byte(config, at + 1) & 0xfc;
    }
    if config.len() == 256 || matches!(dword(config, 0x100), 0 | 0xffff_ffff) {
        return Ok(found);
    }
    let mut at = 0x100;
    while at != 0 {
        let header = dword(config, at);
        if at < 0x100 || found.iter().any(|before| before.at == at) {
            return Err(format!("the extended list goes wrong at {at:#x}"));
        }
        found.push(Found { kind: Kind::Extended((header & 0xffff) as u16), at });
        at = (header >> 20) as u16 & 0xffc;
    }
    Ok(found)
}

impl Found {
    pub fn is_extended(&self) -> bool {
        matches!(self.kind, Kind::Extended(_))
    }

    /// The end of its bytes: what its specification says of its length, but not beyond the capability above it. One of
    /// which only the header is known goes on to there.
    pub fn end(&self, all: &[Found], snapshot: &Snapshot) -> u16 {
        let end_of_part = if self.is_extended() { 0x1000 } else { 0x100 };
        let above = all.iter().filter(|other| other.is_extended() == self.is_extended() && other.at > self.at);
        let next = above.map(|other| other.at).min().unwrap_or(end_of_part);
        let layout = registers::of(self.kind, self.at, snapshot);
        let known = layout.iter().map(|register| register.offset + register.bytes).max().unwrap();
        let length = match self.kind {
            // Vendor-specific capabilities have their length in their third byte, at least what is known of them.
            Kind::Conventional(0x09) => known.max(byte(&snapshot.config, self.at + 2).into()),
            _ if layout.len() > 1 => known,
            _ => 0x1000,
        };
        next.min(self.at + length)
    }
}

/// The space at the claim with the lists leading past the capabilities that are hidden. Their bytes are zero; at 0x100,
/// where the extended list has to start, a capability of no kind (PCIe 7.9.28) is left if others follow.
pub fn without(snapshot: &Snapshot, all: &[Found], is_hidden: impl Fn(Kind) -> bool) -> Vec<u8> {
    let config = &snapshot.config;
    let mut shown = config.clone();
    for hidden in all.iter().filter(|found| is_hidden(found.kind)) {
        for at in hidden.at..hidden.end(all, snapshot) {
            shown[usize::from(at)] = 0;
        }
    }
    let of_part = |extended: bool| all.iter().filter(move |found| found.is_extended() == extended);
    let visible = |extended: bool| -> Vec<u16> {
        of_part(extended).filter(|found| !is_hidden(found.kind)).map(|found| found.at).collect()
    };
    if of_part(false).any(|found| is_hidden(found.kind)) {
        let visible = visible(false);
        let mut pointer = 0x34;
        for at in &visible {
            shown[pointer] = *at as u8;
            pointer = usize::from(*at) + 1;
        }
        shown[pointer] = 0;
    }
    if of_part(true).any(|found| is_hidden(found.kind)) {
        let mut visible = visible(true);
        let starts_hidden = visible.first() != Some(&0x100);
        if starts_hidden {
            visible.insert(0, 0x100);
        }
        for (n, at) in visible.iter().enumerate() {
            let next = visible.get(n + 1).copied().unwrap_or(0);
            let low = if n == 0 && starts_hidden { 0 } else { dword(config, *at) & 0x000f_ffff };
            let header = u32::from(next) << 20 | low;
            shown[usize::from(*at)..][..4].copy_from_slice(&header.to_le_bytes());
        }
    }
    shown
}
