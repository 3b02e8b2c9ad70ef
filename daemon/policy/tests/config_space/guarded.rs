//! What no policy gives away.

use xenpcid_policy::policy::{DeviceMatch, Layer, Origin, Place, Policy, ReadAction, Rule, RuleFault, WriteAction};
use xenpcid_policy::{AnyCapabilityId, CompileError, Plan, Snapshot, Terms};

use crate::devices;

/// Device, first byte, end, and the start of the names of the registers there.
const REACHING_FURTHER: &[(&str, u16, u16, &str)] = &[
    ("reaching", 0x44, 0x64, "ea.entries"),
    ("reaching", 0x6c, 0x74, "sata."),
    ("reaching", 0x78, 0x79, "vendor.virtio_bar"),
    ("reaching", 0x7c, 0x88, "vendor.virtio_"),
    ("reaching", 0x106, 0x128, "mcast."),
    ("reaching", 0x13a, 0x16c, "dvsec.cxl_"),
    ("virtio-net", 0xcc, 0xcd, "vendor.virtio_bar"),
    ("virtio-net", 0xd0, 0xdc, "vendor.virtio_"),
    ("igb", 0x180, 0x184, "sriov.system_page_size"),
];

/// Of the same devices, what looks like it and is not.
const NEIGHBOURS: &[(&str, u16)] = &[
    ("reaching", 0x42),
    ("reaching", 0x68),
    ("reaching", 0x77),
    ("reaching", 0x79),
    ("reaching", 0x8c),
    ("reaching", 0x90),
    ("reaching", 0x104),
    ("reaching", 0x128),
    ("reaching", 0x138),
    ("reaching", 0x16c),
    ("reaching", 0x17a),
    ("ich9-ahci", 0xb0),
    ("igb", 0x170),
];

fn rule(place: Place) -> Rule {
    Rule {
        place,
        mask: 0xff,
        read: ReadAction::Pass,
        write: WriteAction::Pass,
        reset_value: None,
        undo: true,
        when: DeviceMatch::default(),
        why: "".into(),
        origin: Origin { policy: "mine".into(), line: 1 },
    }
}

/// A policy of an operator's who lets guests write one byte.
fn passing(snapshot: &Snapshot, offset: u16) -> Result<Plan, CompileError> {
    let rule = rule(Place::at(offset.into(), 1).unwrap());
    let layer = Layer { otherwise: None, rules: vec![rule], visibility: Vec::new() };
    let policy =
        Policy { name: "mine".into(), description: "".into(), applies_to: DeviceMatch::default(), layers: vec![layer] };
    Plan::new(snapshot, &Terms { policy: &policy, name: None, vectors: 128 })
}

#[test]
fn registers_that_reach_further_than_the_device_are_given_away_by_no_policy() {
    for (device, start, end, name) in REACHING_FURTHER {
        for offset in *start..*end {
            match passing(devices::named(device), offset) {
                Err(CompileError::Rule { fault: RuleFault::Forbidden { register, .. }, .. }) => {
                    assert!(register.starts_with(name), "{offset:#x} of {device} is {register}");
                }
                other => panic!("{offset:#x} of {device}: {:?}", other.map(drop)),
            }
        }
    }
}

#[test]
fn registers_beside_those_that_reach_further_stay_the_operators_to_give() {
    for (device, offset) in NEIGHBOURS {
        let plan = passing(devices::named(device), *offset);
        assert!(plan.is_ok(), "{offset:#x} of {device}: {:?}", plan.map(drop));
    }
}

#[test]
fn what_is_guarded_on_every_device_is_refused_without_one_and_what_is_an_owners_is_not() {
    let of_everybody = [("ea", 0x20), ("mcast", 0x08), ("sata", 0x0c)];
    let of_owners = [("dvsec", 0x40), ("vendor", 0x08)];
    let is_refused = |(name, offset)| {
        let place = Place::in_capability(AnyCapabilityId::named(name).unwrap(), offset, 4).unwrap();
        matches!(rule(place).check(), Err(RuleFault::Forbidden { .. }))
    };
    assert_eq!(of_everybody.map(is_refused), [true; 3]);
    assert_eq!(of_owners.map(is_refused), [false; 2]);
}
