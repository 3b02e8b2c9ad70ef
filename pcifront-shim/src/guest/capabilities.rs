//! Walks of the two capability lists (PCI Local Bus Specification 6.7, PCI Express Base Specification 7.6.3).

use std::convert::Infallible;

/// A capability in one of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Capability ID: 8 bits below 0x100, 16 bits above.
    pub id: u16,
    /// Offset of its header, in bytes.
    pub offset: u16,
}

pub(super) const POWER_MANAGEMENT: u16 = 0x01;
pub(super) const MSI: u16 = 0x05;
pub(super) const PCI_EXPRESS: u16 = 0x10;
pub(super) const MSI_X: u16 = 0x11;

/// Where the extended list starts.
pub(super) const EXTENDED_START: u16 = 0x100;

const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES_LIST: u16 = 1 << 4;
const CAPABILITIES_POINTER: u16 = 0x34;
/// As many as fit between the header and 0x100: a list that is longer goes in circles.
const LIMIT: usize = (0x100 - 0x40) / 4;
/// As many as fit above 0x100.
const EXTENDED_LIMIT: usize = (0x1000 - 0x100) / 8;

/// Where the registers are read from.
pub(super) trait ReadConfig {
    /// Why a register cannot be read.
    type Error;

    /// 8 bits.
    fn byte(&mut self, offset: u16) -> Result<u8, Self::Error>;

    /// 16 bits.
    fn word(&mut self, offset: u16) -> Result<u16, Self::Error>;

    /// 32 bits.
    fn dword(&mut self, offset: u16) -> Result<u32, Self::Error>;
}

/// Recorded configuration space, with all ones beyond its end.
struct Recorded<'a>(&'a [u8]);

impl Recorded<'_> {
    fn bytes<const N: usize>(&self, offset: u16) -> [u8; N] {
        let found = self.0.get(offset.into()..).and_then(|rest| rest.first_chunk());
        found.copied().unwrap_or([0xff; N])
    }
}

impl ReadConfig for Recorded<'_> {
    type Error = Infallible;

    fn byte(&mut self, offset: u16) -> Result<u8, Infallible> {
        Ok(u8::from_le_bytes(self.bytes(offset)))
    }

    fn word(&mut self, offset: u16) -> Result<u16, Infallible> {
        Ok(u16::from_le_bytes(self.bytes(offset)))
    }

    fn dword(&mut self, offset: u16) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.bytes(offset)))
    }
}

/// The two lists of a recorded configuration space, the conventional one and the extended one.
#[must_use]
pub fn capabilities_of(config: &[u8]) -> (Vec<Capability>, Vec<Capability>) {
    let Ok(conventional) = standard(&mut Recorded(config));
    let Ok(extended) = extended(&mut Recorded(config));
    (conventional, extended)
}

/// The whole list.
pub(super) fn standard<R: ReadConfig>(config: &mut R) -> Result<Vec<Capability>, R::Error> {
    walk(config, None)
}

/// The offset of one capability; reads no further than to it.
pub(super) fn find<R: ReadConfig>(config: &mut R, id: u16) -> Result<Option<u16>, R::Error> {
    let last = walk(config, Some(id))?.pop();
    Ok(last.filter(|capability| capability.id == id).map(|capability| capability.offset))
}

/// The list, up to and with the capability with the ID `until`.
fn walk<R: ReadConfig>(config: &mut R, until: Option<u16>) -> Result<Vec<Capability>, R::Error> {
    let mut list = Vec::new();
    if config.word(STATUS)? & STATUS_CAPABILITIES_LIST == 0 {
        return Ok(list);
    }
    let mut pointer = config.byte(CAPABILITIES_POINTER)?;
    while pointer >= 0x40 && list.len() < LIMIT {
        let offset = u16::from(pointer & !3);
        let [id, next] = config.word(offset)?.to_le_bytes();
        if id == 0xff {
            break;
        }
        list.push(Capability { id: id.into(), offset });
        if until == Some(id.into()) {
            break;
        }
        pointer = next;
    }
    Ok(list)
}

/// The whole extended list.
pub(super) fn extended<R: ReadConfig>(config: &mut R) -> Result<Vec<Capability>, R::Error> {
    let mut list = Vec::new();
    let mut offset = EXTENDED_START;
    while offset >= EXTENDED_START && list.len() < EXTENDED_LIMIT {
        let header = config.dword(offset)?;
        if header == 0 || header == u32::MAX {
            break;
        }
        let [low, high, next_low, next_high] = header.to_le_bytes();
        list.push(Capability { id: u16::from_le_bytes([low, high]), offset });
        offset = u16::from_le_bytes([next_low, next_high]) >> 4 & !3;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0x40: power management, then 0x50: MSI, which points back to the start.
    fn recorded(length: usize) -> Vec<u8> {
        let mut config = vec![0; length];
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        config[0x50..0x52].copy_from_slice(&[0x05, 0x00]);
        config
    }

    #[test]
    fn lists_of_a_recorded_space_are_found() {
        let mut config = recorded(4096);
        config[0x100..0x104].copy_from_slice(&0x1401_0001_u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x0001_0003_u32.to_le_bytes());
        let (conventional, extended) = capabilities_of(&config);
        assert_eq!(conventional, [Capability { id: 1, offset: 0x40 }, Capability { id: 5, offset: 0x50 }]);
        assert_eq!(extended, [Capability { id: 1, offset: 0x100 }, Capability { id: 3, offset: 0x140 }]);
    }

    #[test]
    fn conventional_space_has_no_extended_list_and_a_list_in_circles_ends() {
        let mut config = recorded(256);
        config[0x51] = 0x40;
        let (conventional, extended) = capabilities_of(&config);
        assert_eq!(conventional.len(), LIMIT);
        assert_eq!(extended, []);
        assert_eq!(capabilities_of(&[]), (Vec::new(), Vec::new()));
    }
}
