//! What random accesses spare: data, each entry with its reason. The default is `spare.toml` beside this file.

use std::fmt;
use std::path::Path;

use pcifront_shim::trace::Direction;
use serde::Deserialize;
use xenpcid_address::Sbdf;

use crate::Error;
use crate::config_text::short;
use crate::exchange::ConfigAccess;
use crate::registers::{Layout, Placed, is_known};

/// The list that is used if no other is given.
pub const DEFAULT: &str = include_str!("spare.toml");

/// A list, not yet at the places that a function has its registers at.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpareList {
    spare: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    register: String,
    bits: Option<u32>,
    #[serde(default)]
    access: Spared,
    why: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Spared {
    #[default]
    Write,
    Any,
}

/// What is spared of some functions.
#[derive(Clone, Debug, Default)]
pub struct Spare {
    registers: Vec<(Sbdf, Placed, Entry)>,
}

impl SpareList {
    /// Reads a file, or takes the default without one.
    ///
    /// # Errors
    /// It cannot be read, or is not such a list, or names what no device has.
    pub fn read(path: Option<&Path>) -> Result<Self, Error> {
        match path {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
                Self::parse(&text).map_err(|problem| Error::malformed(path, problem))
            }
            None => Self::parse(DEFAULT).map_err(|problem| Error::malformed(Path::new("spare.toml"), problem)),
        }
    }

    /// Reads the text of a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let list: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match list.spare.iter().find(|entry| !is_known(&entry.register)) {
            Some(Entry { register, .. }) => {
                Err(format!("no register is called \"{register}\", and no capability, if it ends in .*"))
            }
            None => Ok(list),
        }
    }
}

impl Spare {
    /// Spares what the list names in a function, too.
    pub fn add(&mut self, list: &SpareList, address: Sbdf, layout: &Layout) {
        for entry in &list.spare {
            let places = layout.named(&entry.register).into_iter();
            self.registers.extend(places.map(|place| (address, place, entry.clone())));
        }
    }

    /// The access as it may be made: unchanged, without the bits that are spared, or not at all. What is not valid is refused
    /// by every backend, and unchanged.
    #[must_use]
    pub fn admit(&self, mut access: ConfigAccess) -> Option<ConfigAccess> {
        let Some((offset, width)) = access.valid() else { return Some(access) };
        let bytes = u16::from(width.bytes());
        let touched = self
            .registers
            .iter()
            .filter(|(address, place, _)| *address == access.address && place.overlaps(offset, bytes));
        for (_, place, Entry { bits, access: spared, .. }) in touched {
            match (access.direction, spared, bits) {
                (Direction::Read, Spared::Write, _) => {}
                (Direction::Read, Spared::Any, _) | (Direction::Write, _, None) => return None,
                (Direction::Write, _, Some(bits)) => {
                    // Both are shifted as parts of the bytes around them.
                    let start = place.offset.min(offset);
                    let at = |offset: u16| u32::from(offset.abs_diff(start)) * 8;
                    let spared = u64::from(*bits) << at(place.offset) >> at(offset);
                    let [.., a, b, c, d] = spared.to_be_bytes();
                    access.value &= !u32::from_be_bytes([a, b, c, d]);
                }
            }
        }
        Some(access)
    }
}

/// As comments of a recording.
impl fmt::Display for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (address, Placed { name, offset, .. }, Entry { bits, why, .. }) in &self.registers {
            write!(f, "# spared: {} {name} at {offset:#x}", short(*address))?;
            if let Some(bits) = bits {
                write!(f, ", bits {bits:#x}")?;
            }
            writeln!(f, ": {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::tests::e1000e;

    const ADDRESS: Sbdf = Sbdf::from_devfn(0, 0, 0);

    fn spare() -> Spare {
        let mut spare = Spare::default();
        spare.add(&SpareList::read(None).unwrap(), ADDRESS, &Layout::of(&e1000e()));
        spare
    }

    fn write(size: i32, offset: i32, value: u32) -> ConfigAccess {
        ConfigAccess { direction: Direction::Write, address: ADDRESS, size, offset, value }
    }

    #[test]
    fn default_list_names_only_what_devices_can_have() {
        assert!(SpareList::parse(DEFAULT).unwrap().spare.iter().all(|entry| !entry.why.is_empty()));
    }

    #[test]
    fn register_that_is_spared_is_not_written_by_any_access_that_touches_it() {
        let spare = spare();
        assert_eq!(spare.admit(write(4, 0x04, 0)), None);
        assert_eq!(spare.admit(write(1, 0x07, 0)), None);
        assert_eq!(spare.admit(write(2, 0x04, 7)), Some(write(2, 0x04, 7)));
        let read = ConfigAccess { direction: Direction::Read, ..write(4, 0x04, 0) };
        assert_eq!(spare.admit(read), Some(read));
    }

    #[test]
    fn bits_that_are_spared_are_written_as_0_at_each_size() {
        let spare = spare();
        // pm.pmcsr is at 0xcc, pcie.devctl at 0xe8 with pcie.devsta, which is spared as a whole, behind it.
        assert_eq!(spare.admit(write(2, 0xcc, 0xffff)), Some(write(2, 0xcc, 0x7ffc)));
        assert_eq!(spare.admit(write(4, 0xcc, 0xffff_ffff)), Some(write(4, 0xcc, 0xffff_7ffc)));
        assert_eq!(spare.admit(write(1, 0xcd, 0xff)), Some(write(1, 0xcd, 0x7f)));
        assert_eq!(spare.admit(write(2, 0xe8, 0xffff)), Some(write(2, 0xe8, 0x7fff)));
        assert_eq!(spare.admit(write(4, 0xe8, 0)), None);
    }

    #[test]
    fn capability_whose_answers_depend_on_time_is_not_read_either() {
        let mut config = e1000e();
        config[0xc8] = 0x03; // Vital Product Data in the place of power management.
        let mut spare = Spare::default();
        spare.add(&SpareList::parse(DEFAULT).unwrap(), ADDRESS, &Layout::of(&config));
        let read = |offset| ConfigAccess { direction: Direction::Read, ..write(4, offset, 0) };
        assert_eq!(spare.admit(read(0xcc)), None);
        assert_eq!(spare.admit(read(0xd0)), Some(read(0xd0)));
    }

    #[test]
    fn other_functions_and_invalid_accesses_are_left_alone() {
        let spare = spare();
        let elsewhere = ConfigAccess { address: Sbdf::from_devfn(0, 0, 1), ..write(2, 0x06, 1) };
        assert_eq!(spare.admit(elsewhere), Some(elsewhere));
        assert_eq!(spare.admit(write(3, 0x06, 1)), Some(write(3, 0x06, 1)));
        assert_eq!(spare.admit(write(2, -2, 1)), Some(write(2, -2, 1)));
    }

    #[test]
    fn list_with_a_mistake_is_refused() {
        let entry = |text: &str| SpareList::parse(&format!("[[spare]]\n{text}")).unwrap_err();
        assert!(entry("register = \"pm.control\"\nwhy = \"x\"").contains("pm.control"));
        assert!(entry("register = \"status\"").contains("why"));
        assert!(entry("register = \"status\"\nwhy = \"x\"\nmask = 1").contains("mask"));
    }
}
