use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

use crate::types::Guest;

/// What a guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// To read a register.
    Read,
    /// To write one.
    Write,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest was told that it succeeded, and nothing was done.
    Discarded,
    /// The guest was told that access is denied.
    Denied,
}

/// Accesses that did not do what the guest wanted, counted for one register, one operation and one outcome since the
/// device was given to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The device's address on the host.
    pub device: Sbdf,
    /// The guest that tried.
    pub guest: Guest,
    /// Where the register is in the configuration space, in bytes.
    pub offset: u16,
    /// How many bytes it has: 1, 2 or 4.
    pub width: u16,
    /// The register's name, if one is known.
    pub register: Option<String>,
    /// The name of its capability; `None` for the header and where none is known.
    pub capability: Option<String>,
    /// Whether the policy hides that capability.
    pub hidden: bool,
    /// What was tried.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// All bits of the register that the guest did not get, in the register's position.
    pub bits: u32,
    /// How many accesses.
    pub count: u64,
    /// What the last one was to write, in the register's position; 0 for reads.
    pub last_value: u32,
    /// When the last one was: milliseconds since 1970-01-01 00:00 UTC.
    pub last_time: u64,
}
