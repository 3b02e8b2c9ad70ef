//! What a toolstack does with devices: claim, attach, detach, release. Each operation is all or nothing, and operations on
//! different guests and different devices run at the same time.
//!
//! Whoever calls, the reconciliation or an operator by the control socket, the work is done here and in the same way.

mod attach;
mod by_hand;
mod error;
mod guests;
mod records;
mod several;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Device, Policies};
use xenpcid_control::{Event, EventKind, Events};
use xenpcid_host::{Host, HostError};
use xenstore_protocol::Client;

pub use by_hand::Progress;
pub use error::{Left, OperationError};

use crate::claim::{ClaimError, Claimed};
use crate::plan::ByHand;
use crate::pool::{Pool, Slot};
use crate::ring::Places;
use crate::session::{Command, Guest, Outcome, Stop};

/// How many commands may wait for one session.
const COMMANDS: usize = 16;

/// A guest that has a session.
struct Served {
    guest: Guest,
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<Stop>>,
    places: Places,
}

/// A session that ended: whose, and how, unless badly.
pub type Ended = (Guest, Option<Outcome>);

/// What is declared, and by which rules.
#[derive(Clone)]
pub struct Declared {
    /// Devices and domains.
    pub config: Rc<Config>,
    /// What guests may do with registers.
    pub policies: Arc<Policies>,
}

/// The devices, the guests that have them, and what is declared about both.
pub struct Toolstack {
    host: Host,
    xenstore: Client,
    declared: RefCell<Declared>,
    pool: Arc<Pool>,
    guests: RefCell<BTreeMap<DomainId, Served>>,
    by_hand: Rc<RefCell<ByHand>>,
    wake: Rc<Notify>,
    events: Events,
    ended: mpsc::UnboundedSender<Ended>,
    busy: by_hand::Busy,
    /// Held from the safety checks of an attach until its devices are the guest's.
    granting: tokio::sync::Mutex<()>,
    occasion: Cell<u64>,
    progress: watch::Sender<Progress>,
}

impl Toolstack {
    /// With nothing claimed and nobody served. Sessions that end are told to the receiver.
    #[must_use]
    pub fn new(
        host: Host,
        xenstore: Client,
        config: Config,
        policies: Policies,
    ) -> (Rc<Self>, mpsc::UnboundedReceiver<Ended>) {
        let (ended, receiver) = mpsc::unbounded_channel();
        let events = Events::default();
        let toolstack = Self {
            host,
            xenstore,
            declared: RefCell::new(Declared { config: Rc::new(config), policies: Arc::new(policies) }),
            pool: Arc::new(Pool::new(events.clone())),
            guests: RefCell::default(),
            by_hand: Rc::default(),
            wake: Rc::default(),
            events,
            ended,
            busy: by_hand::Busy::default(),
            granting: tokio::sync::Mutex::default(),
            occasion: Cell::new(0),
            progress: watch::Sender::new(Progress::default()),
        };
        (Rc::new(toolstack), receiver)
    }

    /// Takes a device from dom0 into quarantine; one that is there already is only looked after under these terms.
    ///
    /// # Errors
    /// What stood in the way; the device is where it was.
    pub async fn claim(&self, function: Sbdf, device: &Device) -> Result<(), OperationError> {
        self.pool.declare(function, device);
        let taken = self.pool.take(function, |slot| match slot {
            Slot::Unclaimed => Ok((Slot::Busy, None)),
            Slot::Free(claimed) | Slot::Broken(claimed, _) => Ok((Slot::Busy, Some(claimed))),
            other => Err(other),
        });
        let Some(held) = taken else { return Err(self.not_to_be_had(function)) };
        let (host, device, policies) = (self.host.clone(), device.clone(), self.declared().policies);
        let owners = self.owners();
        let was_held = held.as_ref().is_some_and(|claimed| !claimed.is_given_back_in_part());
        let claim = move |host: &Host| {
            Claimed::claim(host, function, &device, &policies, &owners).map_err(|error| (None, error))
        };
        let claimed = tokio::task::spawn_blocking(move || match held {
            None => claim(&host),
            // Parts of it are dom0's already, so all of it goes there first.
            Some(claimed) if claimed.is_given_back_in_part() => match claimed.release(&host) {
                Ok(()) => claim(&host),
                Err((claimed, error)) => Err((Some(claimed), error)),
            },
            Some(mut claimed) => match claimed.recover(&host) {
                Ok(()) => Ok(claimed),
                Err(error) => Err((Some(claimed), error)),
            },
        });
        match claimed.await {
            Ok(Ok(claimed)) => {
                let facts = claimed.facts().clone();
                if !was_held {
                    let snapshot = &facts.snapshot;
                    tracing::info!(%function, vendor = format_args!("{:04x}", snapshot.vendor),
                        device = format_args!("{:04x}", snapshot.device), policy = %facts.policy.name, "claimed");
                    self.events.publish(Event::now(EventKind::Claimed, format!("{function} claimed")).of(function));
                    if let Err(error) = self.record_claim(function, &claimed).await {
                        tracing::warn!(%function, %error, "xl is not told where the device came from");
                    }
                }
                self.pool.put(function, Slot::Free(claimed));
                Ok(())
            }
            Ok(Err((None, error))) => {
                self.pool.put(function, Slot::Unclaimed);
                Err(error.into())
            }
            Ok(Err((Some(claimed), error))) => {
                self.pool.put(function, Slot::Broken(claimed, error.to_string()));
                Err(error.into())
            }
            Err(error) => {
                // What became of it the next claim finds out.
                self.pool.put(function, Slot::Unclaimed);
                Err(error.into())
            }
        }
    }

