//! Placeholder replaced below.
#![forbid(unsafe_code)]
