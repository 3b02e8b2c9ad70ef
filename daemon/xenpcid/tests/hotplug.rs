//! Devices that come and go while the guest runs, on the simulated host.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::rc::Rc;
use std::time::Duration;

use harness::{E1000E, NVME, Outcome, backend_becomes, host_with_devices, released, start, with_toolstack};
use xenpcid::plan::Request;
use xenpcid::pool::Slot;
use xenpcid::session::{Guest, SessionError};
use xenpcid::supervisor::Event;
use xenpcid::toolstack::{OperationError, Toolstack};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::Device;
use xenpcid_host::{Errno, ShutdownReason};
use xenpcid_simhost::{DomainOptions, SimDevice, SimGuest, World};
use xenstore_protocol::XenbusState;
use xenstore_protocol::pci_nodes::{PciNodes, holder};

const PATIENCE: Duration = Duration::from_secs(5);
/// Domains are known, but nothing is declared for them.
const NOTHING: &str = "";

fn request(function: Sbdf, slot: Option<u8>) -> Request {
    Request { slot, ..Request::new(function, Device::new(function)) }
}

fn named(guest: &SimGuest) -> Guest {
    Guest { domain: guest.domain(), name: "web1".to_owned() }
}

async fn attach(toolstack: &Rc<Toolstack>, guest: &Guest, functions: &[Sbdf]) -> Result<Vec<String>, OperationError> {
    let requests: Vec<_> = functions.iter().map(|function| request(*function, None)).collect();
    let attached = toolstack.attach_by_hand(guest, requests, PATIENCE).await?;
    assert!(!attached.unanswered, "{attached:?}");
    Ok(attached.devices.iter().map(|device| device.address.to_string()).collect())
}

async fn detach(toolstack: &Rc<Toolstack>, guest: &Guest, functions: &[Sbdf]) -> Result<(), OperationError> {
    toolstack.detach_by_hand(guest, functions.to_vec(), false, PATIENCE).await
}

/// A guest with a connected bus that has the NVMe.
async fn guest_with_nvme(world: &World, toolstack: &Rc<Toolstack>) -> Result<SimGuest, Box<dyn std::error::Error>> {
    let guest = start(world, "web1", 1).await?;
    let requests = vec![request(NVME, None)];
    toolstack.attach_by_hand(&named(&guest), requests, PATIENCE).await?;
    guest.connected().await?;
    Ok(guest)
}

async fn end(world: &World, guest: &SimGuest, events: &mut harness::Events) -> Outcome {
    harness::end(world, guest, events).await?;
    assert_eq!(world.leaks(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn device_comes_and_goes_twenty_times_while_another_one_works() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let nvme = guest.status().functions[0].address;
        guest.start_driver(nvme, 2).await?;
        for _ in 0..20 {
            assert_eq!(attach(&toolstack, &named(&guest), &[E1000E]).await?, ["0000:00:01.0"]);
            let e1000e = Sbdf::from_devfn(0, 0, 8);
            guest.wait_for(|status| status.functions.iter().any(|function| function.address == e1000e)).await?;
            guest.start_driver(e1000e, 3).await?;
            assert_eq!(world.dma(E1000E)?, guest.domain());
            detach(&toolstack, &named(&guest), &[E1000E]).await?;
            assert_eq!(world.owner(E1000E), Some(DomainId::IO));
            assert_eq!(guest.status().functions.len(), 1);
            assert_eq!(world.dma(NVME)?, guest.domain());
        }
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
    assert_eq!(world.violations(), [""; 0]);
}

#[tokio::test]
async fn several_devices_come_in_one_handshake_and_all_or_none() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = start(&world, "web1", 1).await?;
        let store = world.xenstore().client(DomainId::DOM0).await?;
        // Two for quarantine, and the second one for the guest.
        world.fail("assign_device", 2 + 2, Errno::EIO);
        let refused = attach(&toolstack, &named(&guest), &[NVME, E1000E]).await.unwrap_err();
        assert!(matches!(refused, OperationError::Session(SessionError::Device(_))), "{refused}");
        assert_eq!(world.owner(NVME), Some(DomainId::DOM0));
        assert_eq!(holder(&store, NVME).await?, None);

        attach(&toolstack, &named(&guest), &[NVME, E1000E]).await?;
        assert_eq!(guest.connected().await?.len(), 2);
        assert_eq!(holder(&store, E1000E).await?, Some(guest.domain()));
        detach(&toolstack, &named(&guest), &[NVME, E1000E]).await?;
        assert_eq!(guest.status().functions.len(), 0);
        assert_eq!(holder(&store, E1000E).await?, None);
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
    assert_eq!(world.violations(), [""; 0]);
}

#[tokio::test]
async fn slot_that_is_asked_for_is_where_the_guest_finds_the_device() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let at = |slot| vec![request(E1000E, Some(slot))];
        let taken = toolstack.attach_by_hand(&named(&guest), at(0), PATIENCE).await;
        assert!(taken.unwrap_err().to_string().contains("slot 0x00"));
        toolstack.attach_by_hand(&named(&guest), at(0x1e), PATIENCE).await?;
        let address = Sbdf::from_devfn(0, 0, 0x1e << 3);
        guest.wait_for(|status| status.functions.iter().any(|function| function.address == address)).await?;
        end(&world, &guest, &mut events).await
    })
    .await;
}

