//! What the bytes of a recorded configuration space are called. The names are those of policies.

use std::collections::BTreeSet;

use pcifront_shim::guest::{Capability, capabilities_of};
use xenpcid_policy::registers::{self, AnyCapabilityId, CapabilityKind};
use xenpcid_policy::{CapabilityId, ExtendedCapabilityId, Register};

/// Where the registers of one function are.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    size: u16,
    registers: Vec<Placed>,
    areas: Vec<Area>,
}

/// A register at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// Where it starts.
    pub offset: u16,
    /// Its bytes.
    pub bytes: u16,
}

/// What belongs to a capability, by its specification; if that is not known here, up to the next capability.
#[derive(Clone, Debug)]
struct Area {
    name: String,
    start: u16,
    end: u16,
}

impl Placed {
    /// Whether an access touches it.
    #[must_use]
    pub fn overlaps(&self, offset: u16, bytes: u16) -> bool {
        offset < self.offset.saturating_add(self.bytes) && self.offset < offset.saturating_add(bytes)
    }
}

impl Layout {
    /// The layout of a recorded space; its size is that of the recording.
    #[must_use]
    pub fn of(config: &[u8]) -> Self {
        let size = u16::try_from(config.len()).unwrap_or(u16::MAX);
        let mut layout = Self { size, ..Self::default() };
        let is_endpoint = config.get(0x0e).is_some_and(|kind| kind & 0x7f == 0);
        // What follows the common part is another thing in a bridge.
        let header = registers::HEADER.iter().filter(|register| is_endpoint || register.offset < 0x10);
        layout.registers.extend(header.map(|register| placed(register.name, 0, register)));
        let (conventional, extended) = capabilities_of(config);
        let starts: BTreeSet<u16> = conventional.iter().chain(&extended).map(|found| found.offset).collect();
        for (list, end) in [(&conventional, 0x100), (&extended, 0x1000)] {
            for found in list {
                let next = starts.range(found.offset.saturating_add(1)..).next().copied();
                layout.place(config, found, next.filter(|next| *next < end).unwrap_or(end));
            }
        }
        layout
    }

    /// Places a capability that ends before `limit`.
    fn place(&mut self, config: &[u8], found: &Capability, limit: u16) {
        let name = capability_name(found);
        let byte = |at| config.get(usize::from(found.offset.saturating_add(at))).copied().unwrap_or(0);
        let vendor = config.first_chunk().copied().map_or(0, u16::from_le_bytes);
        let known = kind(found).map_or(&[][..], |kind| kind.layout(vendor, byte));
        for register in known.iter().filter(|register| found.offset.saturating_add(register.offset) < limit) {
            let header = format!("{name}.header");
            let is_header = register.offset == 0 && !register.name.contains('.');
            self.registers.push(placed(if is_header { &header } else { register.name }, found.offset, register));
        }
        let length = known.last().map_or(0, |last| last.offset.saturating_add(last.width.bytes()));
        let end = if known.len() > 1 { found.offset.saturating_add(length).min(limit) } else { limit };
        self.areas.push(Area { name, start: found.offset, end });
    }

    /// This layout, with what only another one of the same function has.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        let own = self.registers.clone();
        let is_new = |place: &Placed| !own.iter().any(|register| register.overlaps(place.offset, place.bytes));
        self.registers.extend(other.registers.into_iter().filter(is_new));
        self.areas.extend(other.areas);
        self.size = self.size.max(other.size);
        self
    }

    /// Bytes of the space; 0 if nothing is known of it.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The registers that an access of `bytes` bytes touches: those with a name, and the rest by aligned dwords, as
    /// `vendor+0x4` in a capability and `0x0b8` elsewhere.
    #[must_use]
    pub fn touched(&self, offset: u16, bytes: u16) -> Vec<Placed> {
        let mut touched: Vec<Placed> = Vec::new();
        for byte in offset..offset.saturating_add(bytes) {
            if !touched.iter().any(|register| register.overlaps(byte, 1)) {
                touched.push(self.at(byte));
            }
        }
        touched
    }

    /// The register that has the byte at `offset`.
    fn at(&self, offset: u16) -> Placed {
        if let Some(register) = self.registers.iter().find(|register| register.overlaps(offset, 1)) {
            return register.clone();
        }
        let dword = offset & !3;
        let area = self.areas.iter().find(|area| (area.start..area.end).contains(&offset));
        let name = match area {
            Some(area) => format!("{}+{:#x}", area.name, dword.saturating_sub(area.start)),
            None => format!("{dword:#05x}"),
        };
        Placed { name, offset: dword, bytes: 4 }
    }

    /// Everything that `name` means here: a register, or with `.*` at the end a whole capability, as often as there are.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Placed> {
        match name.strip_suffix(".*") {
            Some(capability) => {
                let areas = self.areas.iter().filter(|area| area.name == capability);
                areas
                    .map(|area| Placed {
                        name: name.to_owned(),
                        offset: area.start,
                        bytes: area.end.saturating_sub(area.start),
                    })
                    .collect()
            }
            None => self.registers.iter().filter(|register| register.name == name).cloned().collect(),
        }
    }
}

