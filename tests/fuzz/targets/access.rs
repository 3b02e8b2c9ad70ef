//! Any bytes as a device, a policy, and what a guest does: the property test of the policy crate, on libFuzzer's inputs.
#![no_main]
#![allow(dead_code, reason = "of the policy crate's tests, a part")]

#[path = "../../../daemon/policy/tests/config_space/devices.rs"]
mod devices;
#[path = "../../../daemon/policy/tests/config_space/fuzzed.rs"]
mod fuzzed;
#[path = "../../../daemon/policy/tests/config_space/machine.rs"]
mod machine;
#[path = "../../../daemon/policy/tests/config_space/made_up.rs"]
mod made_up;
#[path = "../../../daemon/policy/tests/config_space/pair.rs"]
mod pair;
#[path = "../../../daemon/policy/tests/config_space/policies.rs"]
mod policies;
#[path = "../../../daemon/policy/tests/config_space/recorded.rs"]
mod recorded;
#[path = "../../../daemon/policy/tests/config_space/reference/mod.rs"]
mod reference;
#[path = "../../../daemon/policy/tests/config_space/watch.rs"]
mod watch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::check(bytes));
