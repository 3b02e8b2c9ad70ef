//! Claim, assignment and return of a device, with each single call of the host failing in turn.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use std::collections::{BTreeMap, BTreeSet};

use xenpcid::assignment::Assigned;
use xenpcid::checks::Owner;
use xenpcid::claim::{ClaimError, Claimed};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Policies};
use xenpcid_host::{Errno, Host, PciHost};
use xenpcid_policy::VirtualBus;
use xenpcid_simhost::{DomainOptions, SimDevice, World};

const NVME: Sbdf = Sbdf::from_devfn(0, 1, 0);

/// What a life of the device came to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    NotClaimed,
    NotAssigned,
    NotTakenBack,
    NotReleased,
    Complete,
}

/// Claims a device with the policies that come with xenpcid.
fn claim(host: &Host) -> Result<Box<Claimed>, ClaimError> {
    Claimed::claim(host, NVME, &Device::new(NVME), &Policies::shipped().unwrap(), &|_| Owner::Dom0)
}

fn host_with_nvme() -> World {
    let world = World::new();
    world.add_device(SimDevice::nvme(NVME));
    world
}

/// Claim, assign, take back, release; after a failure, what the daemon would do next.
fn life(world: &World, domain: DomainId) -> End {
    let host = world.host();
    let claimed = match claim(&host) {
        Ok(claimed) => claimed,
        Err(_) => return End::NotClaimed,
    };
    let address = VirtualBus::new().insert(NVME, false).unwrap();
    let assigned = match Assigned::assign(&host, domain, claimed, address, false) {
        Ok(assigned) => assigned,
        Err((claimed, _)) => {
            assert_eq!(world.owner(NVME), Some(DomainId::IO));
            claimed.release(&host).map_err(|(_, error)| error).unwrap();
            return End::NotAssigned;
        }
    };
    match assigned.take_back(&host) {
        Ok(claimed) => match claimed.release(&host) {
            Ok(()) => End::Complete,
            Err(_) => End::NotReleased,
        },
        Err((_, error)) => {
            // What the guest may still have is named, so that an operator can tell.
            if let ClaimError::Stuck { stuck, .. } = &error {
                assert!(!stuck.is_empty());
            }
            End::NotTakenBack
        }
    }
}

fn with_guest(world: &World) -> DomainId {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(world.create_domain("web1", [1; 16], DomainOptions::default())).unwrap()
}

/// Each call of an undisturbed life, as operation and how many of that operation it is. Of the reads of the snapshot, which are all
/// alike, only the first.
fn calls_of_a_life() -> Vec<(&'static str, usize)> {
    let world = host_with_nvme();
    let domain = with_guest(&world);
    assert_eq!(life(&world, domain), End::Complete);
    let mut count = BTreeMap::new();
    let mut calls: Vec<_> = world
        .calls()
        .iter()
        .map(|call| {
            let nth = count.entry(call.operation).or_insert(0);
            *nth += 1;
            (call.operation, *nth)
        })
        .collect();
    let snapshot = 4096 / 4;
    calls.extend((snapshot..).map(|nth| ("read_config", nth)).take_while(|(operation, nth)| {
        let world = host_with_nvme();
        let domain = with_guest(&world);
        world.fail(operation, *nth, Errno::EIO);
        life(&world, domain) != End::Complete
    }));
    calls
}

#[test]
fn device_is_whole_again_or_in_quarantine_whichever_call_fails() {
    let mut ends = BTreeSet::new();

    for (operation, nth) in calls_of_a_life() {
        let world = host_with_nvme();
        let domain = with_guest(&world);
        world.fail(operation, nth, Errno::EIO);

        let end = life(&world, domain);

        let case = format!("{operation} number {nth}: {end:?}");
        assert_eq!(world.violations(), [""; 0], "{case}");
        match end {
            End::NotClaimed | End::NotAssigned | End::Complete => {
                assert_eq!(world.leaks(), [""; 0], "{case}");
                assert_eq!(world.describe(NVME).unwrap().driver.as_deref(), Some("nvme"), "{case}");
            }
            // One call failed, so at most one thing was not undone; the DMA reaches no guest unless that was it.
            End::NotTakenBack => {
                assert!(world.leaks().len() <= 1, "{case}: {:?}", world.leaks());
                assert!(world.owner(NVME) == Some(DomainId::IO) || operation == "deassign_device", "{case}");
            }
            End::NotReleased => assert!(world.dma(NVME).is_err(), "{case}"),
        }
        ends.insert(end);
    }

    let all = [End::NotClaimed, End::NotAssigned, End::NotTakenBack, End::NotReleased];
    assert!(all.iter().all(|end| ends.contains(end)), "{ends:?}");
}
