//! What commands do and say, as they come over the control socket.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod harness;

use std::path::Path;
use std::rc::Rc;

use harness::{NVME, start, with_toolstack};
use xenpcid::control::Control;
use xenpcid::files::Files;
use xenpcid::toolstack::Toolstack;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_control::{Apply, Attach, AttachDevice, Claim, Progress, Refusal, Release, Reset, Service};
use xenpcid_host::{Errno, PciHost};
use xenpcid_simhost::{SimDevice, World};

/// Three functions of one slot.
const FIRST: Sbdf = NVME;
const SECOND: Sbdf = Sbdf::from_devfn(0, 1, 1);
const THIRD: Sbdf = Sbdf::from_devfn(0, 1, 2);
const ALL: [Sbdf; 3] = [FIRST, SECOND, THIRD];
const DRIVERS: [&str; 3] = ["nvme", "e1000e", "igb"];

fn host_with_three_functions() -> World {
    let world = World::new();
    for device in [SimDevice::nvme(FIRST), SimDevice::e1000e(SECOND), SimDevice::igb(THIRD)] {
        world.add_device(device);
    }
    world
}

fn control(toolstack: &Rc<Toolstack>) -> Control {
    control_of(toolstack, Path::new("."))
}

/// With a configuration in a folder.
fn control_of(toolstack: &Rc<Toolstack>, folder: &Path) -> Control {
    let files = Files { config: folder.join("xenpcid.toml"), policies: folder.join("policies") };
    Control::new(toolstack.clone(), files, None)
}

async fn claim(control: &Control, device: &str) -> Result<usize, Refusal> {
    let claim = Claim { device: device.to_owned(), name: None, allow: Vec::new(), reset: None };
    control.claim(claim, Progress::unheard()).await.map(|claimed| claimed.len())
}

async fn release(control: &Control, device: &str) -> Result<usize, Refusal> {
    let release = Release { device: device.to_owned(), rebind: true };
    control.release(release, Progress::unheard()).await.map(|released| released.len())
}

/// Who has each of the three.
fn owners(world: &World) -> [Option<DomainId>; 3] {
    ALL.map(|function| world.owner(function))
}

fn are_with_their_drivers(world: &World) -> bool {
    owners(world) == [Some(DomainId::DOM0); 3]
        && ALL
            .iter()
            .zip(DRIVERS)
            .all(|(function, driver)| world.describe(*function).unwrap().driver.unwrap() == driver)
}

fn how_often(world: &World, operation: &str) -> usize {
    world.calls().iter().filter(|call| call.operation == operation).count()
}

#[tokio::test]
async fn all_functions_of_a_slot_are_claimed_and_released_by_one_command() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control(&toolstack);

        assert_eq!(claim(&control, "0000:01:00.*").await.unwrap(), 3);
        toolstack.settled().await;
        assert_eq!(owners(&world), [Some(DomainId::IO); 3]);
        assert_eq!(release(&control, "0000:01:00.*").await.unwrap(), 3);
        toolstack.settled().await;
        assert!(are_with_their_drivers(&world));
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn claim_of_which_one_device_is_refused_takes_none_from_its_driver() {
    let world = World::new();
    // The second one cannot be reset.
    for device in [SimDevice::nvme(FIRST), SimDevice::e1000(SECOND)] {
        world.add_device(device);
    }

    with_toolstack(&world, "", async |_, toolstack| {
        let refused = claim(&control(&toolstack), "0000:01:00.*").await.unwrap_err();

        assert!(matches!(&refused, Refusal::ChecksFailed { device, .. } if device == "0000:01:00.1"), "{refused}");
        assert_eq!(how_often(&world, "unbind"), 0);
        let accepted =
            Claim { device: "0000:01:00.*".to_owned(), name: None, allow: Vec::new(), reset: Some(Reset::BestEffort) };
        assert_eq!(control(&toolstack).claim(accepted, Progress::unheard()).await.unwrap().len(), 2);
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn claim_that_fails_at_one_device_gives_back_those_before_it_and_keeps_what_was_claimed_already() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control(&toolstack);
        assert_eq!(claim(&control, "0000:01:00.0").await.unwrap(), 1);
        // The second one is quarantined, the third is not.
        world.fail("assign_device", 2, Errno::EIO);
        let failed = claim(&control, "0000:01:00.*").await.unwrap_err().to_string();
        assert!(failed.contains("assign_device") && failed.contains("0000:01:00.2"), "{failed}");
        assert!(!failed.contains("could not be given back"), "{failed}");
        toolstack.settled().await;
        assert_eq!(owners(&world), [Some(DomainId::IO), Some(DomainId::DOM0), Some(DomainId::DOM0)]);
        assert!(toolstack.by_hand().borrow().claimed.iter().eq([&FIRST]));
        Ok(())
    })
    .await;

    assert!(are_with_their_drivers(&world));
    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn claim_that_fails_says_what_could_not_be_given_back() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        world.fail("assign_device", 2, Errno::EIO);
        // After those of the first and the second one when they are claimed: by each method when the first is given back.
        (3..9).for_each(|nth| world.fail("reset", nth, Errno::ETIMEDOUT));
        let failed = claim(&control(&toolstack), "0000:01:00.*").await.unwrap_err().to_string();
        assert!(failed.contains("assign_device"), "{failed}");
        assert!(failed.contains("0000:01:00.0 was claimed and could not be given back to dom0"), "{failed}");
        assert_eq!(owners(&world), [Some(DomainId::IO), Some(DomainId::DOM0), Some(DomainId::DOM0)]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn release_with_a_device_that_is_not_claimed_or_a_guest_s_gives_none_back() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control(&toolstack);
        assert_eq!(claim(&control, "0000:01:00.0").await.unwrap(), 1);
        let refused = release(&control, "0000:01:00.*").await.unwrap_err();
        assert_eq!(refused, Refusal::NotAssignable { device: "0000:01:00.1".to_owned() });
        assert_eq!(world.owner(FIRST), Some(DomainId::IO));
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn release_that_fails_at_one_device_claims_those_before_it_again() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control(&toolstack);
        assert_eq!(claim(&control, "0000:01:00.*").await.unwrap(), 3);
        world.set_responding(THIRD, false);
        let failed = release(&control, "0000:01:00.*").await.unwrap_err().to_string();
        assert!(failed.contains("0000:01:00.2"), "{failed}");
        assert!(!failed.contains("again"), "{failed}");
        toolstack.settled().await;
        assert_eq!(owners(&world), [Some(DomainId::IO); 3]);
        assert!(toolstack.by_hand().borrow().released.is_empty());
        // Once more, and nothing fails.
        world.set_responding(THIRD, true);
        assert_eq!(release(&control, "0000:01:00.*").await.unwrap(), 3);
        Ok(())
    })
    .await;

    assert!(are_with_their_drivers(&world));
    assert_eq!(world.leaks(), [""; 0]);
}

