//! Several devices given to a guest: all of them, or none.

use std::sync::Mutex;

use xenpcid_host::Host;

use super::{Guest, Placed, Returned, SessionError, Wanted};
use crate::assignment::Assigned;
use crate::claim::ClaimError;
use crate::ring::{GuestBus, lock};

/// Assigns all devices or none, and puts them on the bus.
pub(super) fn assign_all(
    host: &Host,
    guest: &Guest,
    bus: &Mutex<GuestBus>,
    devices: Vec<Wanted>,
) -> Result<Vec<Placed>, (Vec<Returned>, SessionError)> {
    // Asked of all before anything is granted to the running guest: a domain without an IOMMU is the most frequent mistake.
    let possible = |device: &Wanted| host.hypervisor.test_assign_device(guest.domain, device.claimed.function());
    if let Err(error) = devices.iter().try_for_each(possible) {
        return Err((devices.into_iter().map(|device| Ok(device.claimed)).collect(), error.into()));
    }
    let mut placed = Vec::new();
    let mut waiting = devices.into_iter();
    while let Some(device) = waiting.next() {
        match assign(host, guest, bus, device) {
            Ok(place) => placed.push(place),
            Err(refused) => {
                let (refused, error) = *refused;
                let undone = placed.iter().rev().filter_map(|place| {
                    let removed = lock(bus).remove(place.function);
                    removed.map(|assigned| assigned.take_back(host))
                });
                let rest = waiting.map(|device| Ok(device.claimed));
                return Err((undone.chain([refused]).chain(rest).collect(), error));
            }
        }
    }
    Ok(placed)
}

fn assign(
    host: &Host,
    guest: &Guest,
    bus: &Mutex<GuestBus>,
    Wanted { mut claimed, slot, network, .. }: Wanted,
) -> Result<Placed, Box<(Returned, SessionError)>> {
    let function = claimed.function();
    let line = claimed.snapshot().interrupt_line;
    let (address, has_line) = {
        let mut bus = lock(bus);
        match bus.reserve(&claimed, slot) {
            Ok(address) => (address, bus.has_line(line)),
            Err(error) => return Err(Box::new((Ok(claimed), error.into()))),
        }
    };
    // Before the guest has the device: its driver asks for the address when it starts.
    let assigned = match claimed.set_address(host, network) {
        Ok(()) => Assigned::assign(host, guest.domain, claimed, address, has_line),
        Err(error) => Err((claimed, error)),
    };
    match assigned {
        Ok(assigned) => {
            lock(bus).add(assigned);
            Ok(Placed { function, address })
        }
        Err((mut claimed, error)) => {
            lock(bus).cancel(function);
            // Both are told: whoever asked, and whoever keeps the device.
            match error {
                ClaimError::Stuck { .. } => {
                    let told = SessionError::Device(ClaimError::Broken { function, reason: error.to_string() });
                    Err(Box::new((Err((claimed, error)), told)))
                }
                error => {
                    claimed.clear_address(host);
                    Err(Box::new((Ok(claimed), error.into())))
                }
            }
        }
    }
}
