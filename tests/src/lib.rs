//! What tests that cross crates need. The tests themselves are in `tests/`.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test that cannot be set up stops where it is")]

pub mod xenstored;
