use std::fmt;

use crate::snapshot::Snapshot;

/// By what policies tell devices apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// Vendor ID, as the host's kernel knows it.
    pub vendor: u16,
    /// Device ID, as the host's kernel knows it.
    pub device: u16,
    /// Subsystem Vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Base class, sub-class and programming interface, in 24 bits.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// What the operator calls it.
    pub name: Option<String>,
}

impl DeviceIdentity {
    /// The identity of a function.
    #[must_use]
    pub fn new(snapshot: &Snapshot, name: Option<&str>) -> Self {
        Self {
            vendor: snapshot.vendor,
            device: snapshot.device,
            subsystem_vendor: snapshot.word(0x2c),
            subsystem: snapshot.word(0x2e),
            class: snapshot.dword(0x08) >> 8,
            revision: snapshot.byte(0x08),
            name: name.map(str::to_owned),
        }
    }
}

/// Which devices something is for: those that have one of the values of every list that is not empty. Without any list,
/// every device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceMatch {
    /// Vendor IDs.
    pub vendor: Vec<u16>,
    /// Device IDs.
    pub device: Vec<u16>,
    /// Subsystem Vendor IDs.
    pub subsystem_vendor: Vec<u16>,
    /// Subsystem IDs.
    pub subsystem: Vec<u16>,
    /// Classes: a value, and which of the 24 bits of a device's class have to be it.
    pub class: Vec<(u32, u32)>,
    /// Revision IDs.
    pub revision: Vec<u8>,
    /// Names; `*` at the end stands for any rest.
    pub name: Vec<String>,
}

impl DeviceMatch {
    /// Whether it is for every device.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `device` is one of them.
    #[must_use]
    pub fn matches(&self, device: &DeviceIdentity) -> bool {
        let of = |list: &[u16], value: u16| list.is_empty() || list.contains(&value);
        of(&self.vendor, device.vendor)
            && of(&self.device, device.device)
            && of(&self.subsystem_vendor, device.subsystem_vendor)
            && of(&self.subsystem, device.subsystem)
            && (self.revision.is_empty() || self.revision.contains(&device.revision))
            && (self.class.is_empty() || self.class.iter().any(|(value, mask)| device.class & mask == *value))
            && (self.name.is_empty() || self.name.iter().any(|pattern| fits(pattern, device.name.as_deref())))
    }

    /// Whether no device can be of both, as far as the lists alone tell.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        fn apart<T: PartialEq>(a: &[T], b: &[T]) -> bool {
            !a.is_empty() && !b.is_empty() && !a.iter().any(|value| b.contains(value))
        }
        let classes_apart = !self.class.is_empty()
            && !other.class.is_empty()
            && !self
                .class
                .iter()
                .any(|(a, mask_a)| other.class.iter().any(|(b, mask_b)| a & mask_b & mask_a == b & mask_a & mask_b));
        apart(&self.vendor, &other.vendor)
            || apart(&self.device, &other.device)
            || apart(&self.subsystem_vendor, &other.subsystem_vendor)
            || apart(&self.subsystem, &other.subsystem)
            || apart(&self.revision, &other.revision)
            || classes_apart
    }
}

impl fmt::Display for DeviceMatch {
    /// As `vendor 8086, class 0200 or 0280`; nothing for every device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifiers = |list: &[u16]| list.iter().map(|id| format!("{id:04x}")).collect::<Vec<_>>();
        let class = |(value, mask): &(u32, u32)| match mask {
            0xff_0000 => format!("{:02x}", value >> 16),
            0xff_ff00 => format!("{:04x}", value >> 8),
            _ => format!("{value:06x}"),
        };
        let parts = [
            ("vendor", identifiers(&self.vendor)),
            ("device", identifiers(&self.device)),
            ("subsystem vendor", identifiers(&self.subsystem_vendor)),
            ("subsystem", identifiers(&self.subsystem)),
            ("class", self.class.iter().map(class).collect()),
            ("revision", self.revision.iter().map(|revision| format!("{revision:02x}")).collect()),
            ("name", self.name.clone()),
        ];
        let parts = parts.into_iter().filter(|(_, values)| !values.is_empty());
        let parts: Vec<String> = parts.map(|(key, values)| format!("{key} {}", values.join(" or "))).collect();
        f.write_str(&parts.join(", "))
    }
}

fn fits(pattern: &str, name: Option<&str>) -> bool {
    let Some(name) = name else { return false };
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
