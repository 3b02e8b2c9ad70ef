//! The policies that come with xenpcid.

use std::sync::{Arc, LazyLock};

use xenpcid_config::Policies;
use xenpcid_policy::Policy;

static SHIPPED: LazyLock<Policies> = LazyLock::new(|| Policies::shipped().unwrap());

/// The one of that name.
pub fn shipped(name: &str) -> Arc<Policy> {
    SHIPPED.get(name).unwrap_or_else(|| panic!("there is no shipped policy {name}")).clone()
}

/// All of them.
pub fn all_shipped() -> Vec<Arc<Policy>> {
    SHIPPED.names().map(shipped).collect()
}
