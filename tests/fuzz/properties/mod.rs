//! What holds for any input: called by the fuzz target, and by property tests.

mod devices;
mod policy_text;

pub use policy_text::text_is_a_policy_or_is_refused_inside_of_it;
