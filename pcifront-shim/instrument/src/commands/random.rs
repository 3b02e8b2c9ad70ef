//! `random`: seeded accesses, and what was answered.
//!
//! Each step takes the same number of random numbers, whatever is answered and whatever is spared, so that two backends get
//! the same requests. Only what is spared depends on the device: on where its capabilities are.

use std::io::Write;

use indicatif::ProgressIterator;
use pcifront_shim::Connection;
use pcifront_shim::trace::Direction;
use xenpcid_address::Sbdf;

use super::{dump, write_to};
use crate::Error;
use crate::bus::Bus;
use crate::cli::Random;
use crate::exchange::ConfigAccess;
use crate::recording::Recording;
use crate::registers::Layout;
use crate::rng::Rng;
use crate::spare::{Spare, SpareList};

/// Makes the accesses and writes the recording.
pub(super) fn run<C: Connection>(arguments: &Random, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let list = SpareList::read(arguments.spare.as_deref())?;
    let given = arguments.layout.as_deref().map(Recording::read).transpose()?;
    let functions = bus.functions(&arguments.function)?;
    let mut recording = Recording::default();
    let mut spare = Spare::default();
    for address in &functions {
        let space = dump::record(bus, *address)?;
        let layout = match &given {
            Some(given) => given.layout(*address),
            None => Layout::of(&space.config),
        };
        spare.add(&list, *address, &layout);
        recording.spaces.push(space);
    }
    let comment = format!("# pcifront-shim random --seed {} --count {}\n{spare}", arguments.seed, arguments.count);
    let accesses: Vec<ConfigAccess> = Sequence::new(arguments.seed, functions, spare).take(arguments.count).collect();
    for access in accesses.into_iter().progress() {
        bus.stop.check()?;
        recording.exchanges.push(access.make(bus)?);
    }
    write_to(arguments.output.as_deref(), out, |out| write!(out, "{comment}{recording}"))
}

/// An endless sequence of accesses to functions.
pub struct Sequence {
    rng: Rng,
    functions: Vec<Sbdf>,
    absent: Sbdf,
    spare: Spare,
    /// What follows a write, last first.
    waiting: Vec<ConfigAccess>,
}

/// Of 100 accesses, how many are not valid.
const INVALID: u32 = 6;
/// Of 100 accesses, how many write.
const WRITES: u32 = 50;
/// Of 100 writes, after how many the dword around is read, too.
const DWORD_AFTER: u32 = 25;
/// Where accesses go: of 100, so many below this offset and above the one before.
const OFFSETS: [(u32, u32); 4] = [(40, 0x40), (35, 0x100), (20, 0x300), (5, 0x1000)];
/// Sizes that configuration space does not have.
const WRONG_SIZES: [i32; 6] = [0, 3, 5, 8, 16, -1];

impl Sequence {
    /// The sequence of this seed for these functions, of which there is at least one.
    #[must_use]
    pub fn new(seed: u64, functions: Vec<Sbdf>, spare: Spare) -> Self {
        let bus = functions.first().map_or((0, 0), |address| (address.segment(), address.bus()));
        let mut addresses = (0..=u8::MAX).rev().map(|devfn| Sbdf::from_devfn(bus.0, bus.1, devfn));
        let absent =
            addresses.find(|address| !functions.contains(address)).unwrap_or(Sbdf::from_devfn(bus.0, bus.1, 0));
        Self { rng: Rng::new(seed), functions, absent, spare, waiting: Vec::new() }
    }

