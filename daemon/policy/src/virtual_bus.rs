//! The bus that a guest finds its devices on: segment 0, bus 0, 32 slots.
//!
//! Slots are given as xen-pciback's `vpci` mode gives them, because a guest's configuration may name devices by where
//! they were: a device keeps its function number; functions of one physical device share a slot; a virtual function 0
//! has a slot of its own, since it does not say that it is multi-function and a guest would not look for its
//! neighbours; otherwise the lowest free slot is taken.

use std::fmt;

use xenpcid_address::Sbdf;

/// Slots on a PCI bus.
const SLOTS: usize = 32;

/// Where a guest finds a device: `0000:00:SLOT.FUNCTION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualAddress {
    slot: u8,
    function: u8,
}

impl VirtualAddress {
    /// Slot, 0 to 31.
    #[must_use]
    pub const fn slot(self) -> u8 {
        self.slot
    }

    /// Function, 0 to 7: always that of the host's device.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }

    /// The address in segment 0, bus 0.
    #[must_use]
    pub const fn to_sbdf(self) -> Sbdf {
        Sbdf::from_devfn(0, 0, self.slot << 3 | self.function)
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_sbdf().fmt(f)
    }
}

/// Why a device has no place on a guest's virtual bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// No slot is free.
    #[error(
        "no room for {device} on the guest's virtual PCI bus: all 32 slots are taken; take a device from the guest first"
    )]
    BusFull {
        /// The device that did not fit.
        device: Sbdf,
    },
    /// There is no such slot.
    #[error("a virtual PCI bus has no slot {slot:#04x}; write 0 to 0x1f")]
    NoSlot {
        /// What was asked for.
        slot: u8,
    },
    /// The slot that was asked for has another device.
    #[error(
        "{device} cannot have slot {slot:#04x} of the guest's virtual PCI bus, where {other} is; ask for another slot, or for none"
    )]
    SlotTaken {
        /// The device.
        device: Sbdf,
        /// What was asked for.
        slot: u8,
        /// Who is there.
        other: Sbdf,
    },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    device: Sbdf,
    is_virtual_function: bool,
}

impl Entry {
    /// Whether the device must not share its slot.
    fn stands_alone(&self) -> bool {
        self.is_virtual_function && self.device.function() == 0
    }

    fn same_physical_slot(&self, other: &Self) -> bool {
        self.device.is_in_slot_of(other.device)
    }
}

/// The virtual bus of one guest.
#[derive(Clone, Debug, Default)]
pub struct VirtualBus {
    /// Functions in each slot, in the order in which they came: the first decides who may join.
    slots: [Vec<Entry>; SLOTS],
}

impl VirtualBus {
    /// A bus without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `device` a place, or tells the one it already has.
    ///
    /// # Errors
    /// [`NoPlace::BusFull`] if the device needs a slot of its own and none is free.
    pub fn insert(&mut self, device: Sbdf, is_virtual_function: bool) -> Result<VirtualAddress, NoPlace> {
        self.insert_at(device, is_virtual_function, None)
    }

    /// As [`VirtualBus::insert`], in this slot if one is given. A device that has a place keeps it.
    ///
    /// # Errors
    /// Also a slot that is not there, or whose devices are not functions of the same physical slot.
    pub fn insert_at(
        &mut self,
        device: Sbdf,
        is_virtual_function: bool,
        wanted: Option<u8>,
    ) -> Result<VirtualAddress, NoPlace> {
        if let Some(address) = self.address_of(device) {
            return Ok(address);
        }
        let entry = Entry { device, is_virtual_function };
        let may_join =
            |first: &Entry| first.same_physical_slot(&entry) && !first.stands_alone() && !entry.stands_alone();
        let chosen = match wanted {
            Some(slot) => {
                let entries = self.slots.get(usize::from(slot)).ok_or(NoPlace::NoSlot { slot })?;
                // By hand, a virtual function 0 may have neighbours: whoever asks for that knows how they are found.
                let other = entries.first().filter(|first| !first.same_physical_slot(&entry));
                if let Some(Entry { device: other, .. }) = other.copied() {
                    return Err(NoPlace::SlotTaken { device, slot, other });
                }
                Some(usize::from(slot))
            }
            None => {
                let joined = self.slots.iter().position(|slot| slot.first().is_some_and(may_join));
                joined.or_else(|| self.slots.iter().position(Vec::is_empty))
            }
        };
        chosen.and_then(|slot| self.slots.get_mut(slot)).ok_or(NoPlace::BusFull { device })?.push(entry);
        self.address_of(device).ok_or(NoPlace::BusFull { device })
    }

