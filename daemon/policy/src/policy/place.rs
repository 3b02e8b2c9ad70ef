use std::fmt;

use crate::access::{ConfigSize, Width};
use crate::capability::{CapabilityId, ExtendedCapabilityId};
use crate::register::Register;
use crate::registers::{self, AnyCapabilityId};

/// Which register a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// One with a name. In a capability with several layouts it may be at several offsets.
    Named {
        /// The name.
        name: &'static str,
        /// The capability it belongs to; `None` for the header.
        capability: Option<AnyCapabilityId>,
        /// Its width.
        width: Width,
    },
    /// Some bytes of every capability of a kind.
    InCapability {
        /// The kind.
        capability: AnyCapabilityId,
        /// Offset from its start, a multiple of the width.
        offset: u16,
        /// How many bytes.
        width: Width,
    },
    /// Some bytes at a fixed place, which means the same only on devices of one model.
    At {
        /// Offset in the configuration space, a multiple of the width.
        offset: u16,
        /// How many bytes.
        width: Width,
    },
}

/// Numbers or names that are no register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No register has that name.
    #[error("there is no register {name}{}", match .nearest { Some(nearest) => format!("; did you mean {nearest}?"), None => String::new() })]
    UnknownRegister {
        /// As it was written.
        name: String,
        /// A name that is not far from it.
        nearest: Option<&'static str>,
    },
    /// No capability has that name.
    #[error("there is no capability {name}{}", match .nearest { Some(nearest) => format!("; did you mean {nearest}?"), None => String::new() })]
    UnknownCapability {
        /// As it was written.
        name: String,
        /// A name that is not far from it.
        nearest: Option<&'static str>,
    },
    /// The bytes are not inside of the space, or not aligned.
    #[error(
        "{width} bytes at {offset:#x} are no register: the width is 1, 2 or 4, the offset a multiple of it, and the end at most {end:#x}"
    )]
    Misplaced {
        /// As it was written.
        offset: i64,
        /// As it was written.
        width: i64,
        /// End of the space.
        end: u16,
    },
}

impl Place {
    /// The register with this name.
    ///
    /// # Errors
    /// [`PlaceError::UnknownRegister`].
    pub fn named(name: &str) -> Result<Self, PlaceError> {
        match registers::named(name).next() {
            Some((capability, register)) => Ok(Self::Named { name: register.name, capability, width: register.width }),
            None => {
                let in_capabilities = registers::CAPABILITIES.iter().flat_map(registers::CapabilityKind::registers);
                let names = registers::HEADER.iter().chain(in_capabilities).map(|register| register.name);
                Err(PlaceError::UnknownRegister { name: name.to_owned(), nearest: nearest(name, names) })
            }
        }
    }

    /// Bytes of a capability.
    ///
    /// # Errors
    /// [`PlaceError::Misplaced`].
    pub fn in_capability(capability: AnyCapabilityId, offset: i64, width: i64) -> Result<Self, PlaceError> {
        let end = match capability {
            AnyCapabilityId::Conventional(_) => ConfigSize::Conventional.bytes(),
            AnyCapabilityId::Extended(_) => ConfigSize::Express.bytes(),
        };
        let (offset, width) = aligned(offset, width, end)?;
        Ok(Self::InCapability { capability, offset, width })
    }

    /// Bytes at a fixed place.
    ///
    /// # Errors
    /// [`PlaceError::Misplaced`].
    pub fn at(offset: i64, width: i64) -> Result<Self, PlaceError> {
        let (offset, width) = aligned(offset, width, ConfigSize::Express.bytes())?;
        Ok(Self::At { offset, width })
    }

    /// How many bytes it is about.
    #[must_use]
    pub const fn width(&self) -> Width {
        match self {
            Self::Named { width, .. } | Self::InCapability { width, .. } | Self::At { width, .. } => *width,
        }
    }

    /// The capability that it is in; `None` for the header and for fixed places.
    #[must_use]
    pub const fn capability(&self) -> Option<AnyCapabilityId> {
        match self {
            Self::Named { capability, .. } => *capability,
            Self::InCapability { capability, .. } => Some(*capability),
            Self::At { .. } => None,
        }
    }

