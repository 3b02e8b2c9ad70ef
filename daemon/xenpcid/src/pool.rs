//! The devices that the daemon looks after, and where each of them is.
//!
//! ```text
//!               claim                    attach
//!   Unclaimed ──────────► Free ◄──────────────────────► Lent (a session has it)
//!       ▲     ◄──────────  │ ▲                            │ cannot be taken back whole, or not be renewed
//!       │      release     │ │ renewed, when tried again  ▼
//!       └──────────────────┘ └───────────────────────── Broken
//! ```
//! While one of these arrows is on its way, the device is Busy: whoever put it there has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use xenpcid_address::Sbdf;
use xenpcid_config::Device;
use xenpcid_control::{Event, EventKind, Events};

use crate::claim::{ClaimError, Claimed, Facts};
use crate::session::{Guest, Returned, SessionError};

/// Where a device is.
pub enum Slot {
    /// In dom0; not claimed yet, or the claim failed.
    Unclaimed,
    /// Being claimed, renewed or released.
    Busy,
    /// In quarantine, ready.
    Free(Box<Claimed>),
    /// A session has it.
    Lent(Guest, Arc<Facts>),
    /// In quarantine, not ready; why.
    Broken(Box<Claimed>, String),
}

impl Slot {
    /// What is known of the device, if it was claimed.
    #[must_use]
    pub fn facts(&self) -> Option<&Arc<Facts>> {
        match self {
            Self::Unclaimed | Self::Busy => None,
            Self::Free(claimed) | Self::Broken(claimed, _) => Some(claimed.facts()),
            Self::Lent(_, facts) => Some(facts),
        }
    }
}

/// A device that the daemon looks after.
pub struct Entry {
    /// What was said of it, in the configuration or by a command.
    pub device: Device,
    /// Where it is.
    pub slot: Slot,
    /// Since when.
    pub since: SystemTime,
}

/// All of them. The toolstack moves them about, sessions give them back, others only look.
pub struct Pool {
    entries: Mutex<BTreeMap<Sbdf, Entry>>,
    changed: Notify,
    events: Events,
}

impl Pool {
    /// With no device. Resets are told to `events`.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self { entries: Mutex::default(), changed: Notify::new(), events }
    }

    /// The devices, for as long as the result lives: not across anything that takes its time.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<Sbdf, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when a device has been put somewhere since the last call.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks after a device, as `device` says; one that is looked after stays where it is.
    pub fn declare(&self, function: Sbdf, device: &Device) {
        let entry = || Entry { device: device.clone(), slot: Slot::Unclaimed, since: SystemTime::now() };
        self.lock().entry(function).or_insert_with(entry).device = device.clone();
    }

    /// Puts a device somewhere else; nothing happens to one that is not looked after.
    pub fn put(&self, function: Sbdf, slot: Slot) {
        if let Some(entry) = self.lock().get_mut(&function) {
            let report = slot.facts().and_then(|facts| facts.last_reset());
            if let Some(report) = report.filter(|report| report.time >= entry.since) {
                self.events.publish(Event::now(EventKind::Reset, format!("{function} {report}")).of(function));
            }
            entry.since = SystemTime::now();
            entry.slot = slot;
        }
        self.changed.notify_one();
    }

    /// A device is dom0's again, and what commands have said of it is over.
    pub fn forget(&self, function: Sbdf) {
        self.lock().remove(&function);
        self.changed.notify_one();
    }

    /// Puts a device somewhere else, if it is where `wanted` says.
    pub fn take<T>(&self, function: Sbdf, wanted: impl FnOnce(Slot) -> Result<(Slot, T), Slot>) -> Option<T> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&function)?;
        match wanted(std::mem::replace(&mut entry.slot, Slot::Busy)) {
            Ok((slot, taken)) => {
                entry.slot = slot;
                entry.since = SystemTime::now();
                Some(taken)
            }
            Err(slot) => {
                entry.slot = slot;
                None
            }
        }
    }

    /// Takes in what a guest does not have any more, or did not get.
    ///
    /// # Errors
    /// The first of the devices that are not ready for the next guest.
    pub fn take_in(&self, guest: &Guest, devices: Vec<Returned>) -> Result<(), SessionError> {
        let mut result = Ok(());
        for device in devices {
            match device {
                Ok(claimed) => {
                    let function = claimed.function();
                    tracing::info!(%function, domain = %guest, "released, in quarantine and ready for the next guest");
                    self.put(function, Slot::Free(claimed));
                }
                Err((claimed, error)) => {
                    let function = claimed.function();
                    tracing::error!(%function, domain = %guest, %error, "cannot be given to another guest");
                    let reason = error.to_string();
                    self.put(function, Slot::Broken(claimed, reason.clone()));
                    result = result.and(Err(ClaimError::Broken { function, reason }.into()));
                }
            }
        }
        result
    }
}
