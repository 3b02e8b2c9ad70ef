//! What happens when guests, xenstore and commands do something in the middle of something else.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::rc::Rc;
use std::time::Duration;

use harness::{E1000E, NVME, backend_becomes, end, host_with_devices, released, start, with_toolstack};
use xenpcid::plan::Request;
use xenpcid::pool::Slot;
use xenpcid::session::Guest;
use xenpcid::toolstack::Toolstack;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::Device;
use xenpcid_host::Errno;
use xenpcid_simhost::{SimDevice, SimGuest, World};
use xenstore_protocol::memory::{Fault, FaultAction};
use xenstore_protocol::pci_nodes::PciNodes;
use xenstore_protocol::wire::MessageType;
use xenstore_protocol::xenbus::XenbusState;
use xenstore_protocol::{ErrorName, Path};

const PATIENCE: Duration = Duration::from_secs(5);

fn request(function: Sbdf) -> Request {
    Request::new(function, Device::new(function))
}

fn named(guest: &SimGuest, name: &str) -> Guest {
    Guest { domain: guest.domain(), name: name.to_owned() }
}

fn is_free(toolstack: &Rc<Toolstack>, function: Sbdf) -> bool {
    toolstack.pool().lock().get(&function).is_some_and(|entry| matches!(entry.slot, Slot::Free(_)))
}

/// A guest with a connected bus that has the NVMe.
async fn guest_with_nvme(world: &World, toolstack: &Rc<Toolstack>) -> Result<SimGuest, Box<dyn std::error::Error>> {
    let guest = start(world, "web1", 1).await?;
    toolstack.attach_by_hand(&named(&guest, "web1"), vec![request(NVME)], PATIENCE).await?;
    guest.connected().await?;
    Ok(guest)
}