    /// The registers of the tables that lie under it in some layout that any device may have, with the distance of their start from its own.
    pub(crate) fn registers(&self) -> Vec<(i32, &'static Register)> {
        match *self {
            Self::Named { name, .. } => registers::named(name).map(|(_, register)| (0, register)).collect(),
            Self::InCapability { capability, offset, width } => {
                let layouts = registers::capability(capability).map_or(&[][..], |kind| kind.layouts);
                layouts.iter().flat_map(|layout| under(layout, offset, width)).collect()
            }
            Self::At { offset, width } => under(registers::HEADER, offset, width).collect(),
        }
    }
}

fn under(table: &'static [Register], offset: u16, width: Width) -> impl Iterator<Item = (i32, &'static Register)> {
    let (start, end) = (i32::from(offset), i32::from(offset).saturating_add(i32::from(width.bytes())));
    table.iter().filter_map(move |register| {
        let first = i32::from(register.offset);
        let is_under = first < end && first.saturating_add(i32::from(register.width.bytes())) > start;
        is_under.then_some((first.saturating_sub(start), register))
    })
}

fn aligned(offset: i64, width: i64, end: u16) -> Result<(u16, Width), PlaceError> {
    let misplaced = PlaceError::Misplaced { offset, width, end };
    let width = match width {
        1 => Width::Byte,
        2 => Width::Word,
        4 => Width::Dword,
        _ => return Err(misplaced),
    };
    let offset = u16::try_from(offset).map_err(|_| misplaced.clone())?;
    if offset >= end || offset & width.bytes().wrapping_sub(1) != 0 { Err(misplaced) } else { Ok((offset, width)) }
}

impl AnyCapabilityId {
    /// The capability with this name (`aer`, `pm`), or with this number: `0x09` in the conventional list, `0x0023` with
    /// four digits in the extended one.
    ///
    /// # Errors
    /// [`PlaceError::UnknownCapability`].
    pub fn named(name: &str) -> Result<Self, PlaceError> {
        if let Some(kind) = registers::capability_named(name) {
            return Ok(kind.id);
        }
        let number = name.strip_prefix("0x").map(|digits| (digits.len(), u16::from_str_radix(digits, 16)));
        match number {
            Some((4, Ok(id))) => Ok(Self::Extended(ExtendedCapabilityId(id))),
            Some((1 | 2, Ok(id))) => Ok(Self::Conventional(CapabilityId(id.to_le_bytes()[0]))),
            _ => {
                let names = registers::CAPABILITIES.iter().map(|kind| kind.name);
                Err(PlaceError::UnknownCapability { name: name.to_owned(), nearest: nearest(name, names) })
            }
        }
    }
}

/// The name that takes fewest changes, if they are few.
fn nearest(wrong: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, name) = names.map(|name| (distance(wrong, name), name)).min()?;
    (distance <= wrong.len().div_ceil(3)).then_some(name)
}

/// Levenshtein's: how many characters are to be inserted, removed or replaced.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (n, in_a) in (1_usize..).zip(a.chars()) {
        let mut diagonal = std::mem::replace(row.first_mut().unwrap_or(&mut 0), n);
        let mut left = n;
        for (cell, in_b) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal.saturating_add(usize::from(in_a != in_b));
            diagonal = *cell;
            left = replaced.min(left.saturating_add(1)).min(cell.saturating_add(1));
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

impl fmt::Display for AnyCapabilityId {
    /// Its name, or its number as [`AnyCapabilityId::named`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (registers::capability(*self), self) {
            (Some(kind), _) => f.write_str(kind.name),
            (None, Self::Conventional(id)) => write!(f, "{:#04x}", id.0),
            (None, Self::Extended(id)) => write!(f, "{:#06x}", id.0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { name, .. } => f.write_str(name),
            Self::InCapability { capability, offset, width } => {
                write!(f, "{capability}+{offset:#04x} ({} bytes)", width.bytes())
            }
            Self::At { offset, width } => write!(f, "{offset:#04x} ({} bytes)", width.bytes()),
        }
    }
}
