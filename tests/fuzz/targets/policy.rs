//! Any text as a policy.
#![no_main]

#[path = "../properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|text: &str| {
    properties::text_is_a_policy_or_is_refused_inside_of_it(text);
});
