//! The policies that come with xenpcid.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

use xenpcid_config::Policies;

#[test]
fn shipped_policies_are_policies() {
    let policies = Policies::shipped().map_err(|error| error.to_string()).unwrap();
    assert!(policies.get("default").is_some());
}
