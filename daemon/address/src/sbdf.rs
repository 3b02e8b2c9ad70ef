use std::fmt;
use std::str::FromStr;

/// Address of a PCI function: segment, bus, device (0 to 31) and function (0 to 7).
///
/// Text form `SSSS:BB:DD.F`, all hexadecimal; `BB:DD.F` means segment 0, as everywhere in Linux and Xen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sbdf {
    segment: u16,
    bus: u8,
    devfn: u8,
}

/// Text that is not an [`Sbdf`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a PCI address: {reason}; write SEGMENT:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:03:00.0"
)]
pub struct ParseSbdfError {
    text: String,
    reason: &'static str,
}

impl Sbdf {
    /// An address from its parts; `None` if `device` is above 31 or `function` above 7.
    #[must_use]
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self { segment, bus, devfn: device << 3 | function })
    }

    /// An address from segment, bus and the packed `device << 3 | function`, which has no invalid value.
    #[must_use]
    pub const fn from_devfn(segment: u16, bus: u8, devfn: u8) -> Self {
        Self { segment, bus, devfn }
    }

    /// PCI segment group, which Linux calls domain.
    #[must_use]
    pub const fn segment(self) -> u16 {
        self.segment
    }

    /// Bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// Device number, 0 to 31.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.devfn >> 3
    }

    /// Function number, 0 to 7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.devfn & 7
    }

    /// `device << 3 | function`.
    #[must_use]
    pub const fn devfn(self) -> u8 {
        self.devfn
    }

    /// Whether both are functions of one slot: segment, bus and device are the same.
    #[must_use]
    pub const fn is_in_slot_of(self, other: Self) -> bool {
        self.segment == other.segment && self.bus == other.bus && self.device() == other.device()
    }

    /// `machine_sbdf` of Xen's domctls: `segment << 16 | bus << 8 | devfn`.
    #[must_use]
    pub const fn machine_sbdf(self) -> u32 {
        (self.segment as u32) << 16 | (self.bus as u32) << 8 | self.devfn as u32
    }

    /// The form libxl uses below `/libxl/pci` in xenstore: `SSSS-BB-DD-F`.
    #[must_use]
    pub fn libxl_name(self) -> String {
        format!("{:04x}-{:02x}-{:02x}-{:x}", self.segment, self.bus, self.device(), self.function())
    }

    /// The form of `vdev-N` in xenstore, whose function has two digits: `SSSS:BB:DD.FF`.
    #[must_use]
    pub fn vdev_name(self) -> String {
        format!("{:04x}:{:02x}:{:02x}.{:02x}", self.segment, self.bus, self.device(), self.function())
    }
}

impl fmt::Display for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.segment, self.bus, self.device(), self.function())
    }
}

impl fmt::Debug for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sbdf {
    type Err = ParseSbdfError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |reason| ParseSbdfError { text: text.to_owned(), reason };
        let (address, function) =
            text.rsplit_once('.').ok_or_else(|| wrong("there is no \".\" before the function"))?;
        let (rest, device) = address.rsplit_once(':').ok_or_else(|| wrong("there is no \":\" before the device"))?;
        let (segment, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let segment = hexadecimal(segment, 0xffff).ok_or_else(|| wrong("the segment is not 0 to ffff"))?;
        let bus = hexadecimal(bus, 0xff).ok_or_else(|| wrong("the bus is not 0 to ff"))?;
        let device = hexadecimal(device, 0x1f).ok_or_else(|| wrong("the device is not 0 to 1f"))?;
        let function = hexadecimal(function, 7).ok_or_else(|| wrong("the function is not 0 to 7"))?;
        let [_, bus] = bus.to_be_bytes();
        let [_, devfn] = (device << 3 | function).to_be_bytes();
        Ok(Self { segment, bus, devfn })
    }
}

/// A number without sign or prefix, up to `limit`.
fn hexadecimal(text: &str, limit: u16) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(text, 16).ok().filter(|n| *n <= limit)
}

#[cfg(feature = "serde")]
impl serde::Serialize for Sbdf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Sbdf {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_form_of_any_address_parses_back(segment: u16, bus: u8, devfn: u8) {
            let address = Sbdf::from_devfn(segment, bus, devfn);
            prop_assert_eq!(address.to_string().parse(), Ok(address));
            prop_assert_eq!(Sbdf::new(segment, bus, address.device(), address.function()), Some(address));
        }

        #[test]
        fn any_text_gives_an_address_or_an_error_that_quotes_it(text: String) {
            if let Err(error) = text.parse::<Sbdf>() {
                prop_assert!(error.to_string().contains(&text));
            }
        }
    }

    #[test]
    fn segment_may_be_left_out() {
        assert_eq!("3:1f.7".parse(), Ok(Sbdf::new(0, 3, 31, 7).unwrap()));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for text in
            ["", "1", "00:01", "100:00.0", "00:20.0", "00:00.8", "00:+1.0", "10000:00:00.0", "0:0:0:0.0", "00:00.0 "]
        {
            assert!(text.parse::<Sbdf>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn functions_of_one_slot_are_told_from_others() {
        let function = |text: &str| text.parse::<Sbdf>().unwrap();
        let first = function("0001:02:03.0");
        assert!(first.is_in_slot_of(first) && first.is_in_slot_of(function("0001:02:03.7")));
        for other in ["0000:02:03.0", "0001:03:03.0", "0001:02:04.0"] {
            assert!(!first.is_in_slot_of(function(other)), "{other}");
        }
    }

    #[test]
    fn other_notations_are_the_ones_xen_uses() {
        let address = Sbdf::new(1, 2, 3, 4).unwrap();
        assert_eq!(address.libxl_name(), "0001-02-03-4");
        assert_eq!(address.vdev_name(), "0001:02:03.04");
        assert_eq!(address.machine_sbdf(), 0x0001_021c);
    }
}
