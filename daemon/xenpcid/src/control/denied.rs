//! What guests did not get, with the names of the registers.

use xenpcid_control as control;

use crate::claim::Facts;
use crate::denials::{Denial, Operation, Refusal};

/// What the device's guest did not get.
pub(super) fn denied(facts: &Facts) -> Vec<control::Denied> {
    let (Some(guest), denials) = (facts.denials.guest(), facts.denials.list()) else { return Vec::new() };
    // Names cost a plan.
    if denials.is_empty() {
        return Vec::new();
    }
    let Ok(plan) = facts.plan() else { return Vec::new() };
    let named = |denial: Denial| {
        let Denial { register, operation, refusal, bits, count, last_value, last_time } = denial;
        let found = plan.register_at(register.offset());
        control::Denied {
            device: facts.function,
            guest: super::guest(&guest),
            offset: register.offset(),
            width: register.width().bytes(),
            register: found.as_ref().map(|found| found.name.clone().into_owned()),
            capability: found.as_ref().and_then(|found| found.capability).map(|id| id.to_string()),
            hidden: found.is_some_and(|found| found.bits.iter().any(|bits| bits.is_hidden)),
            operation: match operation {
                Operation::Read => control::Operation::Read,
                Operation::Write => control::Operation::Write,
            },
            outcome: match refusal {
                Refusal::Discarded => control::Outcome::Discarded,
                Refusal::Denied => control::Outcome::Denied,
            },
            bits,
            count: u64::from(count),
            last_value,
            last_time,
        }
    };
    denials.into_iter().map(named).collect()
}
