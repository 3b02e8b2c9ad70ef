//! Numbers that look random and are the same for the same seed: SplitMix64 (Steele, Lea, Flood: Fast Splittable
//! Pseudorandom Number Generators, 2014), small enough that no library's next version can change the sequences.

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The upper half of the next number.
    pub fn next_u32(&mut self) -> u32 {
        let [.., a, b, c, d] = (self.next_u64() >> 32).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// A number below `limit`, which is not 0; the bias of the remainder does not matter here.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.next_u32() % limit.max(1)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of these; `None` if there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let count = u32::try_from(from.len()).unwrap_or(u32::MAX);
        let index = usize::try_from(self.below(count)).unwrap_or_default();
        from.get(index).copied()
    }

    /// A value as a driver or an attacker would write it: all ones, 0, one bit, or anything.
    pub fn value(&mut self) -> u32 {
        let (kind, bits) = (self.below(8), self.next_u32());
        match kind {
            0 | 1 => u32::MAX,
            2 => 0,
            3 | 4 => 1 << (bits & 31),
            _ => bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_is_that_of_the_reference_implementation() {
        let mut rng = Rng::new(1_234_567);
        let numbers: [u64; 5] = std::array::from_fn(|_| rng.next_u64());
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn numbers_stay_below_their_limit_and_reach_all_of_it() {
        let mut rng = Rng::new(0);
        let seen: std::collections::BTreeSet<u32> = (0..200).map(|_| rng.below(7)).collect();
        assert_eq!(seen, (0..7).collect());
        assert_eq!(rng.pick::<u8>(&[]), None);
        assert!(!rng.chance(0) && rng.chance(100));
    }
}
