//! One suite over both xenstore servers: the one in memory, and the xenstored of Debian's Xen 4.17.
//!
//! Each test is a function that takes a running [`Host`]; [`on_both`] makes a test of it for either server.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

mod directories;
mod domains;
mod guests;
mod host;
mod nodes;
mod quotas;
mod transactions;
mod watches;

pub use host::{Host, changed, name, path};

/// Runs functions of the module as tests on each server.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(&$crate::Host::in_memory().await).await; })*
        }
        mod xenstored {
            $(#[tokio::test] async fn $test() { super::$test(&$crate::Host::real().await).await; })*
        }
    };
}
