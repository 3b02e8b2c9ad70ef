//! The policies that come with xenpcid, on the recorded devices.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

#[path = "../../tests/fuzz/properties/devices.rs"]
#[expect(dead_code, reason = "which bits are guarded is asked elsewhere")]
mod devices;

use xenpcid_config::Policies;
use xenpcid_policy::policy::DeviceIdentity;
use xenpcid_policy::{Plan, Terms};

#[test]
fn every_shipped_policy_fits_every_device_that_it_is_for() {
    let policies = Policies::shipped().map_err(|error| error.to_string()).unwrap();
    let mut plans = 0;
    for device in devices::recorded() {
        let snapshot = &device.snapshot;
        for name in policies.names() {
            let policy = policies.get(name).unwrap();
            let is_for_it = policy.applies_to.matches(&DeviceIdentity::new(snapshot, None));
            let plan = Plan::new(snapshot, &Terms { policy, name: None, vectors: 128 });
            assert_eq!(
                plan.as_ref().err().map(ToString::to_string).is_none(),
                is_for_it,
                "{name} on {}: {plan:?}",
                device.name
            );
            plans += usize::from(is_for_it);
        }
    }
    assert!(plans > 80, "{plans}");
}

#[test]
fn shipped_policies_are_those_of_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let mut stems: Vec<String> = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    stems.sort();
    assert_eq!(Policies::shipped().unwrap().names().collect::<Vec<_>>(), stems);
}
