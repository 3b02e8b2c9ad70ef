use std::fmt;

use xenpcid_address::Sbdf;
use xenpcid_config::{ChoiceError, Device};
use xenpcid_host::HostError;
use xenpcid_policy::{CompileError, Unsupported};

use super::ResetReport;
use crate::checks::{self, Finding};

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
    /// A guest asked for a reset that would reach more than its device.
    #[error("{function} has no reset that leaves everything else alone, so its guest cannot reset it")]
    NoFunctionLevelReset {
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
    /// No reset method worked.
    #[error(
        "{function} could not be reset: {report}; it stays in quarantine, and a power cycle of the host may bring it back"
    )]
    NotReset {
        /// The device.
        function: Sbdf,
        /// What became of each method.
        report: Box<ResetReport>,
    },
    /// The device is not what it was before the reset.
    #[error(
        "{function} did not come back from its reset: the register at {offset:#04x} was {before:#x} and is {after:#x}"
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
    /// A virtual function cannot be given to a guest that has no address of its own.
    #[error(
        "{function} still has the {what} of its last guest, which its physical function's driver does not take away: {error}; \
         give the next guest's device a mac and a vlan of its own, or make the virtual functions anew (sriov_numvfs)"
    )]
    AddressLeft {
        /// The device.
        function: Sbdf,
        /// What it still has.
        what: &'static str,
        /// What the driver said.
        error: HostError,
    },
    /// The device was not whole after its last guest.
    #[error("{function} is broken: {reason}")]
    Broken {
        /// The device.
        function: Sbdf,
        /// What is wrong with it.
        reason: String,
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
    /// Safety checks, which say what would go wrong.
    #[error("{function} is refused: {}", .findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; "))]
    Checks {
        /// The device.
        function: Sbdf,
        /// Each reason.
        findings: Vec<Finding>,
    },
}

impl ClaimError {
    /// Refuses a device for what safety checks found, as it is declared.
    ///
    /// # Errors
    /// [`ClaimError::Checks`] with the findings that are not accepted.
    pub fn refuse(function: Sbdf, findings: Vec<Finding>, device: &Device) -> Result<(), Self> {
        let findings = checks::refusals(findings, device);
        if findings.is_empty() { Ok(()) } else { Err(Self::Checks { function, findings }) }
    }
}

/// Several failures, one after the other.
#[derive(Debug)]
pub struct Failures(pub Vec<HostError>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}
