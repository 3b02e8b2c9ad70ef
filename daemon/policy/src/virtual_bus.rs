//! The bus that a guest finds its devices on: segment 0, bus 0, 32 slots.
//!
//! Slots are given as xen-pciback's `vpci` mode gives them, because a guest's configuration may name devices by where
//! they were: a device keeps its function number; functions of one physical device share a slot; a virtual function 0
//! has a slot of its own, since it does not say that it is multi-function and a guest would not look for its neighbours;
//! otherwise the lowest free slot is taken.

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

/// No slot is free on a guest's virtual bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for {device} on the guest's virtual PCI bus: all 32 slots are taken; take a device from the guest first"
)]
pub struct BusFull {
    /// The device that did not fit.
    pub device: Sbdf,
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
        let slot = |entry: &Self| (entry.device.segment(), entry.device.bus(), entry.device.device());
        slot(self) == slot(other)
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
    /// [`BusFull`] if the device needs a slot of its own and none is free.
    pub fn insert(&mut self, device: Sbdf, is_virtual_function: bool) -> Result<VirtualAddress, BusFull> {
        if let Some(address) = self.address_of(device) {
            return Ok(address);
        }
        let entry = Entry { device, is_virtual_function };
        let may_join = |slot: &Vec<Entry>| {
            slot.first().is_some_and(|first| first.same_physical_slot(&entry) && !first.stands_alone())
        };
        let joined = if entry.stands_alone() { None } else { self.slots.iter().position(may_join) };
        let chosen = joined.or_else(|| self.slots.iter().position(Vec::is_empty));
        chosen.and_then(|slot| self.slots.get_mut(slot)).ok_or(BusFull { device })?.push(entry);
        self.address_of(device).ok_or(BusFull { device })
    }

    /// Takes `device` away; tells where it was. Its slot is free when no other function is left there.
    pub fn remove(&mut self, device: Sbdf) -> Option<VirtualAddress> {
        let address = self.address_of(device)?;
        self.slots.get_mut(usize::from(address.slot))?.retain(|entry| entry.device != device);
        Some(address)
    }

    /// The host's device at an address of a guest's request. Exact: there is nothing on other buses, and bits of `devfn`
    /// above the eighth do not alias.
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
