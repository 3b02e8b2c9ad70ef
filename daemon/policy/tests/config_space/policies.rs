//! The policies that come with xenpcid.

use std::sync::{Arc, LazyLock};

use xenpcid_config::Policies;
use xenpcid_policy::Policy;

static SHIPPED: LazyLock<Policies> = LazyLock::new(|| Policies::shipped().unwrap());

/// Those that come with xenpcid, by name.
pub fn shipped(name: &str) -> Arc<Policy> {
    SHIPPED.get(name).unwrap_or_else(|| panic!("there is no shipped policy {name}")).clone()
}
