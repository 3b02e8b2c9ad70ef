use std::str::FromStr;

/// Address range behind a BAR or the expansion ROM: one line of the file `resource` that Linux shows for each device
/// in sysfs (Documentation/filesystems/sysfs-pci.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// First address, as the bus sees it.
    pub start: u64,
    /// Last address, inclusive.
    pub end: u64,
    /// Linux' `IORESOURCE_*` (include/linux/ioport.h): what the constants here name, and more. The lowest four bits
    /// are those of the BAR.
    pub flags: u64,
}

/// Text that is not a line of sysfs' `resource`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{line}\" is not a line of a PCI device's sysfs file `resource`: three hexadecimal numbers are expected")]
pub struct ParseResourceError {
    line: String,
}

impl Resource {
    /// Port addresses.
    pub const IO: u64 = 0x100;
    /// Memory addresses.
    pub const MEMORY: u64 = 0x200;
    /// Reads have no side effect.
    pub const PREFETCHABLE: u64 = 0x2000;
    /// The BAR takes two registers.
    pub const MEMORY_64: u64 = 0x10_0000;
    /// The range is known but switched off.
    pub const DISABLED: u64 = 0x1000_0000;
    /// No address was assigned.
    pub const UNSET: u64 = 0x2000_0000;
    /// Somebody in the host uses the range.
    pub const BUSY: u64 = 0x8000_0000;
    /// The BAR's own type bit for [`Resource::MEMORY_64`].
    const BAR_64: u64 = 0x4;
    /// For the expansion ROM: the range is a copy in the host's memory, at the legacy video address, not the device's.
    pub const ROM_SHADOW: u64 = 0x2;

    /// Whether there is an address range that a guest can be given.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.flags & (Self::IO | Self::MEMORY) != 0
            && self.flags & (Self::DISABLED | Self::UNSET | Self::BUSY) == 0
            && self.start <= self.end
    }

    /// Whether the range is of port addresses; memory otherwise.
    #[must_use]
    pub const fn is_io(&self) -> bool {
        self.flags & Self::IO != 0
    }

    /// Whether the BAR is a memory BAR of two registers.
    #[must_use]
    pub const fn is_64_bit(&self) -> bool {
        !self.is_io() && self.flags & (Self::MEMORY_64 | Self::BAR_64) != 0
    }

    /// Whether reads of the memory have no side effect.
    #[must_use]
    pub const fn is_prefetchable(&self) -> bool {
        !self.is_io() && self.flags & Self::PREFETCHABLE != 0
    }

    /// Size in bytes; 0 if the range is not [present](Self::is_present).
    #[must_use]
    pub const fn size(&self) -> u64 {
        // Saturates for the whole address space, which is nobody's BAR.
        if self.is_present() { self.end.saturating_sub(self.start).saturating_add(1) } else { 0 }
    }
}

impl FromStr for Resource {
    type Err = ParseResourceError;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
        let mut fields = line.split_ascii_whitespace().map(number);
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(Some(start)), Some(Some(end)), Some(Some(flags)), None) => Ok(Self { start, end, flags }),
            _ => Err(ParseResourceError { line: line.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(line: &str) -> Resource {
        line.parse().unwrap()
    }

    #[test]
    fn lines_of_sysfs_give_kind_and_size() {
        let memory = resource("0x00000000feb80000 0x00000000feb9ffff 0x0000000000040200");
        let ports = resource("0x000000000000c060 0x000000000000c07f 0x0000000000040101");
        let large = resource("0x0000380000000000 0x00003801ffffffff 0x000000000014220c");
        assert!(memory.is_present() && !memory.is_io() && !memory.is_64_bit() && !memory.is_prefetchable());
        assert!(ports.is_present() && ports.is_io() && !ports.is_64_bit() && !ports.is_prefetchable());
        assert!(large.is_present() && !large.is_io() && large.is_64_bit() && large.is_prefetchable());
        assert_eq!([memory.size(), ports.size(), large.size()], [0x2_0000, 0x20, 0x2_0000_0000]);
    }

    #[test]
    fn a_range_that_is_off_unassigned_in_use_or_reversed_is_absent() {
        for line in [
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x0000000000000000 0x000000000001ffff 0x0000000020040200",
            "0x00000000feb80000 0x00000000feb9ffff 0x0000000010040200",
            "0x00000000feb80000 0x00000000feb9ffff 0x0000000080040200",
            "0x00000000feb80000 0x00000000feb7ffff 0x0000000000040200",
        ] {
            assert!(!resource(line).is_present(), "{line}");
            assert_eq!(resource(line).size(), 0, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_three_numbers_is_refused_and_quoted() {
        for line in ["", "0x0 0x0", "0x0 0x0 0x0 0x0", "0x0 0x0 flags", "0x0 0x0 0x10000000000000000"] {
            let error = line.parse::<Resource>().unwrap_err();
            assert!(error.to_string().contains(line), "{line:?}");
        }
    }
}
