//! The devices that are declared, and where each of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xenpcid_address::Sbdf;
use xenpcid_config::{Config, Device};

use crate::claim::{Claimed, Facts};
use crate::session::Guest;

/// Where a device is.
pub enum Slot {
    /// Not claimed yet, or the claim failed and is tried again when a domain wants the device.
    Unclaimed,
    /// In quarantine, ready.
    Free(Box<Claimed>),
    /// A session has it.
    Lent(Guest, Arc<Facts>),
    /// In quarantine, not ready.
    Broken(Arc<Facts>),
}

impl Slot {
    /// What is known of the device, if it was claimed.
    #[must_use]
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        match self {
            Self::Unclaimed => None,
            Self::Free(claimed) => Some(claimed.facts()),
            Self::Lent(_, facts) | Self::Broken(facts) => Some(facts),
        }
    }
}

/// A device of the configuration.
pub struct Declared {
    /// As declared.
    pub device: Device,
    /// Most MSI-X vectors that its domain is shown.
    pub vectors: u16,
    /// Where it is.
    pub slot: Slot,
}

/// All of them. The supervisor moves them about, others only look.
pub struct Pool(Mutex<BTreeMap<Sbdf, Declared>>);

impl Pool {
    /// Nothing claimed.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let of_domains = config.domains.iter().flat_map(|domain| {
            domain.devices.iter().map(|device| {
                let declared = Declared { device: device.clone(), vectors: domain.vectors, slot: Slot::Unclaimed };
                (device.sbdf, declared)
            })
        });
        Self(Mutex::new(of_domains.collect()))
    }

    /// The devices, for as long as the result lives: not across anything that takes its time.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<Sbdf, Declared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a device somewhere else; nothing happens to one that is not declared.
    pub fn put(&self, function: Sbdf, slot: Slot) {
        if let Some(declared) = self.lock().get_mut(&function) {
            declared.slot = slot;
        }
    }
}
