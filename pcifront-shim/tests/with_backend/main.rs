//! The frontend against backends in the same thread: scripted ones, and one with a recorded device.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test are a test")]

mod connection;
mod frontend;
mod guest;
mod recorded_device;
mod trace;
