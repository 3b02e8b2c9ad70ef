//! Devices of the host: what the operator declares of each.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use xenpcid_address::Sbdf;

use crate::Identity;
use crate::nearest::did_you_mean;

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// By what it is found. No other declaration has the same.
    pub identity: Identity,
    /// What the operator calls it, for domains and for policies that match by name. No other device has it; it is not
    /// empty, is no address, and has no `*`.
    pub name: Option<String>,
    /// The policy it is given; `None` leaves the choice to [`Policies::for_device`](crate::Policies::for_device).
    pub policy: Option<String>,
    /// What to do if it cannot be reset.
    pub reset: ResetRequirement,
    /// When it is taken from dom0.
    pub start: Start,
    /// Safety checks that it is let pass.
    pub allow: BTreeSet<Override>,
}

impl Device {
    /// A device with nothing declared but its address.
    #[must_use]
    pub fn new(address: Sbdf) -> Self {
        Self::identified(address.into())
    }

    /// A device with nothing declared but by what it is found.
    #[must_use]
    pub const fn identified(identity: Identity) -> Self {
        Self {
            identity,
            name: None,
            policy: None,
            reset: ResetRequirement::Required,
            start: Start::Claim,
            allow: BTreeSet::new(),
        }
    }
}

/// Virtual functions of a device (SR-IOV), any free one of which a domain can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// What domains call it. No other pool has it; not empty.
    pub name: String,
    /// The device whose virtual functions they are. It stays with its driver in dom0.
    pub physical_function: Identity,
    /// How many virtual functions it is to have, at least 1.
    pub count: u16,
    /// The policy of each; `None` leaves the choice to [`Policies::for_device`](crate::Policies::for_device).
    pub policy: Option<String>,
    /// What to do if one of them cannot be reset.
    pub reset: ResetRequirement,
    /// Safety checks that they are let pass.
    pub allow: BTreeSet<Override>,
}

/// Values that have one spelling each in the configuration.
macro_rules! spelled {
    ($type:ident, $what:literal: $($variant:ident = $text:literal),+ $(,)?) => {
        impl $type {
            /// All of them, in the order of their documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// How it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.as_str().fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| UnknownWord {
                    what: $what,
                    word: text.to_owned(),
                    known: &[$($text),+],
                })
            }
        }
    };
}

/// Whether a device has to be reset between two owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetRequirement {
    /// A device that cannot be reset is refused.
    #[default]
    Required,
    /// A device that cannot be reset is handed on as it is.
    BestEffort,
}

spelled!(ResetRequirement, "requirement of a reset": Required = "required", BestEffort = "best-effort");

/// When a device is taken from dom0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// When the daemon starts, so that dom0's driver touches it as little as possible.
    #[default]
    Claim,
    /// When a domain is to have it; until then dom0 uses it.
    OnDemand,
}

spelled!(Start, "time to take a device": Claim = "claim", OnDemand = "on-demand");

/// A safety check that the operator lets a device pass, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Override {
    /// dom0 uses the device: a mounted filesystem, swap, the console, the default route.
    HostUse,
    /// Another function of its isolation group belongs elsewhere.
    SplitGroup,
    /// One of its BARs shares a 4 KiB page with another device.
    SharedPage,
    /// A device that belongs elsewhere uses its INTx line, too.
    SharedInterrupt,
    /// Firmware reserves memory for it (RMRR), which the guest's memory overlaps.
    ReservedMemory,
    /// It has virtual functions (SR-IOV), which would go with it.
    VirtualFunctions,
}

spelled!(
    Override, "key of a safety check":
    HostUse = "host-use",
    SplitGroup = "split-group",
    SharedPage = "shared-page",
    SharedInterrupt = "shared-interrupt",
    ReservedMemory = "reserved-memory",
    VirtualFunctions = "virtual-functions",
);

/// A word that is none of those that are possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" is no {what}{}", word.escape_debug(), instead(word, known))]
pub struct UnknownWord {
    what: &'static str,
    word: String,
    known: &'static [&'static str],
}

fn instead(word: &str, known: &[&str]) -> String {
    match did_you_mean(word, known.iter().copied()) {
        meant if meant.is_empty() => match known.split_last() {
            Some((last, [])) => format!(": write {last}"),
            Some((last, others)) => format!(": write {} or {last}", others.join(", ")),
            None => String::new(),
        },
        meant => meant,
    }
}
