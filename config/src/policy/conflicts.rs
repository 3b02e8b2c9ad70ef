//! What the parts of one file say against each other. Nothing in a policy depends on the order of its parts, so two of them
//! must not speak of the same bits.

use xenpcid_policy::policy::{DeviceMatch, Rule, Visibility, overlap};

use crate::error::{Mistake, line_of};
use crate::toml_table::Written;

/// Finds them all; each mistake is at the later of the two parts.
pub(super) fn find(
    applies_to: &DeviceMatch,
    rules: &[Written<Rule>],
    visibility: &[Written<Visibility>],
    text: &str,
    mistakes: &mut Vec<Mistake>,
) {
    for (n, second) in rules.iter().enumerate() {
        if applies_to.excludes(&second.value.when) {
            let message = "the rule is for devices that the policy is not for";
            mistakes.push(Mistake::new(second.span.clone(), message).help("change its match, or that of the policy"));
            continue;
        }
        for first in rules.iter().take(n) {
            if overlap(&first.value, &second.value) {
                mistakes.push(overlapping(first, second, text));
            }
        }
    }
    for (n, second) in visibility.iter().enumerate() {
        let same = |first: &&Written<Visibility>| first.value.capability == second.value.capability;
        for first in visibility.iter().take(n).filter(same) {
            let (first, second) = in_order(first, second);
            let message = format!(
                "capability {} is {} here, and {} in line {}",
                second.value.capability,
                verb(&second.value),
                verb(&first.value),
                line_of(text, &first.span),
            );
            mistakes.push(Mistake::new(second.span.clone(), message).help("remove one of the two"));
        }
        if second.value.hidden {
            mistakes.extend(rules.iter().filter_map(|rule| useless(rule, second, text)));
        }
    }
}

fn overlapping(first: &Written<Rule>, second: &Written<Rule>, text: &str) -> Mistake {
    let is_common = |bit: &u32| overlap(&first.value, &Rule { mask: *bit, ..second.value.clone() });
    let bits = (0..32).map(|n| 1_u32 << n).filter(|bit| second.value.mask & bit != 0);
    let common = bits.filter(is_common).fold(0, |all, bit| all | bit);
    let line = line_of(text, &first.span);
    let place = second.value.place;
    let message = format!("bits {common:#x} of {place} are also in the rule of line {line}");
    Mistake::new(second.span.clone(), message)
        .help("leave them out of one of the two masks: the order of rules says nothing")
}

/// A rule for registers that nobody finds.
fn useless(rule: &Written<Rule>, hide: &Written<Visibility>, text: &str) -> Option<Mistake> {
    let capability = rule.value.place.capability().filter(|capability| *capability == hide.value.capability)?;
    let help = "remove one of the two: what is hidden reads zero and discards writes";
    let (span, message) = if hide.span.start > rule.span.start {
        let line = line_of(text, &rule.span);
        (&hide.span, format!("capability {capability} is hidden here, and has a rule in line {line}"))
    } else {
        let line = line_of(text, &hide.span);
        (&rule.span, format!("capability {capability} has a rule here, and is hidden in line {line}"))
    };
    Some(Mistake::new(span.clone(), message).help(help))
}

fn in_order<'a, T>(a: &'a Written<T>, b: &'a Written<T>) -> (&'a Written<T>, &'a Written<T>) {
    if a.span.start <= b.span.start { (a, b) } else { (b, a) }
}

fn verb(visibility: &Visibility) -> &'static str {
    if visibility.hidden { "hidden" } else { "shown" }
}
