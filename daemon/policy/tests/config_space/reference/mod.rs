//! What a guest is to see and may do, a second time: from the specifications and from what the operator wrote, bit by
//! bit and without any of the crate's tables. Nothing here is fast or clever.
//!
//! Of the crate only the words are used: the device as it was claimed, the policy as it was written, and the verdicts.

pub mod bars;
pub mod description;
pub mod model;
pub mod registers;
pub mod safety;
pub mod walk;

pub use model::{Model, Outcome};
