//! What is said to sessions, and what they answer.

use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::HostError;
use xenpcid_policy::{NoPlace, VirtualAddress};
use xenstore_protocol::Error as XenstoreError;
use xenstore_protocol::pci_nodes::DeviceOptions;

use crate::claim::{ClaimError, Claimed, NetworkAddress};

/// A domain that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its number, which is new each time it starts.
    pub domain: DomainId,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (domain {})", self.name, self.domain)
    }
}

/// Why a guest does not get a device, or does not let go of it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A device could not be given to it, or could not be renewed after it.
    #[error(transparent)]
    Device(#[from] ClaimError),
    /// There is no place for a device on its bus.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// Its nodes could not be written.
    #[error(transparent)]
    Xenstore(#[from] XenstoreError),
    /// It does not have the device.
    #[error("{function} is not attached to {guest}")]
    NotAttached {
        /// The device.
        function: Sbdf,
        /// The guest.
        guest: Guest,
    },
    /// It was asked to let go and did not answer.
    #[error(
        "{guest} did not let go of its devices within {} s and keeps them; is a program in it using one? \
         --force takes them away all the same", .patience.as_secs_f32()
    )]
    NotLetGo {
        /// The guest.
        guest: Guest,
        /// How long it had.
        patience: Duration,
    },
    /// The domain is gone, or the daemon ends.
    #[error("the domain ended meanwhile")]
    Ended,
    /// No thread for its ring.
    #[error("no thread for the guest's ring: {0}")]
    NoThread(std::io::Error),
    /// A defect.
    #[error("a thread ended badly; this is a defect, please report it: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<HostError> for SessionError {
    fn from(error: HostError) -> Self {
        Self::Device(error.into())
    }
}

/// A device that a guest is to have.
pub struct Wanted {
    /// The device.
    pub claimed: Box<Claimed>,
    /// Where on the guest's bus; anywhere for `None`.
    pub slot: Option<u8>,
    /// For a virtual function of a pool: what its physical function's driver is told.
    pub network: Option<NetworkAddress>,
    /// What was said of it that only others read.
    pub options: DeviceOptions,
}

/// Where a guest finds a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The device.
    pub function: Sbdf,
    /// Its place.
    pub address: VirtualAddress,
}

/// What became of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The devices in the order in which they were given.
    pub devices: Vec<Placed>,
    /// Whether the guest was told and did not look in the time that it had. It finds them when it does.
    pub unanswered: bool,
}

/// What a session is asked to do. All devices, or none.
pub enum Command {
    /// Gives devices to the guest. Those that it does not get are back in the pool before the reply.
    Attach {
        /// The devices.
        devices: Vec<Wanted>,
        /// How long the guest has to look at them.
        patience: Duration,
        /// Told what became of it.
        reply: oneshot::Sender<Result<Attached, SessionError>>,
    },
    /// Asks the guest to let go of devices, takes them back and renews them. They are back in the pool before the reply.
    Detach {
        /// The devices.
        functions: Vec<Sbdf>,
        /// Take them away although the guest does not let go.
        force: bool,
        /// How long the guest has to let go.
        patience: Duration,
        /// Told what became of it.
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
}

/// Why a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The domain is gone: take everything back.
    Gone,
    /// The daemon ends: leave the guest its devices.
    Leave,
}

/// A device given back: ready for the next guest, or not and why.
pub type Returned = Result<Box<Claimed>, (Box<Claimed>, ClaimError)>;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The domain is gone, and all its devices are back in the pool.
    Released,
    /// The domain has its devices, and the daemon ends.
    Left,
}
