//! What is declared, compared with what is: pure, so that it can be shown without being carried out.

mod planner;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Device, HostFunction, VECTORS_MAX};
use xenstore_protocol::pci_nodes::DeviceOptions;

use crate::claim::NetworkAddress;
use crate::session::Guest;

/// Where a device is, as far as a plan needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In dom0.
    Unclaimed,
    /// On its way.
    Busy,
    /// Ready.
    Free,
    /// A guest has it.
    Lent(Guest),
    /// Not ready; why.
    Broken(String),
}

/// A function of the host.
#[derive(Clone, Debug)]
pub struct Function {
    /// By what it is found.
    pub identity: HostFunction,
    /// The physical function, if it is a virtual one.
    pub physical: Option<Sbdf>,
    /// Virtual functions that it has now.
    pub virtual_functions: u16,
}

/// A domain that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Who it is.
    pub guest: Guest,
    /// The UUID that the toolstack gave it.
    pub uuid: [u8; 16],
    /// Without a PV frontend.
    pub hvm: bool,
    /// The devices that it has.
    pub has: Vec<Sbdf>,
}

/// A device that a guest is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The device.
    pub function: Sbdf,
    /// What is said of it, for this guest.
    pub device: Device,
    /// What is said of it whoever has it, and holds again afterwards.
    pub base: Device,
    /// Where on the guest's bus; anywhere for `None`.
    pub slot: Option<u8>,
    /// Most MSI-X vectors that the guest is shown.
    pub vectors: u16,
    /// For a virtual function of a pool: what its physical function's driver is told.
    pub network: Option<NetworkAddress>,
    /// What was said of it that only others read.
    pub options: DeviceOptions,
}

impl Request {
    /// A device of which nothing else is said for this guest.
    #[must_use]
    pub fn new(function: Sbdf, device: Device) -> Self {
        Self {
            function,
            base: device.clone(),
            device,
            slot: None,
            vectors: VECTORS_MAX,
            network: None,
            options: DeviceOptions::default(),
        }
    }
}

/// What was done by hand, which a plan does not undo.
#[derive(Clone, Debug, Default)]
pub struct ByHand {
    /// Devices that domains were given although nothing says so, by the domain's UUID: a domain that reboots gets them again.
    pub attached: BTreeMap<[u8; 16], Vec<Request>>,
    /// Devices that a domain does not have any more although it is said to. Until its end, or until the configuration is
    /// applied.
    pub detached: BTreeSet<(DomainId, Sbdf)>,
    /// Devices that were claimed although nothing says so.
    pub claimed: BTreeSet<Sbdf>,
    /// Devices that were given back to dom0 although they are to be claimed. Until the configuration is applied.
    pub released: BTreeSet<Sbdf>,
}

/// Everything that a plan is made from.
#[derive(Debug)]
pub struct Picture<'a> {
    /// What is declared.
    pub config: &'a Config,
    /// The functions of the host.
    pub functions: Vec<Function>,
    /// The devices that are looked after.
    pub devices: BTreeMap<Sbdf, Whereabouts>,
    /// The domains that run, without dom0.
    pub domains: Vec<Running>,
    /// What was done by hand.
    pub by_hand: &'a ByHand,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have a physical function make its virtual functions.
    CreateFunctions {
        /// The physical function.
        physical: Sbdf,
        /// How many.
        count: u16,
        /// For which pool.
        pool: String,
    },
    /// Take a device from dom0.
    Claim {
        /// The device.
        function: Sbdf,
        /// What is said of it.
        device: Device,
    },
    /// Take devices from a guest.
    Detach {
        /// The guest.
        guest: Guest,
        /// The devices.
        functions: Vec<Sbdf>,
    },
    /// Give devices to a guest.
    Attach {
        /// The guest.
        guest: Guest,
        /// The devices.
        requests: Vec<Request>,
    },
    /// Give a device back to dom0.
    Release {
        /// The device.
        function: Sbdf,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |functions: Vec<String>| functions.join(", ");
        match self {
            Self::CreateFunctions { physical, count, pool } => {
                write!(f, "create {count} virtual functions of {physical} for pool {pool}")
            }
            Self::Claim { function, device } => match &device.name {
                Some(name) => write!(f, "claim {function} ({name})"),
                None => write!(f, "claim {function}"),
            },
            Self::Detach { guest, functions } => {
                write!(f, "detach {} from {guest}", list(functions.iter().map(ToString::to_string).collect()))
            }
            Self::Attach { guest, requests } => {
                let named = |request: &Request| match request.slot {
                    Some(slot) => format!("{} at slot {slot:#04x}", request.function),
                    None => request.function.to_string(),
                };
                write!(f, "attach {} to {guest}", list(requests.iter().map(named).collect()))
            }
            Self::Release { function } => write!(f, "release {function} to dom0"),
        }
    }
}

/// Why something declared is not there, and no action helps now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The domain that misses something, if it is one.
    pub guest: Option<Guest>,
    /// The declared device that is missing, by its name or identity, if it is one.
    pub device: Option<String>,
    /// What is wrong.
    pub text: String,
    /// Whether it will pass by itself: a device that is on its way.
    pub passes: bool,
    /// Whether it only follows from a problem that is told of the device itself.
    pub follows: bool,
}

impl Problem {
    /// Each problem in words, once: those that follow from another are told with that one.
    #[must_use]
    pub fn told(problems: &[Self]) -> Vec<String> {
        let told = |problem: &Self| {
            let follows = |other: &&Self| other.follows && other.device == problem.device;
            let waiting = problems.iter().filter(follows).filter_map(|other| other.guest.as_ref());
            let waiting: Vec<String> = waiting.map(ToString::to_string).collect();
            match waiting.as_slice() {
                [] => problem.text.clone(),
                [one] => format!("{}; {one} waits for it", problem.text),
                several => format!("{}; {} wait for it", problem.text, several.join(" and ")),
            }
        };
        problems.iter().filter(|problem| !problem.follows).map(told).collect()
    }
}

/// What is to be done, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it is to be done.
    pub actions: Vec<Action>,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Compares what is declared with what is.
    #[must_use]
    pub fn new(picture: &Picture<'_>) -> Self {
        planner::Planner::new(picture).plan()
    }
}
