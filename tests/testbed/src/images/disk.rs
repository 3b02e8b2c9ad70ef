//! Known content for the emulated NVMe disks.

/// Bytes of a disk; 65536 blocks of 512 bytes.
pub const DISK_SIZE: usize = 32 << 20;

/// SHA-256 of [`content`].
pub const DISK_SHA256: &str = "3360db805eaa2cb21e80d5f13d2d88227a6aea23848392d508490e09c62af432";

/// [`DISK_SIZE`] bytes without a period, so that a block read from the wrong place, or twice, changes the hash. Always the
/// same ones.
#[must_use]
pub fn content() -> Vec<u8> {
    let mut state = 0x7865_6e70_6369_6421_u64;
    let mut bytes = Vec::with_capacity(DISK_SIZE);
    while bytes.len() < DISK_SIZE {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003): period 2^64 - 1.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::cache::hexadecimal;

    #[test]
    fn content_has_the_hash_that_scenarios_expect() {
        assert_eq!(hexadecimal(&Sha256::digest(content())), DISK_SHA256);
    }

    #[test]
    fn no_two_blocks_are_equal() {
        let content = content();
        let blocks: HashSet<&[u8]> = content.chunks(512).collect();
        assert_eq!((content.len(), blocks.len()), (DISK_SIZE, DISK_SIZE / 512));
    }
}