#[tokio::test]
async fn release_that_fails_says_what_could_not_be_claimed_again() {
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control(&toolstack);
        assert_eq!(claim(&control, "0000:01:00.*").await.unwrap(), 3);
        world.set_responding(SECOND, false);
        world.fail("assign_device", 1, Errno::EIO);
        let failed = release(&control, "0000:01:00.*").await.unwrap_err().to_string();
        assert!(failed.contains("0000:01:00.0 was given back to dom0 and could not be claimed again"), "{failed}");
        assert_eq!(owners(&world), [Some(DomainId::DOM0), Some(DomainId::IO), Some(DomainId::IO)]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn device_that_is_missing_is_told_once_with_the_domains_that_wait_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[[device]]\nname = \"uplink\"\nserial = \"00-11-22-ff-ff-33-44-55\"\n\n\
        [[domain]]\nname = \"web*\"\ndevices = [\"uplink\"]\n";
    std::fs::write(folder.path().join("xenpcid.toml"), toml).unwrap();
    let world = host_with_three_functions();

    with_toolstack(&world, "", async |_, toolstack| {
        let control = control_of(&toolstack, folder.path());
        let alone = control.apply(Apply { wait: true }, Progress::unheard()).await.unwrap().problems;
        let guests = [start(&world, "web1", 1).await?, start(&world, "web2", 2).await?];
        let applied = control.apply(Apply { wait: true }, Progress::unheard()).await.unwrap().problems;
        let planned = control.plan().await.unwrap().problems;

        let [alone] = alone.as_slice() else { panic!("{alone:?}") };
        assert!(alone.starts_with("no device of this host is"), "{alone}");
        let waiting = format!("{alone}; web1 (domain 1) and web2 (domain 2) wait for it");
        assert_eq!((applied, planned), (vec![waiting.clone()], vec![waiting]));
        drop(guests);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn slot_that_was_asked_for_is_shown_while_a_guest_has_the_device_and_before() {
    let world = World::new();
    let (e1000e, igb) = (Sbdf::from_devfn(0, 2, 0), Sbdf::from_devfn(0, 3, 0));
    for device in [SimDevice::nvme(NVME), SimDevice::e1000e(e1000e), SimDevice::igb(igb)] {
        world.add_device(device);
    }
    let toml = r#"
[[device]]
bdf = "0000:02:00.0"

[[domain]]
name = "web1"
devices = [{ bdf = "0000:01:00.0", slot = 5 }]

[[domain]]
name = "web2"
devices = [{ bdf = "0000:09:00.0", slot = 9 }]
"#;

    with_toolstack(&world, toml, async |mut events, toolstack| {
        let control = control(&toolstack);
        let slots = async || {
            let devices = control.devices().await.unwrap().into_iter();
            devices.map(|device| (device.slot, device.guest_address)).collect::<Vec<_>>()
        };
        // Nobody asks for the second one; the last one is missing.
        assert_eq!(slots().await, [(Some(5), None), (None, None), (Some(9), None)]);

        let guest = start(&world, "web1", 1).await?;
        guest.connected().await?;
        let device =
            |function: Sbdf, slot| AttachDevice { device: function.to_string(), slot, ..AttachDevice::default() };
        let attach = |device| Attach { domain: "web1".to_owned(), devices: vec![device], timeout: None, wait: true };
        let seized = AttachDevice { seize: true, ..device(igb, None) };
        control.attach(attach(device(e1000e, Some(0x1e))), Progress::unheard()).await.unwrap();
        control.attach(attach(seized), Progress::unheard()).await.unwrap();
        let seen = |slot, address: &str| (slot, Some(address.to_owned()));
        // The third one may be anywhere.
        let expected = [seen(Some(5), "05.0"), seen(Some(0x1e), "1e.0"), seen(None, "00.0"), (Some(9), None)];
        assert_eq!(slots().await, expected);
        world.destroy_domain(guest.domain()).await?;
        harness::released(&mut events).await;
        toolstack.settled().await;
        // The third one stays claimed.
        assert_eq!(slots().await, [(Some(5), None), (None, None), (None, None), (Some(9), None)]);
        Ok(())
    })
    .await;

    assert_eq!(world.leaks(), [""; 0]);
}
