//! What guests see of configuration spaces and what their writes do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop where something is wrong")]
#![allow(clippy::cast_possible_truncation, reason = "a configuration space is small")]

mod devices;
mod exhaustive;
mod explained;
mod fuzzed;
mod guarded;
mod hostile;
mod machine;
mod made_up;
mod pair;
mod policies;
mod recorded;
mod recordings;
mod reference;
mod refused;
mod safety;
mod trace;
mod undone;
mod unsupported;
mod watch;