    /// Gives a device back to dom0, and with `rebind` to the driver that it was taken from.
    ///
    /// # Errors
    /// A guest has it, or it could not be given back whole; then it stays in quarantine.
    pub async fn release(&self, function: Sbdf, rebind: bool) -> Result<(), OperationError> {
        let taken = self.pool.take(function, |slot| match slot {
            Slot::Free(claimed) | Slot::Broken(claimed, _) => Ok((Slot::Busy, claimed)),
            other => Err(other),
        });
        let Some(mut claimed) = taken else { return Err(self.not_to_be_had(function)) };
        let host = self.host.clone();
        let released = tokio::task::spawn_blocking(move || {
            if !rebind {
                claimed.forget_driver();
            }
            claimed.release(&host)
        });
        match released.await {
            Ok(Ok(())) => {
                tracing::info!(%function, "given back to dom0");
                self.pool.forget(function);
                self.events
                    .publish(Event::now(EventKind::Released, format!("{function} given back to dom0")).of(function));
                if let Err(error) = self.forget_claim(function, rebind).await {
                    tracing::warn!(%function, %error, "xl is not told that the device was given back");
                }
                Ok(())
            }
            Ok(Err((claimed, error))) => {
                self.pool.put(function, Slot::Broken(claimed, error.to_string()));
                Err(error.into())
            }
            Err(error) => {
                // What became of it the next claim finds out.
                self.pool.put(function, Slot::Unclaimed);
                Err(error.into())
            }
        }
    }

    /// Asks a guest to let go of devices, and takes them back.
    ///
    /// # Errors
    /// The guest does not let go and `force` is not given; or a device is not ready for the next guest, which it does not have
    /// any more all the same.
    pub async fn detach(
        &self,
        guest: &Guest,
        functions: Vec<Sbdf>,
        force: bool,
        patience: Duration,
    ) -> Result<(), OperationError> {
        let ended = || OperationError::DomainEnded { guest: guest.clone() };
        let commands = self.guests.borrow().get(&guest.domain).map(|served| served.commands.clone());
        let Some(commands) = commands else {
            let Some(function) = functions.first().copied() else { return Ok(()) };
            return Err(OperationError::NotAttached { function, guest: guest.clone() });
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::Detach { functions: functions.clone(), force, patience, reply };
        commands.send(command).await.map_err(|_| ended())?;
        let detached = answer.await.map_err(|_| ended())?;
        for function in functions.iter().filter(|function| !self.is_lent_to(guest, **function)) {
            let text = format!("{function} detached from {guest}");
            self.events.publish(Event::now(EventKind::Detached, text).of(*function).to(named(guest)));
        }
        Ok(detached?)
    }

    /// Has a physical function make virtual functions.
    ///
    /// # Errors
    /// Its driver does not.
    pub async fn create_functions(&self, physical: Sbdf, count: u16) -> Result<(), OperationError> {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || host.pci.set_virtual_functions(physical, count)).await??;
        tracing::info!(%physical, count, "virtual functions created");
        self.wake.notify_one();
        Ok(())
    }

    /// What is declared now.
    #[must_use]
    pub fn declared(&self) -> Declared {
        self.declared.borrow().clone()
    }

    /// From now on something else is declared, and what was detached or released by hand is as declared again.
    pub fn declare(&self, config: Config, policies: Policies) {
        *self.declared.borrow_mut() = Declared { config: Rc::new(config), policies: Arc::new(policies) };
        let mut by_hand = self.by_hand.borrow_mut();
        by_hand.detached.clear();
        by_hand.released.clear();
        drop(by_hand);
        self.wake.notify_one();
    }

    /// What was done by hand.
    #[must_use]
    pub fn by_hand(&self) -> &RefCell<ByHand> {
        &self.by_hand
    }

    /// The devices.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// Resolves when there is something to look at again, that neither Xen nor xenstore tells.
    pub async fn woken(&self) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.pool.changed() => {}
        }
    }

    /// Where what happens is told.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    fn is_lent_to(&self, guest: &Guest, function: Sbdf) -> bool {
        let pool = self.pool.lock();
        pool.get(&function).is_some_and(|entry| matches!(&entry.slot, Slot::Lent(holder, _) if holder == guest))
    }

    fn not_to_be_had(&self, function: Sbdf) -> OperationError {
        match self.pool.lock().get(&function).map(|entry| &entry.slot) {
            None | Some(Slot::Unclaimed) => OperationError::NotClaimed { function },
            Some(Slot::Lent(holder, _)) => OperationError::Lent { function, holder: holder.clone() },
            Some(Slot::Broken(_, reason)) => ClaimError::Broken { function, reason: reason.clone() }.into(),
            Some(Slot::Busy | Slot::Free(_)) => OperationError::Busy { function },
        }
    }
}

/// A guest, as clients know it.
#[must_use]
pub fn named(guest: &Guest) -> xenpcid_control::Guest {
    xenpcid_control::Guest { id: guest.domain.0, name: guest.name.clone() }
}

impl From<HostError> for OperationError {
    fn from(error: HostError) -> Self {
        Self::Claim(error.into())
    }
}
