//! What a guest tried with a device's registers and did not get, counted by register.
//!
//! Written by the thread that answers the guest, without lock or allocation; read by whoever asks. A guest decides how much
//! is written here, so the table has a fixed size.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use xenpcid_policy::{Access, Width};

use crate::session::Guest;

/// Registers that are told apart. A device has some dozens; a guest that tries every byte fills the table, and the rest is
/// only counted.
const SLOTS: usize = 256;

/// Which way the access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Accepted and dropped, although it would have changed something.
    Discarded,
    /// Answered with `access_denied`.
    Denied,
}

/// What was tried with one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The register; an access, where the bytes are in no register.
    pub register: Access,
    /// Which way.
    pub operation: Operation,
    /// What became of it.
    pub refusal: Refusal,
    /// All bits of the register that the guest wanted and did not get.
    pub bits: u32,
    /// How often.
    pub count: u32,
    /// What it wrote last, in the register's position.
    pub last_value: u32,
    /// When, in milliseconds since 1970.
    pub last_time: u64,
}

#[derive(Default)]
struct Slot {
    /// Which register and how, or 0 while the slot is free.
    key: AtomicU32,
    count: AtomicU32,
    bits: AtomicU32,
    value: AtomicU32,
    time: AtomicU64,
    /// Whether the log has it.
    is_said: AtomicBool,
}

/// A register of which the log has said nothing: a line that a limit drops is to be tried again with the next access.
#[derive(Debug)]
#[must_use]
pub struct Unsaid<'d>(&'d AtomicBool);

impl Unsaid<'_> {
    /// The log has it now.
    pub fn said(self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a write of `value` by `access` had for `register`, in the register's position. What a guest's request has above the
/// access's width, it did not write.
#[must_use]
pub fn written_to(register: Access, access: Access, value: u32) -> u32 {
    let first_bit = |access: Access| u32::from(access.offset() & 3) << 3;
    let in_dword = (value & access.width().mask()) << first_bit(access);
    in_dword >> first_bit(register) & register.width().mask()
}

/// What one guest tried with one device.
pub struct Denials {
    slots: Box<[Slot]>,
    /// Accesses to registers that found the table full.
    overflow: AtomicU32,
    guest: Mutex<Option<Guest>>,
}

impl Default for Denials {
    fn default() -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
        Self { slots, overflow: AtomicU32::new(0), guest: Mutex::new(None) }
    }
}

impl Denials {
    /// Forgets everything: the device has a new guest.
    pub fn begin(&self, guest: &Guest) {
        for slot in &self.slots {
            slot.key.store(0, Ordering::Relaxed);
            slot.count.store(0, Ordering::Relaxed);
            slot.bits.store(0, Ordering::Relaxed);
            slot.is_said.store(false, Ordering::Relaxed);
        }
        self.overflow.store(0, Ordering::Relaxed);
        *self.guest.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest.clone());
    }

    /// The guest that has the device, or had it last.
    #[must_use]
    pub fn guest(&self) -> Option<Guest> {
        self.guest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an access; what the log is to be told of, if it has nothing of this kind yet. Only the thread that answers the
    /// guest calls this.
    pub fn record(
        &self,
        register: Access,
        operation: Operation,
        refusal: Refusal,
        bits: u32,
        value: u32,
    ) -> Option<Unsaid<'_>> {
        let key = key(register, operation, refusal);
        let is_it = |slot: &&Slot| matches!(slot.key.load(Ordering::Relaxed), found if found == key || found == 0);
        let Some(slot) = self.slots.iter().find(is_it) else {
            let before = self.overflow.load(Ordering::Relaxed);
            self.overflow.store(before.saturating_add(1), Ordering::Relaxed);
            return None;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        slot.time.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        slot.value.store(value, Ordering::Relaxed);
        slot.bits.fetch_or(bits, Ordering::Relaxed);
        let before = slot.count.load(Ordering::Relaxed);
        slot.count.store(before.saturating_add(1), Ordering::Relaxed);
        // Only now can others find it.
        slot.key.store(key, Ordering::Release);
        (!slot.is_said.load(Ordering::Relaxed)).then_some(Unsaid(&slot.is_said))
    }

    /// Everything counted, by register.
    #[must_use]
    pub fn list(&self) -> Vec<Denial> {
        let taken = self.slots.iter().map_while(|slot| match slot.key.load(Ordering::Acquire) {
            0 => None,
            key => Some((key, slot)),
        });
        let mut denials: Vec<Denial> = taken
            .filter_map(|(key, slot)| {
                let (register, operation, refusal) = from_key(key)?;
                Some(Denial {
                    register,
                    operation,
                    refusal,
                    bits: slot.bits.load(Ordering::Relaxed),
                    count: slot.count.load(Ordering::Relaxed),
                    last_value: slot.value.load(Ordering::Relaxed),
                    last_time: slot.time.load(Ordering::Relaxed),
                })
            })
            .collect();
        denials.sort_by_key(|denial| (denial.register, denial.operation, denial.refusal));
        denials
    }

    /// Accesses that found no room in the table.
    #[must_use]
    pub fn overflow(&self) -> u32 {
        self.overflow.load(Ordering::Relaxed)
    }
}

