use xenpcid_address::Sbdf;

use crate::claim::ClaimError;
use crate::session::{Guest, SessionError};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The device itself, or the host.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The guest, or what it was to get.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// xenstore.
    #[error(transparent)]
    Xenstore(#[from] xenstore_protocol::Error),
    /// A guest has the device.
    #[error("{holder} has {function}; `xenpci detach {} {function}` takes it back", .holder.name)]
    Lent {
        /// The device.
        function: Sbdf,
        /// Who has it.
        holder: Guest,
    },
    /// The guest has it already.
    #[error("{guest} has {function} already")]
    AlreadyAttached {
        /// The device.
        function: Sbdf,
        /// The guest.
        guest: Guest,
    },
    /// The guest does not have it.
    #[error("{function} is not attached to {guest}")]
    NotAttached {
        /// The device.
        function: Sbdf,
        /// The guest.
        guest: Guest,
    },
    /// dom0 has it.
    #[error("{function} is not assignable: dom0 has it; `xenpci claim {function}` takes it from dom0")]
    NotClaimed {
        /// The device.
        function: Sbdf,
    },
    /// Another operation is in progress.
    #[error("{function} is being claimed, renewed or released; try again when that is done")]
    Busy {
        /// The device.
        function: Sbdf,
    },
    /// The domain ended in the middle of it.
    #[error("{guest} ended meanwhile; its devices were taken back")]
    DomainEnded {
        /// The domain.
        guest: Guest,
    },
    /// It failed, and of what was done before that something could not be undone.
    #[error("{error}; and before that, {}", .left.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotUndone {
        /// Why it failed.
        error: Box<Self>,
        /// What is left of it.
        left: Vec<Left>,
    },
    /// A defect.
    #[error("a thread ended badly; this is a defect, please report it: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// A device that is not where it was before an operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// It could not be given back.
    #[error("{function} was claimed and could not be given back to dom0: {error}")]
    Claimed {
        /// The device.
        function: Sbdf,
        /// Why not.
        error: Box<OperationError>,
    },
    /// It could not be claimed again.
    #[error("{function} was given back to dom0 and could not be claimed again: {error}")]
    Released {
        /// The device.
        function: Sbdf,
        /// Why not.
        error: Box<OperationError>,
    },
}