#[tokio::test]
async fn guest_that_does_not_let_go_keeps_its_device_unless_forced() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let who = named(&guest);
        let nodes = PciNodes::new(guest.domain());
        // The kernel hangs: it does not look at xenstore any more.
        drop(guest);
        let short = Duration::from_millis(50);
        let kept = toolstack.detach_by_hand(&who, vec![NVME], false, short).await.unwrap_err();
        assert!(matches!(kept, OperationError::Session(SessionError::NotLetGo { .. })), "{kept}");
        assert!(kept.to_string().contains("--force"), "{kept}");
        assert_eq!(world.owner(NVME), Some(who.domain));
        let store = world.xenstore().client(DomainId::DOM0).await?;
        let backend = nodes.read_backend(&store).await?;
        assert_eq!(backend.state, XenbusState::Connected);
        assert_eq!(backend.devices[0].state, XenbusState::Initialised);

        toolstack.detach_by_hand(&who, vec![NVME], true, short).await?;
        assert_eq!(world.owner(NVME), Some(DomainId::IO));
        world.destroy_domain(who.domain).await?;
        released(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn xl_destroy_is_answered_and_the_devices_stay_away() {
    let world = host_with_devices();

    with_toolstack(&world, harness::ONE_GUEST, async |mut events, _| {
        let guest = start(&world, "web1", 1).await?;
        for function in guest.connected().await? {
            guest.start_driver(function.address, 2).await?;
        }
        assert_eq!(world.xl_destroy(guest.domain()).await?, []);
        released(&mut events).await;
        assert_eq!(world.leaks(), [""; 0]);
        let next = start(&world, "web1", 2).await?;
        assert_eq!(next.connected().await?.len(), 3);
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn xl_destroy_of_a_guest_that_does_not_let_go_is_answered_all_the_same() {
    let world = host_with_devices();

    with_toolstack(&world, harness::ONE_GUEST, async |mut events, _| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let domain = guest.domain();
        // The kernel hangs: it does not look at xenstore any more.
        drop(guest);
        assert_eq!(world.xl_destroy(domain).await?, []);
        released(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn backend_of_a_guest_that_has_shut_down_is_connected_since_libxl_waits_for_that() {
    let world = host_with_devices();

    with_toolstack(&world, harness::ONE_GUEST, async |mut events, _| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        guest.close().await?;
        world.stop_domain(guest.domain(), ShutdownReason::Reboot);
        assert_eq!(world.xl_destroy(guest.domain()).await?, []);
        released(&mut events).await;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn device_attached_by_hand_comes_again_when_its_guest_reboots_and_not_when_it_is_destroyed() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        world.stop_domain(guest.domain(), ShutdownReason::Reboot);
        toolstack.settled().await;
        world.destroy_domain(guest.domain()).await?;
        let next = start(&world, "web1", 1).await?;
        assert_eq!(next.connected().await?.len(), 1);
        released(&mut events).await;

        end(&world, &next, &mut events).await?;
        let last = world.create_domain("web1", [1; 16], DomainOptions::default()).await?;
        let store = world.xenstore().client(DomainId::DOM0).await?;
        toolstack.settled().await;
        assert!(!store.exists(PciNodes::new(last).backend()).await?);
        world.destroy_domain(last).await?;
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn frontend_that_was_unloaded_and_loaded_again_finds_devices_that_were_reset() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let nvme = guest.status().functions[0].address;
        guest.start_driver(nvme, 2).await?;
        let resets = world.resets(NVME);
        guest.close().await?;
        backend_becomes(&world, guest.domain(), XenbusState::Initialised).await?;
        assert!(world.resets(NVME) > resets);
        // The next one: another page, and another port.
        let domain = guest.domain();
        drop(guest);
        let next = SimGuest::start_again(&world, domain).await?;
        let nvme = next.connected().await?[0].address;
        next.start_driver(nvme, 2).await?;
        end(&world, &next, &mut events).await
    })
    .await;

    assert_eq!(world.violations(), [""; 0]);
}

#[tokio::test]
async fn declared_device_that_is_plugged_in_later_goes_to_the_domain_that_waits_for_it() {
    let world = host_with_devices();
    world.remove_device(NVME);

    with_toolstack(&world, harness::ONE_GUEST, async |mut events, _| {
        let guest = start(&world, "web1", 1).await?;
        assert!(matches!(events.recv().await, Some(Event::Refused(_))));
        assert_eq!(world.is_paused(guest.domain()), Some(true));
        // Nothing tells the daemon.
        world.add_device(SimDevice::nvme(NVME));
        assert_eq!(guest.connected().await?.len(), 3);
        end(&world, &guest, &mut events).await
    })
    .await;
}

#[tokio::test]
async fn device_that_vanishes_is_broken_when_it_comes_back() {
    let world = host_with_devices();

    with_toolstack(&world, NOTHING, async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        world.set_responding(NVME, false);
        let error = detach(&toolstack, &named(&guest), &[NVME]).await.unwrap_err().to_string();
        assert!(error.contains("0000:01:00.0") && error.contains("broken"), "{error}");
        assert!(matches!(toolstack.pool().lock()[&NVME].slot, Slot::Broken(..)));
        assert_eq!(world.owner(NVME), Some(DomainId::IO));
        let again = attach(&toolstack, &named(&guest), &[NVME]).await.unwrap_err().to_string();
        assert!(again.contains("0000:01:00.0"), "{again}");

        world.set_responding(NVME, true);
        toolstack.claim_by_hand(&[(NVME, Device::new(NVME))], drop).await?;
        attach(&toolstack, &named(&guest), &[NVME]).await?;
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.violations(), [""; 0]);
}
