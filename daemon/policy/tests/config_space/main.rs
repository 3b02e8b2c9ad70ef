//! What guests see of configuration spaces and what their writes do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop where something is wrong")]

mod hostile;
mod machine;
mod made_up;
mod policies;
mod recorded;
mod trace;
mod unsupported;
