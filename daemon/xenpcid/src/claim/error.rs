use std::fmt;

use xenpcid_address::Sbdf;
use xenpcid_config::ChoiceError;
use xenpcid_host::HostError;
use xenpcid_policy::{CompileError, Unsupported};

/// Why a device cannot be claimed, renewed or released.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// An operation of the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The device's configuration space is not one that a guest can be given.
    #[error("{function} cannot be given to a guest: {reason}")]
    Unsupported {
        /// The device.
        function: Sbdf,
        /// What is wrong with it.
        reason: Unsupported,
    },
    /// No policy can be chosen for the device.
    #[error("{function} has no policy: {reason}")]
    NoPolicy {
        /// The device.
        function: Sbdf,
        /// Why not.
        reason: ChoiceError,
    },
    /// The device and its policy do not go together.
    #[error("{function} cannot be given to a guest: {reason}")]
    Policy {
        /// The device.
        function: Sbdf,
        /// Why not.
        reason: Box<CompileError>,
    },
    /// The host has no way to reset the device.
    #[error(
        "{function} has no reset method, so what one guest leaves in it would reach the next; \
         reset = \"best-effort\" in its configuration accepts that"
    )]
    NoReset {
        /// The device.
        function: Sbdf,
    },
    /// The device has an MSI-X table in memory that it does not decode.
    #[error(
        "{function} does not decode its memory, so its MSI-X table cannot be protected; does it have its BARs assigned?"
    )]
    MemoryNotDecoded {
        /// The device.
        function: Sbdf,
    },
    /// The device is not what it was before the reset.
    #[error(
        "{function} did not come back from its reset: the register at {offset:#04x} was {before:#x} and is {after:#x}; \
         it stays in quarantine, and a power cycle of the host may bring it back"
    )]
    NotRestored {
        /// The device.
        function: Sbdf,
        /// The register.
        offset: u16,
        /// Its value when the device was claimed.
        before: u32,
        /// Its value now.
        after: u32,
    },
    /// Steps that could not be undone.
    #[error(
        "{function} could not be taken back whole: {stuck}; {errors}; it stays in quarantine if Xen has it there, see `xl debug-keys Q`"
    )]
    Stuck {
        /// The device.
        function: Sbdf,
        /// What is not undone.
        stuck: String,
        /// Each failure.
        errors: Failures,
    },
    /// A page of the device's memory also holds registers of another device.
    #[error(
        "{function} shares the page {frame:#x} of its memory with {other}, which a guest would reach with it; give both to dom0,          or have firmware or Linux (pci=resource_alignment={function}) place it on a page of its own"
    )]
    SharedPage {
        /// The device.
        function: Sbdf,
        /// The other one.
        other: Sbdf,
        /// Number of the page of 4 KiB.
        frame: u64,
    },
}

/// Several failures, one after the other.
#[derive(Debug)]
pub struct Failures(pub Vec<HostError>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}
