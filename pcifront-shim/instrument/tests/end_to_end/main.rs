//! Each command against the daemon itself, on the simulated host: the same code that runs in a real guest, over a page in
//! memory.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "the helpers of a test are a test")]

mod commands;
mod guest;
mod handshake;