/// Whether any device can have what `name` means.
#[must_use]
pub fn is_known(name: &str) -> bool {
    match name.strip_suffix(".*") {
        Some(capability) => registers::capability_named(capability).is_some(),
        None => registers::named(name).next().is_some(),
    }
}

/// What a capability is called.
#[must_use]
pub fn capability_name(found: &Capability) -> String {
    match (kind(found), found.offset) {
        (Some(kind), _) => kind.name.to_owned(),
        (None, ..0x100) => format!("capability-{:02x}", found.id),
        (None, _) => format!("extended-{:04x}", found.id),
    }
}

/// What a capability is called in its specification.
#[must_use]
pub fn capability_title(found: &Capability) -> &'static str {
    kind(found).map_or("of an unknown kind", |kind| kind.title)
}

fn kind(found: &Capability) -> Option<&'static CapabilityKind> {
    registers::capability(if found.offset >= 0x100 {
        AnyCapabilityId::Extended(ExtendedCapabilityId(found.id))
    } else {
        AnyCapabilityId::Conventional(CapabilityId(u8::try_from(found.id).ok()?))
    })
}

fn placed(name: &str, start: u16, register: &Register) -> Placed {
    Placed { name: name.to_owned(), offset: start.saturating_add(register.offset), bytes: register.width.bytes() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The configuration space of QEMU's e1000e (82574L).
    pub(crate) fn e1000e() -> Vec<u8> {
        let text = include_str!("../../tests/fixtures/e1000e-82574.config.txt");
        let rows = text.lines().filter(|line| !line.starts_with("0x") && !line.starts_with('#'));
        rows.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn names(layout: &Layout, offset: u16, bytes: u16) -> Vec<String> {
        layout.touched(offset, bytes).into_iter().map(|register| register.name).collect()
    }

    #[test]
    fn registers_of_header_and_capabilities_have_the_names_of_policies() {
        let layout = Layout::of(&e1000e());
        assert_eq!(layout.size(), 4096);
        assert_eq!(names(&layout, 0x04, 4), ["command", "status"]);
        assert_eq!(names(&layout, 0xc8, 4), ["pm.header", "pm.pmc"]);
        assert_eq!(names(&layout, 0xcc, 2), ["pm.pmcsr"]);
        assert_eq!(names(&layout, 0xa2, 2), ["msix.control"]);
        assert_eq!(names(&layout, 0x108, 1), ["aer.uncor_mask"]);
    }

    #[test]
    fn bytes_without_a_name_are_dwords_of_their_capability_or_of_the_space() {
        let mut config = e1000e();
        assert_eq!(names(&Layout::of(&config), 0xba, 2), ["0x0b8"]);
        assert_eq!(names(&Layout::of(&config), 0x800, 4), ["0x800"]);
        config[0x101] = 0x00;
        config[0x100] = 0x02; // Virtual Channel, whose registers are not known.
        assert_eq!(names(&Layout::of(&config), 0x10a, 1), ["vc+0x8"]);
        config[0x100] = 0x99;
        assert_eq!(names(&Layout::of(&config), 0x100, 1), ["extended-0099+0x0"]);
    }

    #[test]
    fn name_means_a_register_or_a_whole_capability() {
        let layout = Layout::of(&e1000e());
        let msix = layout.named("msix.*");
        assert_eq!(msix, [Placed { name: "msix.*".to_owned(), offset: 0xa0, bytes: 12 }]);
        assert_eq!(layout.named("pm.pmcsr"), [Placed { name: "pm.pmcsr".to_owned(), offset: 0xcc, bytes: 2 }]);
        assert_eq!(layout.named("vpd.address"), []);
        assert!(is_known("vpd.address") && is_known("sriov.*") && !is_known("sriov") && !is_known("pm.control"));
    }

    #[test]
    fn bridge_has_names_for_the_common_part_only() {
        let mut config = e1000e();
        config[0x0e] = 0x01;
        let layout = Layout::of(&config);
        assert_eq!(names(&layout, 0x0c, 8), ["cache_line_size", "latency_timer", "header_type", "bist", "0x010"]);
    }
}
