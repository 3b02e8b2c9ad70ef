use std::sync::Arc;

use crate::policy::{Origin, Place, Policy, ReadAction, RuleFault, WriteAction};
use crate::unsupported::Unsupported;

/// On what terms a guest gets a device.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the guest may do with its registers.
    pub policy: &'a Policy,
    /// What the operator calls the device, for rules that match by name.
    pub name: Option<&'a str>,
    /// Most MSI-X vectors that the guest is to be shown: its domain's budget. At least 1 is shown.
    pub vectors: u16,
}

/// Why a device cannot be given to a guest under a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The device itself.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The policy is for other devices.
    #[error(
        "policy {policy} is not for {vendor:04x}:{device:04x} of class {class:06x}: its [match] names others; choose another policy, or write one that extends it"
    )]
    NotForDevice {
        /// The policy.
        policy: Arc<str>,
        /// The device's vendor ID.
        vendor: u16,
        /// Its device ID.
        device: u16,
        /// Its class, 24 bits.
        class: u32,
    },
    /// A rule asks on this device for what it must not.
    #[error("{origin}: on this device {place} is at {offset:#05x}, and {fault}")]
    Rule {
        /// Where the rule was written.
        origin: Origin,
        /// Its place.
        place: Place,
        /// Where that is.
        offset: u16,
        /// What is wrong.
        fault: RuleFault,
    },
    /// Two rules of one policy meet on this device.
    #[error(
        "{first} and line {} of the same policy both say what becomes of bit {bit} of the byte at {offset:#05x}: one of them must leave it out", .second.line
    )]
    Overlap {
        /// Where the first was written.
        first: Origin,
        /// Where the second was.
        second: Origin,
        /// The byte.
        offset: u16,
        /// The bit of it.
        bit: u32,
    },
}

/// What becomes of accesses to some bits, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Reads.
    pub read: ReadAction,
    /// Writes.
    pub write: WriteAction,
    /// Whether what passed is undone before the next guest has the device; `None`: where the tables have the register.
    pub undo: Option<bool>,
    /// Why.
    pub why: Arc<str>,
    /// The rule; `None` for guarded bits that no rule names, and where no policy says anything.
    pub origin: Option<Origin>,
    /// Whether it hides a capability.
    pub hides: bool,
}
