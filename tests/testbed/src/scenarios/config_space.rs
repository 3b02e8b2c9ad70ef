//! Configuration spaces as scenarios look at them: what the hardware holds, read in dom0, and what a guest sees.

use std::fmt;

use crate::error::{Error, Result};
use crate::machine::Channel;

/// Capability IDs (PCI Code and ID Assignment Specification).
pub const MSI: u8 = 0x05;
/// See [`MSI`].
pub const MSIX: u8 = 0x11;

/// Offsets of the header (PCI Local Bus Specification 3.0, 6.1).
const STATUS: usize = 0x06;
const STATUS_CAPABILITY_LIST: u8 = 0x10;
const CAPABILITIES: usize = 0x34;

/// The bytes of one function, 256 or 4096.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace(Vec<u8>);

/// A byte that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub offset: usize,
    /// What it was.
    pub before: u8,
    /// What it is.
    pub after: u8,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#05x}: {:02x} became {:02x}", self.offset, self.before, self.after)
    }
}

impl ConfigSpace {
    /// Reads a function by sysfs: the hardware's registers in dom0, what the backend lets it see in a guest.
    ///
    /// # Errors
    /// If there is no such function.
    pub fn read(place: &Channel, sbdf: &str) -> Result<Self> {
        let text = place.sh(&format!("od -An -v -tx1 {}", file(sbdf)))?;
        let bytes = text.split_whitespace().map(|word| u8::from_str_radix(word, 16));
        bytes.collect::<std::result::Result<_, _>>().map(Self).map_err(|error| Error::Malformed {
            object: format!("the configuration space of {sbdf}"),
            problem: format!("{error} in:\n{text}"),
        })
    }

    /// A byte; 0 where there is none.
    #[must_use]
    pub fn byte(&self, offset: usize) -> u8 {
        self.0.get(offset).copied().unwrap_or(0)
    }

    /// Offset of the first capability with this ID.
    #[must_use]
    pub fn capability(&self, id: u8) -> Option<usize> {
        if self.byte(STATUS) & STATUS_CAPABILITY_LIST == 0 {
            return None;
        }
        let next = |at: usize| usize::from(self.byte(at) & !3);
        // As many as fit into 256 bytes, so that a chain that closes ends.
        std::iter::successors(Some(next(CAPABILITIES)), |at| Some(next(at + 1)))
            .take(48)
            .take_while(|at| *at != 0)
            .find(|at| self.byte(*at) == id)
    }

    /// The bytes that differ in what is left of them under `relevant`, which gives the bits that count for an offset.
    #[must_use]
    pub fn differences(&self, after: &Self, relevant: impl Fn(usize) -> u8) -> Vec<Difference> {
        (0..self.0.len().max(after.0.len()))
            .map(|offset| Difference { offset, before: self.byte(offset), after: after.byte(offset) })
            .filter(|difference| (difference.before ^ difference.after) & relevant(difference.offset) != 0)
            .collect()
    }
}

/// The file that is a function's configuration space.
#[must_use]
pub fn file(sbdf: &str) -> String {
    format!("/sys/bus/pci/devices/{sbdf}/config")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(set: &[(usize, u8)]) -> ConfigSpace {
        let mut bytes = vec![0; 256];
        for (offset, value) in set {
            bytes[*offset] = *value;
        }
        ConfigSpace(bytes)
    }

    #[test]
    fn capability_is_found_in_the_chain_and_a_loop_ends() {
        let chain = [(0x06, 0x10), (0x34, 0x40), (0x40, 0x01), (0x41, 0x50), (0x50, MSI), (0x51, 0x40)];
        assert_eq!(space(&chain).capability(MSI), Some(0x50));
        assert_eq!(space(&chain).capability(MSIX), None);
        assert_eq!(
            space(&[(0x34, 0x40), (0x40, MSI)]).capability(MSI),
            None,
            "no list according to the status register"
        );
    }

    #[test]
    fn differences_are_those_in_relevant_bits() {
        let (before, after) = (space(&[(4, 0x07), (0x10, 1)]), space(&[(4, 0x03), (0x10, 2)]));
        let without_bus_master = |offset| if offset == 4 { !0x04 } else { 0xff };
        assert_eq!(before.differences(&after, without_bus_master), [Difference { offset: 0x10, before: 1, after: 2 }]);
        assert_eq!(before.differences(&after, |_| 0xff).len(), 2);
    }
}
