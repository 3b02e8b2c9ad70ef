//! What an operator says about registers: the policy language, after its text has been read.
//!
//! A [`Policy`] is a stack of [`Layer`]s, its own on top of those that it extends. For each bit of a device's
//! configuration space counts, from the strongest:
//!
//! 1. a capability that is hidden: reads zero, or nothing at all, and discards writes;
//! 2. the topmost [`Rule`] that names the bit and applies to the device;
//! 3. what the [registers' tables](crate::registers) say of [guarded](crate::Kind::Guarded) bits;
//! 4. the topmost [`Layer::otherwise`], and below all layers: reads pass, writes are discarded.
//!
//! No rule can let a guest's write pass to a guarded bit; [`Rule::check`] and the compilation refuse one that would.
//! Two rules of one layer must not name the same bit: their order says nothing.

mod check;
mod device_match;
mod place;

use std::fmt;
use std::sync::Arc;

pub use check::{RuleFault, overlap};
pub use device_match::{DeviceIdentity, DeviceMatch};
pub use place::{Place, PlaceError};

use crate::registers::AnyCapabilityId;

/// What becomes of a guest's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadAction {
    /// The device answers.
    Pass,
    /// Answered without the device.
    Emulate,
    /// Refused with `access_denied`, as a whole.
    Deny,
}

/// What becomes of a guest's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteAction {
    /// Reaches the device.
    Pass,
    /// Kept, and read back by the guest; for a bit with a meaning of its own (power state, reset) acted upon.
    Emulate,
    /// Accepted, with success, and dropped.
    Discard,
    /// A write that would do something to these bits is refused with `access_denied`, as a whole: one that changes bits
    /// which are emulated, writes 1 where only a 1 acts, or touches other bits at all.
    Deny,
}

/// Where a rule or a layer was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Name of the policy.
    pub policy: Arc<str>,
    /// Line of its file, from 1.
    pub line: usize,
}

/// What becomes of accesses to some bits of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which register.
    pub place: Place,
    /// Which bits of it.
    pub mask: u32,
    /// Reads. For guarded bits with a meaning of their own it must be [`ReadAction::Emulate`].
    pub read: ReadAction,
    /// Writes.
    pub write: WriteAction,
    /// With [`ReadAction::Emulate`]: what the bits read at first, in the register's position. `None`: what the registers'
    /// tables say of guarded bits; for others the device's value at the time of the claim.
    pub reset_value: Option<u32>,
    /// With [`WriteAction::Pass`]: whether the bits are written as they were at the claim before the next guest has the
    /// device. Not where that would do something: status that a 1 clears, a register behind an index.
    pub undo: bool,
    /// On which devices.
    pub when: DeviceMatch,
    /// Why it is so, for whoever reads `xenpci explain`.
    pub why: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
}

/// Whether a capability is in the list that the guest finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// Which kind; all of that kind, if a function has several.
    pub capability: AnyCapabilityId,
    /// Hidden, or shown although a layer below hides it.
    pub hidden: bool,
    /// Why.
    pub why: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
}

/// What becomes of bits that no rule names and that are not guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otherwise {
    /// Reads: [`ReadAction::Pass`], or [`ReadAction::Emulate`] for the value at the time of the claim.
    pub read: ReadAction,
    /// Writes.
    pub write: WriteAction,
    /// Why.
    pub why: Arc<str>,
    /// Where it was written.
    pub origin: Origin,
}

/// What one policy file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Bits that no rule names.
    pub otherwise: Option<Otherwise>,
    /// Rules, in the order of the file, which says nothing.
    pub rules: Vec<Rule>,
    /// Capabilities that are hidden or shown again.
    pub visibility: Vec<Visibility>,
}

/// What guests may do with the registers of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// By which devices are given it.
    pub name: Arc<str>,
    /// What it is for, in a sentence or more.
    pub description: Arc<str>,
    /// The devices that it is for. It is an error to give it to another.
    pub applies_to: DeviceMatch,
    /// The policies that it extends, lowest first, and last its own.
    pub layers: Vec<Layer>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {} line {}", self.policy, self.line)
    }
}

impl fmt::Display for ReadAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Emulate => "emulate",
            Self::Deny => "deny",
        })
    }
}

impl fmt::Display for WriteAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Emulate => "emulate",
            Self::Discard => "discard",
            Self::Deny => "deny",
        })
    }
}
