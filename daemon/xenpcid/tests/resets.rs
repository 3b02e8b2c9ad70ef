//! How devices are reset, and what is said of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use xenpcid::checks::Owner;
use xenpcid::claim::{ClaimError, Claimed};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Policies, ResetRequirement};
use xenpcid_host::Errno;
use xenpcid_simhost::{SimDevice, World};

const NIC: Sbdf = Sbdf::from_devfn(0, 3, 0);

/// An NIC with these methods, in Linux' order.
fn nic(methods: &[&str]) -> World {
    let world = World::new();
    world.add_device(SimDevice::e1000e(NIC).with_reset_methods(methods));
    world
}

fn claim(world: &World, reset: ResetRequirement) -> Result<Box<Claimed>, ClaimError> {
    let device = Device { reset, ..Device::new(NIC) };
    Claimed::claim(&world.host(), NIC, &device, &Policies::shipped().unwrap(), &|_| Owner::Dom0)
}

#[test]
fn reset_of_the_bus_is_used_rather_than_one_by_power_states() {
    let world = nic(&["pm", "bus"]);

    let report = claim(&world, ResetRequirement::Required).map_err(|e| e.to_string()).unwrap().facts().last_reset();

    let report = report.unwrap();
    assert_eq!(
        (report.methods.as_slice(), report.used.as_deref()),
        (&["bus".to_owned(), "pm".to_owned()][..], Some("bus"))
    );
    assert_eq!(report.failed, []);
    assert!(report.to_string().ends_with("ms (of bus, pm); identity and BARs read as at the claim"), "{report}");
}

#[test]
fn method_that_fails_is_followed_by_the_next_and_is_told() {
    let world = nic(&["flr", "pm", "bus"]);
    world.fail("reset", 1, Errno::ETIMEDOUT);

    let report = claim(&world, ResetRequirement::Required).map_err(|e| e.to_string()).unwrap().facts().last_reset();

    let report = report.unwrap();
    assert_eq!(report.used.as_deref(), Some("bus"));
    assert!(
        matches!(report.failed.as_slice(), [(method, why)] if method == "flr" && why.contains("ETIMEDOUT")),
        "{report}"
    );
    assert!(report.to_string().contains("; flr failed: "), "{report}");
}

#[test]
fn device_that_no_method_resets_is_refused_with_what_became_of_each() {
    let world = nic(&["flr", "bus"]);
    world.fail("reset", 1, Errno::ETIMEDOUT);
    world.fail("reset", 2, Errno::EIO);

    let error = claim(&world, ResetRequirement::Required).map(drop).unwrap_err().to_string();

    for part in ["not reset by any of flr, bus", "flr failed: ", "ETIMEDOUT", "bus failed: ", "EIO", "power cycle"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(world.owner(NIC), Some(DomainId::DOM0));
    assert_eq!(world.violations(), [""; 0]);
}

#[test]
fn device_that_no_method_resets_is_taken_if_its_configuration_accepts_that_and_the_report_says_so() {
    for (methods, text) in [(&["flr"][..], "not reset by any of flr; flr failed: "), (&[], "there is no method")] {
        let world = nic(methods);
        world.fail("reset", 1, Errno::ETIMEDOUT);

        let claimed = claim(&world, ResetRequirement::BestEffort).map_err(|e| e.to_string()).unwrap();

        let report = claimed.facts().last_reset().unwrap();
        assert_eq!(report.used, None);
        assert!(report.to_string().contains(text), "{report}");
    }
}
