use std::fmt;

/// How many bytes a configuration access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
}

impl Width {
    /// Every width, narrowest first.
    pub const ALL: [Self; 3] = [Self::Byte, Self::Word, Self::Dword];

    /// Size in bytes: 1, 2 or 4.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The bits that a value of this width can have.
    #[must_use]
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }

    /// The lowest address bits that an aligned access of this width has clear.
    const fn alignment_mask(self) -> u16 {
        match self {
            Self::Byte => 0,
            Self::Word => 1,
            Self::Dword => 3,
        }
    }
}

/// How large a function's configuration space is (PCI Express Base Specification 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigSize {
    /// 256 bytes: conventional PCI.
    Conventional,
    /// 4096 bytes: PCI Express, PCI-X mode 2.
    Express,
}

impl ConfigSize {
    /// Size in bytes: 256 or 4096.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Conventional => 256,
            Self::Express => 4096,
        }
    }

    /// The space that is `length` bytes long; `None` unless that is 256 or 4096.
    #[must_use]
    pub const fn from_len(length: usize) -> Option<Self> {
        match length {
            256 => Some(Self::Conventional),
            4096 => Some(Self::Express),
            _ => None,
        }
    }

    /// The accesses of 4 bytes that cover the space, in order.
    pub fn dwords(self) -> impl Iterator<Item = Access> {
        (0..self.bytes()).step_by(4).map(Access::dword)
    }
}

/// A configuration access that is possible: 1, 2 or 4 bytes, aligned to its width, inside the space it was made for.
///
/// A guest's numbers become an `Access` once, where its request comes in; code behind that needs no check of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    offset: u16,
    width: Width,
}

/// Numbers that are no configuration access. On the wire: `XEN_PCI_ERR_invalid_offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no configuration access of {size} bytes at offset {offset:#x} in a space of {} bytes: \
         the size must be 1, 2 or 4, the offset a multiple of it, and all bytes inside", .space.bytes())]
pub struct InvalidAccess {
    /// Offset as asked for.
    pub offset: i32,
    /// Number of bytes as asked for.
    pub size: i32,
    /// Space that the access was for.
    pub space: ConfigSize,
}

impl Access {
    /// The command register (PCI Local Bus Specification 6.2.2).
    pub const COMMAND: Self = Self::word(0x04);

    /// An access from a guest's numbers, which are signed on the wire (`xen_pci_op` in xen/include/public/io/pciif.h).
    ///
    /// # Errors
    /// A size other than 1, 2 and 4; an offset that is negative, not a multiple of the size, or beyond the space.
    pub fn new(offset: i32, size: i32, space: ConfigSize) -> Result<Self, InvalidAccess> {
        let invalid = InvalidAccess { offset, size, space };
        let width = match size {
            1 => Width::Byte,
            2 => Width::Word,
            4 => Width::Dword,
            _ => return Err(invalid),
        };
        let offset = u16::try_from(offset).map_err(|_| invalid)?;
        // Spaces are multiples of 4 bytes, so an aligned access that starts inside also ends inside.
        if offset >= space.bytes() || offset & width.alignment_mask() != 0 {
            return Err(invalid);
        }
        Ok(Self { offset, width })
    }

    /// A one-byte access of the daemon itself, for a constant.
    ///
    /// # Panics
    /// If `offset` is not below 4096; in a constant that is a compile error.
    #[must_use]
    pub const fn byte(offset: u16) -> Self {
        Self::constant(offset, Width::Byte)
    }

    /// A two-byte access of the daemon itself, for a constant.
    ///
    /// # Panics
    /// If `offset` is odd or not below 4096; in a constant that is a compile error.
    #[must_use]
    pub const fn word(offset: u16) -> Self {
        Self::constant(offset, Width::Word)
    }

    /// A four-byte access of the daemon itself, for a constant.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 or not below 4096; in a constant that is a compile error.
    #[must_use]
    pub const fn dword(offset: u16) -> Self {
        Self::constant(offset, Width::Dword)
    }

    const fn constant(offset: u16, width: Width) -> Self {
        assert!(offset < ConfigSize::Express.bytes() && offset & width.alignment_mask() == 0);
        Self { offset, width }
    }

    /// The access to `offset` bytes after `base`, both known to be good.
    pub(crate) const fn within(base: u16, offset: u16, width: Width) -> Self {
        Self { offset: base.wrapping_add(offset), width }
    }

    /// The bytes of its 4-byte unit that it moves, as a mask of four.
    pub(crate) const fn lanes(self) -> u8 {
        let bytes = match self.width {
            Width::Byte => 0b0001,
            Width::Word => 0b0011,
            Width::Dword => 0b1111,
        };
        bytes << (self.offset & 3)
    }

    /// The narrowest access that moves these bytes of the 4-byte unit at `base`.
    pub(crate) const fn of_lanes(base: u16, lanes: u8) -> Self {
        let (first, width) = match lanes {
            0b0001 => (0, Width::Byte),
            0b0010 => (1, Width::Byte),
            0b0100 => (2, Width::Byte),
            0b1000 => (3, Width::Byte),
            0b0011 => (0, Width::Word),
            0b1100 => (2, Width::Word),
            _ => (0, Width::Dword),
        };
        Self::within(base, first, width)
    }

    /// First byte, a multiple of the width.
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.offset
    }

    /// Number of bytes.
    #[must_use]
    pub const fn width(self) -> Width {
        self.width
    }

    /// Number of the 4-byte unit that holds the access.
    pub(crate) fn dword_index(self) -> usize {
        usize::from(self.offset >> 2)
    }

    /// How far the access's first bit stands above the first bit of its 4-byte unit: 0, 8, 16 or 24.
    pub(crate) const fn shift(self) -> u32 {
        (self.offset as u32 & 3) << 3
    }
}

impl fmt::Display for Access {
    /// Offset and width, as `0x04+2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x}+{}", self.offset, self.width.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_numbers_come_an_access_is_aligned_and_inside(offset: i32, size in -1i32..10) {
            for space in [ConfigSize::Conventional, ConfigSize::Express] {
                for offset in [offset, offset & 0x1fff, offset & 0x1fff | i32::MIN] {
                    let inside = offset >= 0 && i64::from(offset) + i64::from(size) <= i64::from(space.bytes());
                    let possible = [1, 2, 4].contains(&size) && inside && offset % size == 0;
                    let access = Access::new(offset, size, space);
                    prop_assert_eq!(access.is_ok(), possible);
                    if let Ok(access) = access {
                        prop_assert_eq!(i32::from(access.offset()), offset);
                        prop_assert_eq!(i32::from(access.width().bytes()), size);
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_bytes_of_each_space_are_inside_and_the_next_are_not() {
        for (space, end) in [(ConfigSize::Conventional, 256), (ConfigSize::Express, 4096)] {
            for size in [1, 2, 4] {
                assert!(Access::new(end - size, size, space).is_ok());
                assert_eq!(Access::new(end, size, space), Err(InvalidAccess { offset: end, size, space }));
            }
        }
    }

    #[test]
    fn a_negative_offset_is_refused_though_it_is_a_multiple_of_the_size() {
        assert!(Access::new(-4, 4, ConfigSize::Express).is_err());
    }

    #[test]
    fn only_256_and_4096_bytes_are_a_configuration_space() {
        let spaces: Vec<ConfigSize> = (0..5000).filter_map(ConfigSize::from_len).collect();
        assert_eq!(spaces, [ConfigSize::Conventional, ConfigSize::Express]);
    }
}
