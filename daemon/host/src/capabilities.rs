//! Capabilities of a function, found in its registers as they are now.
//!
//! For what is asked of any function of the host, with few reads. What a guest's view is made from is found by `xenpcid-policy`,
//! in a snapshot.

use xenpcid_policy::{Access, CapabilityId, ConfigSize, ExtendedCapabilityId};

use crate::{ConfigSpace, HostError};

/// Status: Capabilities List (PCI Local Bus Specification 6.2.3).
const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES: u32 = 0x10;
const CAPABILITIES_POINTER: u16 = 0x34;
/// Capabilities lie above the header, each at least four bytes long: a longer list goes in circles.
const CAPABILITIES_MOST: usize = 48;
const EXTENDED_MOST: usize = 960;

/// Where a function has a capability of that kind; the first one if it has several.
///
/// # Errors
/// If a register cannot be read.
pub fn find_capability(config: &dyn ConfigSpace, wanted: CapabilityId) -> Result<Option<u16>, HostError> {
    let status = config.read(Access::word(STATUS))?;
    // A function that does not answer reads as ones.
    if status & STATUS_CAPABILITIES == 0 || status == 0xffff {
        return Ok(None);
    }
    let mut offset = low_byte(config.read(Access::byte(CAPABILITIES_POINTER))?) & 0xfc;
    for _ in 0..CAPABILITIES_MOST {
        if offset < 0x40 {
            break;
        }
        let header = config.read(Access::word(offset.into()))?;
        if header & 0xff == u32::from(wanted.0) {
            return Ok(Some(offset.into()));
        }
        offset = low_byte(header >> 8) & 0xfc;
    }
    Ok(None)
}

/// Where a function has an extended capability of that kind; the first one if it has several.
///
/// # Errors
/// If a register cannot be read.
pub fn find_extended_capability(
    config: &dyn ConfigSpace,
    wanted: ExtendedCapabilityId,
) -> Result<Option<u16>, HostError> {
    let first = ConfigSize::Conventional.bytes();
    if config.size() == ConfigSize::Conventional {
        return Ok(None);
    }
    let mut offset = first;
    for _ in 0..EXTENDED_MOST {
        let header = config.read(Access::dword(offset))?;
        // No capability at all, or nobody who answers.
        if header == 0 || header == u32::MAX {
            break;
        }
        let [low, high, ..] = header.to_le_bytes();
        if u16::from_le_bytes([low, high]) == wanted.0 {
            return Ok(Some(offset));
        }
        let [.., next_low, next_high] = header.to_le_bytes();
        offset = (u16::from_le_bytes([next_low, next_high]) >> 4) & 0xffc;
        if offset < first {
            break;
        }
    }
    Ok(None)
}

/// The number that makes this device different from others of its kind (Device Serial Number, PCI Express Base Specification
/// 7.9.3); `None` if it has none. All functions of a device have the same.
///
/// # Errors
/// If a register cannot be read.
pub fn serial_number(config: &dyn ConfigSpace) -> Result<Option<u64>, HostError> {
    const SERIAL_NUMBER: ExtendedCapabilityId = ExtendedCapabilityId(0x0003);
    let Some(offset) = find_extended_capability(config, SERIAL_NUMBER)? else { return Ok(None) };
    let part = |at: u16| config.read(Access::dword(offset.saturating_add(at))).map(u64::from);
    let number = part(4)? | part(8)? << 32;
    // What a device shows to whom nobody gave one.
    Ok(Some(number).filter(|number| *number != 0 && *number != u64::MAX))
}

fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers that stay as they are.
    struct Bytes(Vec<u8>);

    impl ConfigSpace for Bytes {
        fn size(&self) -> ConfigSize {
            ConfigSize::from_len(self.0.len()).unwrap()
        }

        fn read(&self, access: Access) -> Result<u32, HostError> {
            let (start, length) = (usize::from(access.offset()), usize::from(access.width().bytes()));
            let mut bytes = [0; 4];
            bytes[..length].copy_from_slice(&self.0[start..start + length]);
            Ok(u32::from_le_bytes(bytes))
        }

        fn write(&self, _: Access, _: u32) -> Result<(), HostError> {
            unreachable!("nothing here writes")
        }
    }

    fn space(bytes: &[(usize, &[u8])]) -> Bytes {
        let mut config = vec![0; 4096];
        for (at, bytes) in bytes {
            config[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Bytes(config)
    }

    #[test]
    fn capabilities_are_found_in_their_lists() {
        let config = space(&[
            (0x06, &[0x10]),
            (0x34, &[0x40]),
            (0x40, &[0x01, 0x50]),
            (0x50, &[0x10, 0x00]),
            (0x100, &[0x01, 0x00, 0x01, 0x14]),
            (0x140, &[0x03, 0x00, 0x01, 0x00, 0x55, 0x44, 0x33, 0xff, 0xff, 0x22, 0x11, 0x00]),
        ]);

        assert_eq!(find_capability(&config, CapabilityId(0x10)), Ok(Some(0x50)));
        assert_eq!(find_capability(&config, CapabilityId(0x11)), Ok(None));
        assert_eq!(find_extended_capability(&config, ExtendedCapabilityId(3)), Ok(Some(0x140)));
        assert_eq!(find_extended_capability(&config, ExtendedCapabilityId(0xd)), Ok(None));
        assert_eq!(serial_number(&config), Ok(Some(0x0011_22ff_ff33_4455)));
    }

    #[test]
    fn lists_that_go_in_circles_end() {
        let config =
            space(&[(0x06, &[0x10]), (0x34, &[0x40]), (0x40, &[0x01, 0x40]), (0x100, &[0x01, 0x00, 0x01, 0x10])]);

        assert_eq!(find_capability(&config, CapabilityId(0x10)), Ok(None));
        assert_eq!(find_extended_capability(&config, ExtendedCapabilityId(3)), Ok(None));
    }

    #[test]
    fn function_that_does_not_answer_or_has_nothing_has_no_capability() {
        for config in [Bytes(vec![0xff; 4096]), Bytes(vec![0xff; 256]), Bytes(vec![0; 4096])] {
            assert_eq!(find_capability(&config, CapabilityId(0x10)), Ok(None));
            assert_eq!(serial_number(&config), Ok(None));
        }
    }
}