    /// Takes `device` away; tells where it was. Its slot is free when no other function is left there.
    pub fn remove(&mut self, device: Sbdf) -> Option<VirtualAddress> {
        let address = self.address_of(device)?;
        self.slots.get_mut(usize::from(address.slot))?.retain(|entry| entry.device != device);
        Some(address)
    }

    /// The host's device at an address of a guest's request. Exact: there is nothing on other buses, and bits of
    /// `devfn` above the eighth do not alias.
    #[must_use]
    pub fn lookup(&self, domain: u32, bus: u32, devfn: u32) -> Option<Sbdf> {
        if domain != 0 || bus != 0 {
            return None;
        }
        let devfn = u8::try_from(devfn).ok()?;
        let slot = self.slots.get(usize::from(devfn >> 3))?;
        slot.iter().map(|entry| entry.device).find(|device| device.function() == devfn & 7)
    }

    /// Where `device` is, if it is on this bus.
    #[must_use]
    pub fn address_of(&self, device: Sbdf) -> Option<VirtualAddress> {
        self.iter().find(|(_, found)| *found == device).map(|(address, _)| address)
    }

    /// Every device with its place, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (VirtualAddress, Sbdf)> {
        (0u8..).zip(&self.slots).flat_map(|(slot, entries)| {
            entries.iter().map(move |entry| (VirtualAddress { slot, function: entry.device.function() }, entry.device))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Sbdf {
        text.parse().unwrap()
    }

    /// The addresses that devices get on an empty bus, in this order; `v` before an address marks a virtual function.
    #[track_caller]
    fn placed(devices: &[&str]) -> Vec<String> {
        let mut bus = VirtualBus::new();
        let place = |text: &&str| {
            let address = text.trim_start_matches('v');
            bus.insert(device(address), text.starts_with('v')).unwrap().to_string()
        };
        devices.iter().map(place).collect()
    }

    #[test]
    fn devices_take_the_lowest_free_slots_in_order_and_keep_their_function() {
        assert_eq!(placed(&["03:00.0", "04:1f.2", "00:07.5"]), ["0000:00:00.0", "0000:00:01.2", "0000:00:02.5"]);
    }

    #[test]
    fn functions_of_one_physical_slot_share_a_slot() {
        assert_eq!(placed(&["03:00.1", "05:00.0", "03:00.0"]), ["0000:00:00.1", "0000:00:01.0", "0000:00:00.0"]);
    }

    #[test]
    fn the_same_slot_of_another_bus_or_segment_is_another_slot() {
        assert_eq!(placed(&["03:00.0", "04:00.1", "0001:03:00.1"]), ["0000:00:00.0", "0000:00:01.1", "0000:00:02.1"]);
    }

    #[test]
    fn a_virtual_function_0_stands_alone_whoever_is_there_first() {
        assert_eq!(placed(&["v03:10.0", "v03:10.2"]), ["0000:00:00.0", "0000:00:01.2"]);
        assert_eq!(placed(&["v03:10.2", "v03:10.0"]), ["0000:00:00.2", "0000:00:01.0"]);
    }

    #[test]
    fn other_virtual_functions_of_one_physical_slot_share_a_slot() {
        assert_eq!(placed(&["v03:10.2", "v03:10.0", "v03:10.4"]), ["0000:00:00.2", "0000:00:01.0", "0000:00:00.4"]);
    }

    #[test]
    fn a_device_that_is_there_keeps_its_place() {
        assert_eq!(placed(&["03:00.0", "04:00.0", "03:00.0"]), ["0000:00:00.0", "0000:00:01.0", "0000:00:00.0"]);
    }

    #[test]
    fn a_slot_is_free_again_when_its_last_function_has_gone() {
        let mut bus = VirtualBus::new();
        for text in ["03:00.0", "03:00.1", "04:00.0"] {
            bus.insert(device(text), false).unwrap();
        }

        assert_eq!(bus.remove(device("03:00.0")).unwrap().to_string(), "0000:00:00.0");
        assert_eq!(bus.insert(device("05:00.0"), false).unwrap().to_string(), "0000:00:02.0");
        assert_eq!(bus.remove(device("03:00.1")).unwrap().to_string(), "0000:00:00.1");
        assert_eq!(bus.insert(device("06:00.0"), false).unwrap().to_string(), "0000:00:00.0");
        assert_eq!(bus.remove(device("03:00.0")), None);
    }

    #[test]
    fn a_full_bus_takes_only_functions_of_slots_that_it_has() {
        let mut bus = VirtualBus::new();
        for number in 0..32 {
            bus.insert(Sbdf::new(0, number, 0, 0).unwrap(), false).unwrap();
        }

        let refused = device("20:00.0");
        assert_eq!(bus.insert(refused, false), Err(NoPlace::BusFull { device: refused }));
        assert_eq!(bus.insert(device("1f:00.7"), false).unwrap().to_string(), "0000:00:1f.7");
        assert_eq!(bus.iter().count(), 33);
    }

    #[test]
    fn a_device_gets_the_slot_that_is_asked_for_unless_another_device_is_there() {
        let mut bus = VirtualBus::new();
        let (first, other) = (device("03:00.0"), device("04:00.0"));

        assert_eq!(bus.insert_at(first, false, Some(5)).unwrap().to_string(), "0000:00:05.0");
        assert_eq!(
            bus.insert_at(other, false, Some(5)),
            Err(NoPlace::SlotTaken { device: other, slot: 5, other: first })
        );
        assert_eq!(bus.insert_at(other, false, Some(32)), Err(NoPlace::NoSlot { slot: 32 }));
        assert_eq!(bus.insert_at(device("03:00.1"), false, Some(5)).unwrap().to_string(), "0000:00:05.1");
        assert_eq!(bus.insert_at(device("03:00.2"), false, None).unwrap().slot(), 5);
        assert_eq!(bus.insert(other, false).unwrap().slot(), 0);
    }

    #[test]
    fn a_guest_finds_exactly_the_devices_at_their_addresses() {
        let mut bus = VirtualBus::new();
        let here = device("03:00.1");
        let address = bus.insert(here, false).unwrap();

        let found: Vec<u32> = (0..0x1000).filter(|devfn| bus.lookup(0, 0, *devfn) == Some(here)).collect();

        assert_eq!(found, [u32::from(address.to_sbdf().devfn())]);
        assert_eq!(bus.lookup(0, 0, 0x0001_0001), None);
        assert_eq!(bus.lookup(0, 1, 1), None);
        assert_eq!(bus.lookup(1, 0, 1), None);
        assert_eq!(bus.lookup(u32::MAX, u32::MAX, u32::MAX), None);
    }

    #[test]
    fn addresses_are_listed_by_slot() {
        let mut bus = VirtualBus::new();
        for text in ["05:00.2", "04:00.0", "05:00.1"] {
            bus.insert(device(text), false).unwrap();
        }
        let listed: Vec<String> = bus.iter().map(|(address, device)| format!("{address} {device}")).collect();
        assert_eq!(listed, ["0000:00:00.2 0000:05:00.2", "0000:00:00.1 0000:05:00.1", "0000:00:01.0 0000:04:00.0"]);
    }
}
