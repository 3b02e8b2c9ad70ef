//! The policy until the shipped ones are there.

use std::sync::Arc;

use xenpcid_policy::Policy;
use xenpcid_policy::policy::{DeviceMatch, Layer, Origin, Place, ReadAction, Rule, WriteAction};

/// What a guest may do.
#[must_use]
pub fn policy() -> Policy {
    let name: Arc<str> = "default".into();
    let rule = |register: &str, mask, read, write, reset_value| Rule {
        place: Place::named(register).unwrap_or(Place::At { offset: 0x0d, width: xenpcid_policy::Width::Byte }),
        mask,
        read,
        write,
        reset_value,
        when: DeviceMatch::default(),
        why: "as before".into(),
        origin: Origin { policy: name.clone(), line: 1 },
    };
    use ReadAction as R;
    use WriteAction as W;
    let rules = vec![
        rule("command", 0x0014, R::Pass, W::Pass, None),
        rule("command", 0x0140, R::Emulate, W::Emulate, Some(0)),
        rule("command", 0xf800, R::Emulate, W::Discard, Some(0)),
        rule("cache_line_size", 0xff, R::Pass, W::Pass, None),
        rule("pm.pmc", 0xf800, R::Emulate, W::Discard, Some(0)),
        rule("pm.pmcsr", 0x0008, R::Emulate, W::Discard, Some(0x0008)),
        rule("pm.pmcsr", 0x0100, R::Emulate, W::Discard, Some(0)),
        rule("pm.pmcsr", 0x9e00, R::Pass, W::Pass, None),
        rule("vpd.address", 0x7fff, R::Pass, W::Pass, None),
        rule("vpd.address", 0x8000, R::Pass, W::Deny, None),
    ];
    let layers = vec![Layer { otherwise: None, rules, visibility: Vec::new() }];
    Policy { name, description: "".into(), applies_to: DeviceMatch::default(), layers }
}