const TAKEN: u32 = 1;
const DENIED: u32 = 1 << 1;
const WRITE: u32 = 1 << 2;
const SIZE_SHIFT: u32 = 3;
const OFFSET_SHIFT: u32 = 8;

fn key(register: Access, operation: Operation, refusal: Refusal) -> u32 {
    let operation = if operation == Operation::Write { WRITE } else { 0 };
    let refusal = if refusal == Refusal::Denied { DENIED } else { 0 };
    let size = u32::from(register.width().bytes()) << SIZE_SHIFT;
    TAKEN | operation | refusal | size | u32::from(register.offset()) << OFFSET_SHIFT
}

fn from_key(key: u32) -> Option<(Access, Operation, Refusal)> {
    let [_, low, high, _] = key.to_le_bytes();
    let offset = u16::from_le_bytes([low, high]);
    let width = Width::ALL.into_iter().find(|width| u32::from(width.bytes()) == key >> SIZE_SHIFT & 7)?;
    let operation = if key & WRITE != 0 { Operation::Write } else { Operation::Read };
    let refusal = if key & DENIED != 0 { Refusal::Denied } else { Refusal::Discarded };
    let size = i32::from(width.bytes());
    let register = Access::new(i32::from(offset), size, xenpcid_policy::ConfigSize::Express).ok()?;
    Some((register, operation, refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_is_said_once_and_counted() {
        let denials = Denials::default();
        let status = Access::word(0x06);

        let is_to_be_said = [0x0100, 0x0200, 0x0100].map(|bits| {
            let unsaid = denials.record(status, Operation::Write, Refusal::Discarded, bits, bits | 1);
            unsaid.map(Unsaid::said).is_some()
        });
        assert!(denials.record(Access::dword(0xffc), Operation::Read, Refusal::Denied, u32::MAX, 0).is_some());

        assert_eq!(is_to_be_said, [true, false, false]);
        let list = denials.list();
        let [of_status, of_last] = list[..] else { panic!("{list:?}") };
        assert_eq!(
            (of_status.register, of_status.bits, of_status.count, of_status.last_value),
            (status, 0x0300, 3, 0x0101)
        );
        assert_eq!(
            (of_last.register, of_last.operation, of_last.refusal),
            (Access::dword(0xffc), Operation::Read, Refusal::Denied)
        );
    }

    #[test]
    fn a_register_of_which_the_line_was_dropped_is_to_be_said_with_the_next_access() {
        let denials = Denials::default();
        let record = || denials.record(Access::COMMAND, Operation::Write, Refusal::Denied, 1, 1);
        assert!(record().is_some(), "and the line is dropped");

        let again = record();
        again.unwrap().said();

        assert!(record().is_none());
    }

    /// Accesses to more registers than there is room for.
    fn try_everything(denials: &Denials) {
        for offset in 0..1024 {
            let _ = denials.record(Access::byte(offset), Operation::Write, Refusal::Discarded, 0xff, 0xff);
        }
    }

    #[test]
    fn a_guest_that_tries_everything_fills_the_table_and_no_more() {
        let denials = Denials::default();
        try_everything(&denials);
        assert_eq!((denials.list().len(), denials.overflow()), (SLOTS, 1024 - 256));
    }

    #[test]
    fn the_count_of_what_found_no_room_stays_at_its_end() {
        let denials = Denials::default();
        denials.overflow.store(u32::MAX - 1, Ordering::Relaxed);
        try_everything(&denials);
        assert_eq!(denials.overflow(), u32::MAX);
    }

    #[test]
    fn what_was_written_is_in_the_registers_position_without_what_is_above_the_access() {
        let value = 0xdead_beef;
        let written = [
            (Access::dword(0x44), Access::dword(0x44), 0xdead_beef),
            (Access::word(0x46), Access::dword(0x44), 0x0000_dead),
            (Access::word(0x44), Access::byte(0x44), 0x0000_00ef),
            (Access::word(0x46), Access::byte(0x47), 0x0000_ef00),
            (Access::dword(0x44), Access::word(0x44), 0x0000_beef),
            (Access::dword(0x44), Access::word(0x46), 0xbeef_0000),
        ];
        for (register, access, expected) in written {
            assert_eq!(written_to(register, access, value), expected, "{register} by {access}");
        }
    }

    #[test]
    fn a_new_guest_starts_with_an_empty_table() {
        let denials = Denials::default();
        denials.record(Access::COMMAND, Operation::Write, Refusal::Denied, 1, 1).unwrap().said();

        denials.begin(&Guest { domain: xenpcid_address::DomainId(7), name: "next".to_owned() });

        assert!(denials.list().is_empty());
        assert!(denials.record(Access::COMMAND, Operation::Write, Refusal::Denied, 1, 1).is_some());
        assert_eq!(denials.list()[0].count, 1);
    }
}