#[tokio::test]
async fn running_guest_whose_name_is_gone_from_xenstore_keeps_its_devices() {
    let world = host_with_devices();

    with_toolstack(&world, harness::ONE_GUEST, async |mut events, toolstack| {
        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let store = world.xenstore().client(DomainId::DOM0).await?;
        store.rm_if_present(&Path::domain(guest.domain()).child("name")?).await?;
        // An occasion to look.
        let other = start(&world, "other", 2).await?;
        toolstack.settled().await;
        assert_eq!(world.owner(NVME), Some(guest.domain()));
        world.destroy_domain(other.domain()).await?;
        end(&world, &guest, &mut events).await
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn device_of_an_attach_that_waited_behind_another_change_comes_back_when_the_domain_is_gone() {
    let world = host_with_devices();

    with_toolstack(&world, "", async |mut events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let who = named(&guest, "web1");
        // It does not let go.
        drop(guest);
        let detach = {
            let (toolstack, who) = (toolstack.clone(), who.clone());
            tokio::task::spawn_local(async move { toolstack.detach_by_hand(&who, vec![NVME], false, PATIENCE).await })
        };
        backend_becomes(&world, who.domain, XenbusState::Reconfiguring).await?;
        let attach = {
            let (toolstack, who) = (toolstack.clone(), who.clone());
            tokio::task::spawn_local(
                async move { toolstack.attach_by_hand(&who, vec![request(E1000E)], PATIENCE).await },
            )
        };
        while !matches!(toolstack.pool().lock().get(&E1000E).map(|entry| &entry.slot), Some(Slot::Lent(..))) {
            tokio::task::yield_now().await;
        }
        world.destroy_domain(who.domain).await?;
        released(&mut events).await;
        // Without the domain it has let go.
        detach.await?.unwrap();
        assert!(attach.await?.is_err());
        toolstack.settled().await;
        assert!(is_free(&toolstack, E1000E) || world.owner(E1000E) == Some(DomainId::DOM0));
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn functions_of_one_device_do_not_go_to_two_guests_at_once() {
    let (first, second) = (Sbdf::from_devfn(0, 5, 0), Sbdf::from_devfn(0, 5, 1));
    let world = World::new();
    world.add_device(SimDevice::nvme(first).multifunction());
    world.add_device(SimDevice::igb(second).multifunction());

    with_toolstack(&world, "", async |_events, toolstack| {
        let (one, other) = (start(&world, "a", 1).await?, start(&world, "b", 2).await?);
        toolstack.claim_by_hand(&[first, second].map(|function| (function, Device::new(function))), |_| ()).await?;
        let (to_one, to_other) = (named(&one, "a"), named(&other, "b"));
        let (attached, refused) = tokio::join!(
            toolstack.attach_by_hand(&to_one, vec![request(first)], PATIENCE),
            toolstack.attach_by_hand(&to_other, vec![request(second)], PATIENCE)
        );
        assert_ne!(attached.is_ok(), refused.is_ok(), "{attached:?} {refused:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn device_that_was_given_back_in_part_is_claimed_anew_from_the_start() {
    for operation in ["release_msix", "set_enabled", "set_power_policy"] {
        let world = host_with_devices();
        with_toolstack(&world, "", async |mut events, toolstack| {
            let device = [(NVME, Device::new(NVME))];
            toolstack.claim_by_hand(&device, |_| ()).await?;
            world.fail(operation, 1, Errno::EIO);
            toolstack.release_by_hand(&[NVME], true, |_| ()).await.unwrap_err();
            toolstack.claim_by_hand(&device, |_| ()).await?;
            assert_eq!(world.owner(NVME), Some(DomainId::IO), "after {operation}");
            let guest = guest_with_nvme(&world, &toolstack).await?;
            end(&world, &guest, &mut events).await
        })
        .await;
        assert_eq!(world.violations(), [""; 0], "after {operation}");
        assert_eq!(world.leaks(), [""; 0], "after {operation}");
    }
}

#[tokio::test]
async fn what_was_said_for_one_guest_does_not_hold_for_the_next() {
    let world = host_with_devices();

    with_toolstack(&world, "", async |_events, toolstack| {
        let guest = start(&world, "web1", 1).await?;
        let who = named(&guest, "web1");
        toolstack.claim_by_hand(&[(NVME, Device::new(NVME))], |_| ()).await?;
        let device = Device { policy: Some("permissive".to_owned()), ..Device::new(NVME) };
        toolstack.attach_by_hand(&who, vec![Request { device, ..request(NVME) }], PATIENCE).await?;
        assert_eq!(toolstack.pool().lock()[&NVME].slot.facts().unwrap().policy.name.as_ref(), "permissive");
        assert_eq!(toolstack.pool().lock()[&NVME].device, Device::new(NVME));
        guest.connected().await?;
        toolstack.detach_by_hand(&who, vec![NVME], false, PATIENCE).await?;
        let named = Device { name: Some("mine".to_owned()), ..Device::new(NVME) };
        toolstack.claim_by_hand(&[(NVME, named)], |_| ()).await?;
        toolstack.release_by_hand(&[NVME], true, |_| ()).await?;
        assert!(!toolstack.pool().lock().contains_key(&NVME));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn guest_that_writes_its_state_all_the_time_does_not_keep_a_device_from_being_taken() {
    let world = host_with_devices();

    with_toolstack(&world, "", async |_events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let who = named(&guest, "web1");
        let (client, state) = (guest.xenstore().clone(), PciNodes::new(guest.domain()).frontend_state());
        let writer = tokio::task::spawn_local(async move { while client.write(&state, "4").await.is_ok() {} });
        toolstack.detach_by_hand(&who, vec![NVME], true, Duration::from_millis(100)).await?;
        assert_eq!(world.owner(NVME), Some(DomainId::IO));
        writer.abort();
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn device_that_a_guest_did_not_let_go_of_stays_its_whatever_happens_to_xenstore() {
    let world = host_with_devices();

    with_toolstack(&world, "", async |_events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let who = named(&guest, "web1");
        drop(guest);
        let nodes = PciNodes::new(who.domain);
        // When it is written that the guest keeps the device.
        world.xenstore().inject(Fault {
            domain: DomainId::DOM0,
            kind: Some(MessageType::WRITE),
            below: Some(nodes.backend().child("state-0")?),
            skip: 1,
            action: FaultAction::DisconnectBefore,
        });
        toolstack.detach_by_hand(&who, vec![NVME], false, Duration::from_millis(100)).await.unwrap_err();
        let store = world.xenstore().client(DomainId::DOM0).await?;
        let mut backend = store.watch(nodes.backend()).await?;
        loop {
            let seen = nodes.read_backend(&store).await?;
            assert_eq!(world.owner(NVME), Some(who.domain));
            if seen.state == XenbusState::Connected && seen.devices[0].state == XenbusState::Initialised {
                break;
            }
            backend.changed().await?;
        }
        assert_eq!(world.xenstore().forget_faults(), 0);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn device_is_taken_by_force_although_xenstore_refuses_everything() {
    let world = host_with_devices();

    with_toolstack(&world, "", async |_events, toolstack| {
        let guest = guest_with_nvme(&world, &toolstack).await?;
        let who = named(&guest, "web1");
        drop(guest);
        for _ in 0..1000 {
            world.xenstore().inject(Fault {
                domain: DomainId::DOM0,
                kind: Some(MessageType::TRANSACTION_START),
                below: None,
                skip: 0,
                action: FaultAction::Error(ErrorName::Enospc),
            });
        }
        let taken = toolstack.detach_by_hand(&who, vec![NVME], true, Duration::from_millis(100)).await;
        assert!(world.xenstore().forget_faults() > 900, "it was tried again and again without a pause");
        taken?;
        assert_eq!(world.owner(NVME), Some(DomainId::IO));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn function_of_a_pool_that_was_detached_is_not_made_up_for_by_another() {
    let world = World::new();
    let nic = Sbdf::from_devfn(0, 4, 0);
    world.add_device(SimDevice::igb(nic));
    let toml = "[[pool]]\nname = \"lan\"\nphysical-function = \"0000:04:00.0\"\ncount = 2\n\n\
                [[domain]]\nname = \"a\"\ndevices = [{ from = \"lan\" }]\n";

    with_toolstack(&world, toml, async |_events, toolstack| {
        let guest = start(&world, "a", 1).await?;
        guest.connected().await?;
        toolstack.settled().await;
        let function = toolstack.guests()[0].1[0].function;
        toolstack.detach_by_hand(&named(&guest, "a"), vec![function], false, PATIENCE).await?;
        toolstack.settled().await;
        assert_eq!(toolstack.guests()[0].1, []);
        Ok(())
    })
    .await;
}
