//! Devices given to a guest.

use std::time::Duration;

use tokio::sync::oneshot;
use xenpcid_address::Sbdf;
use xenpcid_config::Policies;
use xenpcid_control::{Event, EventKind};

use super::{OperationError, Toolstack, named};
use crate::checks::{self, Owner};
use crate::claim::{ClaimError, Claimed};
use crate::plan::Request;
use crate::pool::Slot;
use crate::session::{Attached, Command, Guest, Placed, Wanted};

impl Toolstack {
    /// Gives devices to a guest, all of them or none. Those that are not claimed are claimed first.
    ///
    /// # Errors
    /// What stood in the way; devices that were claimed for this are given back, the others are where they were.
    pub async fn attach(
        &self,
        guest: &Guest,
        requests: Vec<Request>,
        patience: Duration,
    ) -> Result<Attached, OperationError> {
        let bases: Vec<_> = requests.iter().map(|request| (request.function, request.base.clone())).collect();
        let attached = self.claim_and_attach(guest, requests, patience).await;
        // What was said for this guest holds for this guest only.
        for (function, base) in bases {
            self.pool.declare(function, &base);
        }
        attached
    }

    async fn claim_and_attach(
        &self,
        guest: &Guest,
        requests: Vec<Request>,
        patience: Duration,
    ) -> Result<Attached, OperationError> {
        let mut claimed_now = Vec::new();
        for request in &requests {
            if let Some(error) = self.in_the_way(guest, request.function) {
                return Err(self.give_up(claimed_now, error).await);
            }
            if !self.is_free(request.function) {
                if let Err(error) = self.claim(request.function, &request.device).await {
                    return Err(self.give_up(claimed_now, error).await);
                }
                claimed_now.push(request.function);
            }
        }
        let handed_over = async {
            let devices = {
                // Two at a time would each take the other's devices for nobody's.
                let _alone = self.granting.lock().await;
                self.check(guest, &requests).await?;
                self.lend_all(guest, requests)?
            };
            self.hand_over(guest, devices, patience).await
        };
        match handed_over.await {
            Ok(attached) => {
                for device in &attached.devices {
                    let Placed { function, address } = *device;
                    let text = format!("{function} attached to {guest} as {address}");
                    self.events.publish(Event::now(EventKind::Attached, text).of(function).to(named(guest)));
                }
                Ok(attached)
            }
            Err(error) => Err(self.give_up(claimed_now, error).await),
        }
    }

    /// Whether a safety check refuses a device for this guest.
    async fn check(&self, guest: &Guest, requests: &[Request]) -> Result<(), OperationError> {
        let (host, owners, domain) = (self.host.clone(), self.owners(), guest.domain);
        let requests = requests.to_vec();
        let checked = tokio::task::spawn_blocking(move || {
            // Those that go to the guest together do not stand in each other's way.
            let together: Vec<Sbdf> = requests.iter().map(|request| request.function).collect();
            let owner = |function: Sbdf| {
                if together.contains(&function) { Owner::Guest(domain) } else { owners(function) }
            };
            let asked: Vec<_> = requests.iter().map(|request| (request.function, request.vectors)).collect();
            let found = checks::examine_all(&host, &owner, &asked, Some(domain))?;
            found.into_iter().zip(&requests).try_for_each(|(findings, Request { function, device, .. })| {
                ClaimError::refuse(*function, findings, device)
            })
        });
        Ok(checked.await??)
    }

    /// Takes devices out of the pool for a guest, all of them or none.
    fn lend_all(&self, guest: &Guest, requests: Vec<Request>) -> Result<Vec<Wanted>, OperationError> {
        let policies = self.declared().policies;
        let mut devices = Vec::new();
        for request in requests {
            match self.lend(guest, &request, &policies) {
                Ok(claimed) => {
                    let Request { slot, network, options, .. } = request;
                    devices.push(Wanted { claimed, slot, network, options });
                }
                Err(error) => {
                    self.put_back(devices);
                    return Err(error);
                }
            }
        }
        Ok(devices)
    }

    /// Moves devices to the guest's session.
    async fn hand_over(
        &self,
        guest: &Guest,
        devices: Vec<Wanted>,
        patience: Duration,
    ) -> Result<Attached, OperationError> {
        let commands = self.session(guest);
        let (reply, answer) = oneshot::channel();
        if let Err(refused) = commands.send(Command::Attach { devices, patience, reply }).await {
            if let Command::Attach { devices, .. } = refused.0 {
                self.put_back(devices);
            }
            return Err(OperationError::DomainEnded { guest: guest.clone() });
        }
        match answer.await {
            Ok(result) => Ok(result?),
            // The session ended first, and gave the devices back.
            Err(_) => Err(OperationError::DomainEnded { guest: guest.clone() }),
        }
    }

    /// Takes a device out of the pool for a guest, under the terms that are for this guest.
    fn lend(&self, guest: &Guest, request: &Request, policies: &Policies) -> Result<Box<Claimed>, OperationError> {
        let mut refused: Option<ClaimError> = None;
        let lent = self.pool.take(request.function, |slot| match slot {
            Slot::Free(mut claimed) => match claimed.agree(&request.device, policies, request.vectors, request.slot) {
                Ok(()) => {
                    let facts = claimed.facts().clone();
                    facts.denials.begin(guest);
                    Ok((Slot::Lent(guest.clone(), facts), claimed))
                }
                Err(error) => {
                    refused = Some(error);
                    Err(Slot::Free(claimed))
                }
            },
            other => Err(other),
        });
        match (lent, refused) {
            (Some(claimed), _) => Ok(claimed),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Err(self.not_to_be_had(request.function)),
        }
    }

    /// Devices that were taken out of the pool and not given to anybody.
    fn put_back(&self, devices: Vec<Wanted>) {
        for Wanted { claimed, .. } in devices {
            self.pool.put(claimed.function(), Slot::Free(claimed));
        }
    }

    fn is_free(&self, function: Sbdf) -> bool {
        self.pool.lock().get(&function).is_some_and(|entry| matches!(entry.slot, Slot::Free(_)))
    }

    /// Why a device cannot be given to a guest, as far as that is known beforehand.
    fn in_the_way(&self, guest: &Guest, function: Sbdf) -> Option<OperationError> {
        match self.pool.lock().get(&function).map(|entry| &entry.slot) {
            Some(Slot::Lent(holder, _)) if holder == guest => {
                Some(OperationError::AlreadyAttached { function, guest: guest.clone() })
            }
            Some(Slot::Lent(holder, _)) => Some(OperationError::Lent { function, holder: holder.clone() }),
            _ => None,
        }
    }
}
