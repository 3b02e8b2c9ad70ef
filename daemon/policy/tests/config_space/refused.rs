//! Rules that only a device shows to be wrong.

use xenpcid_policy::policy::{DeviceMatch, Layer, Origin, Place, Policy, ReadAction, Rule, WriteAction, overlap};
use xenpcid_policy::{CompileError, Snapshot, Terms};

use crate::devices;

fn rule(line: usize, place: Place, mask: u32, write: WriteAction) -> Rule {
    Rule {
        place,
        mask,
        read: ReadAction::Pass,
        write,
        reset_value: None,
        undo: true,
        when: DeviceMatch::default(),
        why: "".into(),
        origin: origin(line),
    }
}

fn origin(line: usize) -> Origin {
    Origin { policy: "mine".into(), line }
}

fn compile(snapshot: &Snapshot, layers: Vec<Vec<Rule>>) -> Result<(), CompileError> {
    let layer = |rules: Vec<Rule>| {
        rules.iter().for_each(|rule| rule.check().unwrap());
        Layer { otherwise: None, rules, visibility: Vec::new() }
    };
    let layers = layers.into_iter().map(layer).collect();
    let policy = Policy { name: "mine".into(), description: "".into(), applies_to: DeviceMatch::default(), layers };
    xenpcid_policy::Plan::new(snapshot, &Terms { policy: &policy, name: None, vectors: 128 }).map(drop)
}

/// The e1000e's power management is at c8, so its control register at cc.
fn control_by_name(line: usize, mask: u32) -> Rule {
    rule(line, Place::named("pm.pmcsr").unwrap(), mask, WriteAction::Pass)
}

fn control_by_offset(line: usize, mask: u32) -> Rule {
    rule(line, Place::at(0xcc, 4).unwrap(), mask, WriteAction::Pass)
}

#[test]
fn two_rules_of_one_policy_that_meet_on_a_device_are_refused_with_the_bit() {
    let (first, second) = (control_by_name(3, 0x1e00), control_by_offset(8, 0x0001_9000));
    assert!(!overlap(&first, &second), "without a device nothing is known of it");

    let refused = compile(devices::named("e1000e"), vec![vec![first, second]]);

    let expected = CompileError::Overlap { first: origin(3), second: origin(8), offset: 0xcd, bit: 4 };
    assert_eq!(refused, Err(expected));
}

#[test]
fn two_rules_of_one_register_with_other_bits_do_not_meet() {
    let rules = vec![control_by_name(3, 0x1e00), control_by_offset(8, 0x0001_8000)];

    assert_eq!(compile(devices::named("e1000e"), vec![rules]), Ok(()));
}

#[test]
fn a_rule_meets_those_of_the_policy_that_it_extends_without_harm() {
    let layers = vec![vec![control_by_name(3, 0x1e00)], vec![control_by_offset(3, 0x1e00)]];

    assert_eq!(compile(devices::named("e1000e"), layers), Ok(()));
}

#[test]
fn a_rule_by_offset_that_finds_guarded_bits_there_is_refused_with_the_register() {
    for (offset, mask, name) in
        [(0xcc, 0xffff_ffff, "pm.pmcsr"), (0xd4, 1, "msi.address"), (0xc8, 0x100, "capability_header")]
    {
        let by_offset = rule(5, Place::at(offset, 4).unwrap(), mask, WriteAction::Pass);

        match compile(devices::named("e1000e"), vec![vec![by_offset]]) {
            Err(CompileError::Rule { origin: found, fault, .. }) => {
                assert_eq!(found, origin(5));
                assert!(fault.to_string().contains(name), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_capability_lists_are_read_as_they_are_whatever_a_rule_says() {
    for name in ["capabilities_pointer", "capability_header", "extended_capability_header"] {
        let place = Place::named(name).unwrap();
        for (read, reset_value) in [(ReadAction::Pass, None), (ReadAction::Emulate, Some(0)), (ReadAction::Deny, None)]
        {
            let by_name = Rule { read, reset_value, ..rule(1, place, 0xff, WriteAction::Discard) };
            assert!(by_name.check().is_err(), "{name} {read}");
        }
    }
}
