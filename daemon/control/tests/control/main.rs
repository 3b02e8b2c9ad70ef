//! The control socket, over real sockets.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop where something is wrong")]

mod errors;
mod interface;
mod operations;
mod peer;
mod samples;
mod service;
mod socket;
