//! Operations that somebody asked for, beside what is declared. They are remembered, so that the reconciliation does not undo
//! them; and while one is in progress, it leaves the guest alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use xenpcid_address::{DomainId, Sbdf};

use super::{OperationError, Toolstack};
use crate::checks::Owner;
use crate::plan::{Action, Problem, Request};
use crate::pool::Slot;
use crate::session::{Attached, Guest};

/// Guests for which operations by hand are in progress, and how many.
#[derive(Debug, Default)]
pub(super) struct Busy(RefCell<BTreeMap<DomainId, usize>>);

/// One of them, for as long as this lives.
struct Working<'a>(&'a Toolstack, DomainId);

impl<'a> Working<'a> {
    fn on(toolstack: &'a Toolstack, guest: &Guest) -> Self {
        *toolstack.busy.0.borrow_mut().entry(guest.domain).or_default() += 1;
        Self(toolstack, guest.domain)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut busy = self.0.busy.0.borrow_mut();
        if let Some(count) = busy.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.1);
            }
        }
        self.0.wake.notify_one();
    }
}

/// What the last look at everything came to.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The occasion that it was for; those before are seen to as well.
    pub occasion: u64,
    /// Something is being done.
    pub busy: bool,
    /// What failed and is tried again, and of which device if it is one's.
    pub failures: Vec<(Option<Sbdf>, String)>,
    /// Domains that are held paused.
    pub held: Vec<DomainId>,
    /// What is in the way.
    pub problems: Vec<Problem>,
}

impl Toolstack {
    /// As [`Toolstack::attach`]. The guest keeps the devices whatever is declared, and has them again after it reboots.
    ///
    /// # Errors
    /// As there.
    pub async fn attach_by_hand(
        &self,
        guest: &Guest,
        requests: Vec<Request>,
        patience: Duration,
    ) -> Result<Attached, OperationError> {
        let _working = Working::on(self, guest);
        let uuid = self.uuid(guest)?;
        let functions: Vec<Sbdf> = requests.iter().map(|request| request.function).collect();
        let new: Vec<Sbdf> = {
            let mut by_hand = self.by_hand.borrow_mut();
            functions.iter().copied().filter(|function| by_hand.claimed.insert(*function)).collect()
        };
        let attached = self.attach(guest, requests.clone(), patience).await;
        let mut by_hand = self.by_hand.borrow_mut();
        match &attached {
            Ok(_) => {
                by_hand.detached.retain(|(domain, function)| *domain != guest.domain || !functions.contains(function));
                by_hand.attached.entry(uuid).or_default().extend(requests);
            }
            Err(_) => by_hand.claimed.retain(|function| !new.contains(function)),
        }
        drop(by_hand);
        attached
    }

    /// As [`Toolstack::detach`]. The guest does not get the devices back until it starts again, or the configuration is
    /// applied.
    ///
    /// # Errors
    /// As there.
    pub async fn detach_by_hand(
        &self,
        guest: &Guest,
        functions: Vec<Sbdf>,
        force: bool,
        patience: Duration,
    ) -> Result<(), OperationError> {
        let _working = Working::on(self, guest);
        let detached = self.detach(guest, functions.clone(), force, patience).await;
        let gone: Vec<Sbdf> = functions.into_iter().filter(|function| !self.is_lent_to(guest, *function)).collect();
        let uuid = self.uuid(guest);
        let mut by_hand = self.by_hand.borrow_mut();
        by_hand.detached.extend(gone.iter().map(|function| (guest.domain, *function)));
        if let Some(attached) = uuid.ok().and_then(|uuid| by_hand.attached.get_mut(&uuid)) {
            attached.retain(|request| !gone.contains(&request.function));
        }
        drop(by_hand);
        detached
    }

    fn uuid(&self, guest: &Guest) -> Result<[u8; 16], OperationError> {
        let info = self.host.hypervisor.domain(guest.domain)?;
        info.map(|info| info.uuid).ok_or_else(|| OperationError::DomainEnded { guest: guest.clone() })
    }

    /// Whether somebody else is at work on what an action is about.
    #[must_use]
    pub fn is_busy(&self, action: &Action) -> bool {
        match action {
            Action::Attach { guest, .. } | Action::Detach { guest, .. } => {
                self.busy.0.borrow().contains_key(&guest.domain)
            }
            Action::CreateFunctions { .. } | Action::Claim { .. } | Action::Release { .. } => false,
        }
    }

    /// The number of the next look's occasion.
    #[must_use]
    pub fn occasion(&self) -> u64 {
        self.occasion.get()
    }

    /// Tells what a look came to.
    pub fn looked(&self, progress: Progress) {
        self.progress.send_replace(progress);
    }

    /// What the last look came to.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Why something could not be done with a device that is tried again.
    #[must_use]
    pub fn failure(&self, function: Sbdf) -> Option<String> {
        let progress = self.progress.borrow();
        progress.failures.iter().find(|(of, _)| *of == Some(function)).map(|(_, reason)| reason.clone())
    }

    /// Domains that are held paused.
    #[must_use]
    pub fn held(&self) -> Vec<DomainId> {
        self.progress.borrow().held.clone()
    }

    /// Tells who has a device now.
    pub fn owners(&self) -> impl Fn(Sbdf) -> Owner + Send + use<> {
        let owner = |slot: &Slot| match slot {
            Slot::Unclaimed => Owner::Dom0,
            Slot::Busy | Slot::Free(_) | Slot::Broken(..) => Owner::Quarantine,
            Slot::Lent(guest, _) => Owner::Guest(guest.domain),
        };
        let pool = self.pool.lock();
        let owners: BTreeMap<Sbdf, Owner> =
            pool.iter().map(|(function, entry)| (*function, owner(&entry.slot))).collect();
        // What is not looked after is dom0's.
        move |function| owners.get(&function).copied().unwrap_or(Owner::Dom0)
    }

    /// Waits until everything was looked at from now on, and nothing is being done any more.
    pub async fn settled(&self) -> Progress {
        let occasion = self.occasion.get() + 1;
        self.occasion.set(occasion);
        self.wake.notify_one();
        let mut progress = self.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.occasion >= occasion && !progress.busy).await;
        // The sender is ours.
        settled.map(|progress| progress.clone()).unwrap_or_default()
    }
}
