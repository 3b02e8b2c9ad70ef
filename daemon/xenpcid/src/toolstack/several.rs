//! Claiming and releasing as somebody asked for it: several devices, and all of them or none.
//!
//! What can be known beforehand is looked at before anything is done. What fails all the same ends the operation, and what was
//! done before it is undone, last first. What cannot be undone is in the error.

use xenpcid_address::Sbdf;
use xenpcid_config::{Device, VECTORS_MAX};

use super::error::Left;
use super::{OperationError, Toolstack};
use crate::checks;
use crate::claim::ClaimError;
use crate::pool::Slot;

impl Toolstack {
    /// As [`Toolstack::claim`], of devices that nothing needs to be said of: all of them, or none. What is done now goes to
    /// `say`.
    ///
    /// # Errors
    /// As there.
    pub async fn claim_by_hand(&self, devices: &[(Sbdf, Device)], say: impl Fn(String)) -> Result<(), OperationError> {
        let claimable = |slot: &Slot| matches!(slot, Slot::Unclaimed | Slot::Free(_) | Slot::Broken(..));
        for (function, _) in devices {
            let there = self.pool.lock().get(function).is_none_or(|entry| claimable(&entry.slot));
            if !there {
                return Err(self.not_to_be_had(*function));
            }
        }
        let new: Vec<Sbdf> = {
            let mut by_hand = self.by_hand.borrow_mut();
            devices.iter().map(|(function, _)| *function).filter(|function| by_hand.claimed.insert(*function)).collect()
        };
        let claimed = match self.check_unclaimed(devices).await {
            Ok(()) => self.claim_all(devices, say).await,
            Err(error) => Err(error),
        };
        let mut by_hand = self.by_hand.borrow_mut();
        match &claimed {
            Ok(()) => by_hand.released.retain(|released| devices.iter().all(|(function, _)| function != released)),
            Err(_) => by_hand.claimed.retain(|function| !new.contains(function)),
        }
        drop(by_hand);
        claimed
    }

    /// Whether a safety check refuses one of several devices: so that none is taken from its driver for nothing.
    async fn check_unclaimed(&self, devices: &[(Sbdf, Device)]) -> Result<(), OperationError> {
        let unclaimed: Vec<(Sbdf, Device)> =
            devices.iter().filter(|(function, _)| !self.is_claimed(*function)).cloned().collect();
        if unclaimed.len() < 2 {
            return Ok(());
        }
        let (host, owners) = (self.host.clone(), self.owners());
        let checked = tokio::task::spawn_blocking(move || {
            let asked: Vec<_> = unclaimed.iter().map(|(function, _)| (*function, VECTORS_MAX)).collect();
            let found = checks::examine_all(&host, &owners, &asked, None)?;
            let refuse =
                |(findings, (function, device)): (_, &(Sbdf, Device))| ClaimError::refuse(*function, findings, device);
            found.into_iter().zip(&unclaimed).try_for_each(refuse)
        });
        Ok(checked.await??)
    }

    fn is_claimed(&self, function: Sbdf) -> bool {
        self.pool.lock().get(&function).is_some_and(|entry| entry.slot.facts().is_some())
    }

    async fn claim_all(&self, devices: &[(Sbdf, Device)], say: impl Fn(String)) -> Result<(), OperationError> {
        let mut claimed = Vec::new();
        let mut declared = Vec::new();
        for (function, device) in devices {
            say(format!("taking {function} from dom0 and resetting it"));
            let before = self.pool.lock().get(function).map(|entry| entry.device.clone());
            declared.push((*function, before.unwrap_or_else(|| Device::new(*function))));
            // One that was claimed already is only looked after under other terms.
            let was_claimed = self.is_claimed(*function);
            match self.claim(*function, device).await {
                Ok(()) if was_claimed => {}
                Ok(()) => claimed.push(*function),
                Err(error) => {
                    if let Some(last) = claimed.last() {
                        say(format!("giving back what was claimed, {last} first: {error}"));
                    }
                    let error = self.give_up(claimed, error).await;
                    for (function, device) in declared {
                        self.pool.declare(function, &device);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Gives back devices that were claimed only for what failed, as the error says.
    pub(super) async fn give_up(&self, claimed: Vec<Sbdf>, error: OperationError) -> OperationError {
        let mut left = Vec::new();
        for function in claimed.into_iter().rev() {
            if let Err(error) = self.release(function, true).await {
                tracing::error!(%function, %error, "could not be given back to dom0");
                left.push(Left::Claimed { function, error: error.into() });
            }
        }
        and_left(error, left)
    }

    /// As [`Toolstack::release`]: all devices, or none. They are not claimed again until the configuration is applied. What is
    /// done now goes to `say`.
    ///
    /// # Errors
    /// As there.
    pub async fn release_by_hand(
        &self,
        functions: &[Sbdf],
        rebind: bool,
        say: impl Fn(String),
    ) -> Result<(), OperationError> {
        for function in functions {
            let releasable = |slot: &Slot| matches!(slot, Slot::Free(_) | Slot::Broken(..));
            if !self.pool.lock().get(function).is_some_and(|entry| releasable(&entry.slot)) {
                return Err(self.not_to_be_had(*function));
            }
        }
        let new: Vec<Sbdf> = {
            let mut by_hand = self.by_hand.borrow_mut();
            functions.iter().copied().filter(|function| by_hand.released.insert(*function)).collect()
        };
        let released = self.release_all(functions, rebind, say).await;
        let mut by_hand = self.by_hand.borrow_mut();
        match &released {
            Ok(()) => by_hand.claimed.retain(|function| !functions.contains(function)),
            Err(_) => by_hand.released.retain(|function| !new.contains(function)),
        }
        drop(by_hand);
        released
    }

    async fn release_all(&self, functions: &[Sbdf], rebind: bool, say: impl Fn(String)) -> Result<(), OperationError> {
        let mut released: Vec<(Sbdf, Device)> = Vec::new();
        for function in functions {
            say(format!("resetting {function} and giving it back to dom0"));
            let device = self.pool.lock().get(function).map(|entry| entry.device.clone());
            match self.release(*function, rebind).await {
                Ok(()) => released.extend(device.map(|device| (*function, device))),
                Err(error) => {
                    let mut left = Vec::new();
                    for (function, device) in released.into_iter().rev() {
                        say(format!("claiming {function} again: {error}"));
                        if let Err(error) = self.claim(function, &device).await {
                            tracing::error!(%function, %error, "could not be claimed again");
                            left.push(Left::Released { function, error: error.into() });
                        }
                    }
                    return Err(and_left(error, left));
                }
            }
        }
        Ok(())
    }
}

fn and_left(error: OperationError, left: Vec<Left>) -> OperationError {
    if left.is_empty() { error } else { OperationError::NotUndone { error: error.into(), left } }
}