    /// One access, and what is read after it.
    fn step(&mut self) {
        let rng = &mut self.rng;
        let address = rng.pick(&self.functions).unwrap_or(self.absent);
        let offset = offset(rng);
        let size = rng.pick(&[1, 2, 4, 4]).unwrap_or(4);
        let direction = if rng.chance(WRITES) { Direction::Write } else { Direction::Read };
        let value = rng.value();
        let is_invalid = rng.chance(INVALID);
        let (kind, wrong_size) = (rng.below(4), rng.pick(&WRONG_SIZES).unwrap_or(0));
        let follows_dword = rng.chance(DWORD_AFTER);

        let aligned = offset & -size;
        let mut access = ConfigAccess { direction, address, size, offset: aligned, value: 0 };
        if is_invalid {
            match kind {
                0 => access.size = wrong_size,
                // Bytes are aligned everywhere.
                1 => (access.size, access.offset) = (size.max(2), offset | 1),
                2 => access.offset = aligned | 0x1000,
                _ => access.address = self.absent,
            }
        }
        if direction == Direction::Write {
            let bits = u32::try_from(access.size).ok().filter(|size| *size < 4).unwrap_or(4) * 8;
            access.value = value & u32::MAX.checked_shr(32 - bits).unwrap_or(0);
            let read = ConfigAccess { direction: Direction::Read, value: 0, ..access };
            if follows_dword && read.valid().is_some() {
                self.waiting.push(ConfigAccess { size: 4, offset: read.offset & -4, ..read });
            }
            self.waiting.push(read);
        }
        self.waiting.push(access);
    }
}

impl Iterator for Sequence {
    type Item = ConfigAccess;

    fn next(&mut self) -> Option<ConfigAccess> {
        loop {
            match self.waiting.pop() {
                Some(access) => {
                    if let Some(admitted) = self.spare.admit(access) {
                        return Some(admitted);
                    }
                }
                None => self.step(),
            }
        }
    }
}

/// An offset in 4096 bytes, mostly where registers are.
fn offset(rng: &mut Rng) -> i32 {
    let (mut choice, number) = (rng.below(100), rng.next_u32());
    let mut start = 0;
    for (share, end) in OFFSETS {
        if choice < share {
            let offset = start + number % (end - start);
            return i32::try_from(offset).unwrap_or_default();
        }
        choice -= share;
        start = end;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::tests::e1000e;

    const ADDRESS: Sbdf = Sbdf::from_devfn(0, 0, 0);

    fn sequence(seed: u64) -> Vec<ConfigAccess> {
        let mut spare = Spare::default();
        spare.add(&SpareList::read(None).unwrap(), ADDRESS, &Layout::of(&e1000e()));
        Sequence::new(seed, vec![ADDRESS], spare).take(10_000).collect()
    }

    #[test]
    fn sequence_depends_on_the_seed_and_on_nothing_else() {
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        // The first ones, so that a change of the sequence is seen: recordings of before cannot be compared then.
        let first: Vec<String> = sequence(1).iter().take(6).map(ToString::to_string).collect();
        assert_eq!(
            first,
            [
                "R 00:00.0 1 0xee",
                "W 00:00.0 4 0x14 0xd0bad0da",
                "R 00:00.0 4 0x14",
                "R 00:00.0 2 0x84",
                "R 00:00.0 1 0x122",
                "R 00:00.0 4 0xa0",
            ]
        );
    }

    #[test]
    fn accesses_are_of_all_kinds_mostly_valid_and_each_write_is_followed_by_a_read() {
        let accesses = sequence(3);
        let count = |of: &dyn Fn(&ConfigAccess) -> bool| accesses.iter().filter(|access| of(access)).count();
        assert!((9_000..9_900).contains(&count(&|access| access.valid().is_some() && access.address == ADDRESS)));
        for size in [1, 2, 4] {
            assert!(count(&|access| access.size == size && access.direction == Direction::Write) > 500);
        }
        assert!(count(&|access| access.address != ADDRESS) > 20);
        assert!(count(&|access| WRONG_SIZES.contains(&access.size)) > 20);
        assert!(count(&|access| access.offset >= 0x1000) > 20);
        assert_eq!(count(&|access| access.offset < 0), 0);
        for pair in accesses.windows(2).filter(|pair| pair[0].direction == Direction::Write) {
            let read = ConfigAccess { direction: Direction::Read, value: 0, ..pair[0] };
            assert_eq!(pair[1], read);
        }
    }

    #[test]
    fn nothing_that_is_spared_is_written() {
        for access in sequence(11) {
            let Some((offset, width)) = access.valid() else { continue };
            if access.direction == Direction::Read || access.address != ADDRESS {
                continue;
            }
            let end = offset + u16::from(width.bytes());
            assert!(!(offset < 0x08 && end > 0x06), "status: {access}");
            assert!(!(offset <= 0x0f && end > 0x0f), "bist: {access}");
            if offset <= 0xcc && end > 0xcc {
                assert_eq!(access.value & 3, 0, "power state: {access}");
            }
        }
    }
}
