//! The toolstack's operations on a running guest, with each single call of the host and each single request to xenstore failing
//! in turn. Whatever fails: nothing is given and forgotten, the device ends in quarantine or in dom0, and the guest has no
//! permission for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use harness::{NVME, released, start, with_toolstack};
use xenpcid::plan::Request;
use xenpcid::session::Guest;
use xenpcid::toolstack::Toolstack;
use xenpcid_address::DomainId;
use xenpcid_config::Device;
use xenpcid_host::Errno;
use xenpcid_simhost::{SimDevice, SimGuest, World};
use xenstore_protocol::ErrorName;
use xenstore_protocol::memory::{Fault, FaultAction};
use xenstore_protocol::pci_nodes::{PciNodes, holder};

/// Long enough for a guest that answers; short for one whose answer was lost.
const PATIENCE: Duration = Duration::from_millis(300);

fn host_with_nvme() -> World {
    let world = World::new();
    world.add_device(SimDevice::nvme(NVME));
    world
}

/// Attach, use, detach, release; each is tried once, and after a failure what an operator would do next. Gives how many failed.
async fn operations(world: &World, toolstack: &Rc<Toolstack>, guest: &SimGuest) -> usize {
    let who = Guest { domain: guest.domain(), name: "web1".to_owned() };
    let device = Device::new(NVME);
    let request = || vec![Request::new(NVME, device.clone())];
    let mut failed = 0;
    let attached = toolstack.attach_by_hand(&who, request(), PATIENCE).await;
    failed += usize::from(attached.is_err());
    if attached.is_ok() {
        let functions = guest.status().functions;
        if let Some(nvme) = functions.first() {
            failed += usize::from(guest.start_driver(nvme.address, 2).await.is_err());
        }
        if toolstack.detach_by_hand(&who, vec![NVME], false, PATIENCE).await.is_err() {
            failed += 1;
            let _ = toolstack.detach_by_hand(&who, vec![NVME], true, PATIENCE).await;
        }
    }
    for _ in 0..2 {
        // Given back already, if the attachment failed. What is broken is recovered first.
        if toolstack.pool().lock().get(&NVME).is_none_or(|entry| entry.slot.facts().is_none()) {
            break;
        }
        let released = toolstack.release_by_hand(&[NVME], true, drop).await;
        failed += usize::from(released.is_err());
    }
    assert_ne!(world.owner(NVME), Some(guest.domain()));
    failed
}

/// One life with a fault, and what must be true after it. Gives the world, how many operations failed, and whether a fault of
/// xenstore is still to come.
async fn life(what: &str, fault: impl FnOnce(&World)) -> (World, usize, bool) {
    let world = host_with_nvme();
    let mut failed = 0;
    let mut pending = false;
    with_toolstack(&world, "", async |mut events, toolstack| {
        let guest = start(&world, "web1", 1).await?;
        toolstack.settled().await;
        fault(&world);
        failed = operations(&world, &toolstack, &guest).await;
        pending = world.xenstore().forget_faults() > 0;
        let store = world.xenstore().client(DomainId::DOM0).await?;
        let nodes = PciNodes::new(guest.domain());
        let has_session = store.exists(nodes.backend()).await?;
        world.destroy_domain(guest.domain()).await?;
        if has_session {
            released(&mut events).await;
        }
        toolstack.settled().await;
        assert_eq!(holder(&store, NVME).await?, None, "{what}");
        Ok(())
    })
    .await;
    assert_eq!(world.violations(), [""; 0], "{what}");
    assert_eq!(world.leaks(), [""; 0], "{what}");
    let owner = world.owner(NVME);
    assert!(owner == Some(DomainId::DOM0) || owner == Some(DomainId::IO), "{what}: {owner:?}");
    (world, failed, pending)
}

#[tokio::test]
async fn each_call_of_the_host() {
    let (world, failed, _) = life("nothing fails", |_| ()).await;
    assert_eq!(failed, 0);
    let mut count: BTreeMap<&'static str, usize> = BTreeMap::new();
    for call in world.calls() {
        *count.entry(call.operation).or_default() += 1;
    }
    let mut failures = 0;

    for (operation, times) in count {
        for nth in 1..=times {
            let (_, failed, _) =
                life(&format!("{operation} number {nth}"), |world| world.fail(operation, nth, Errno::EIO)).await;
            failures += failed;
        }
    }

    assert!(failures > 20, "{failures}");
}

#[tokio::test]
async fn each_request_to_xenstore() {
    let mut failures = 0;

    for skip in 0.. {
        let fault =
            Fault { domain: DomainId::DOM0, kind: None, below: None, skip, action: FaultAction::Error(ErrorName::Eio) };
        let (_, failed, pending) =
            life(&format!("request number {skip}"), |world| world.xenstore().inject(fault)).await;
        failures += failed;
        if pending {
            assert!(skip > 50, "there were only {skip} requests");
            break;
        }
    }

    assert!(failures > 0, "{failures}");
}
