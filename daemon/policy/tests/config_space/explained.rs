//! What is explained of a device is what a guest meets.

use xenpcid_policy::policy::{ReadAction, WriteAction};
use xenpcid_policy::{Plan, Terms};

use crate::exhaustive::for_all;
use crate::machine::Machine;

#[test]
fn every_register_reads_at_first_as_it_is_explained() {
    for_all(|snapshot, policy| {
        let plan = Plan::new(snapshot, &Terms { policy, name: None, vectors: 128 }).unwrap();
        let mut machine = Machine::with_vectors(snapshot, policy, 128).unwrap();

        for register in plan.explain() {
            let read = machine.read(register.access).ok();

            let is_denied = register.bits.iter().any(|bits| bits.read == ReadAction::Deny);
            assert_eq!(read, (!is_denied).then_some(register.shown), "{}", register.name);
            assert_eq!(register.claimed, machine.hardware(register.access), "{}", register.name);
        }
    });
}

#[test]
fn bits_of_a_register_are_explained_once_each() {
    for_all(|snapshot, policy| {
        let plan = Plan::new(snapshot, &Terms { policy, name: None, vectors: 128 }).unwrap();
        for register in plan.explain() {
            let masks = register.bits.iter().map(|bits| bits.mask);
            assert_eq!(
                masks.clone().fold(0, |all, mask| all | mask),
                register.access.width().mask(),
                "{}",
                register.name
            );
            assert_eq!(masks.map(u32::count_ones).sum::<u32>(), register.access.width().mask().count_ones());
        }
    });
}

#[test]
fn a_write_reaches_the_device_where_and_only_where_it_is_explained_to_pass() {
    for_all(|snapshot, policy| {
        let plan = Plan::new(snapshot, &Terms { policy, name: None, vectors: 128 }).unwrap();
        for register in plan.explain() {
            let mut machine = Machine::with_vectors(snapshot, policy, 128).unwrap();
            let passing = register.bits.iter().filter(|bits| bits.write == WriteAction::Pass);
            let passing = passing.fold(0, |all, bits| all | bits.mask);
            let is_denied = register.bits.iter().any(|bits| bits.write == WriteAction::Deny);

            let outcome = machine.view.write(register.access, machine.hardware(register.access) & !passing | passing);

            match outcome {
                Ok(write) if !is_denied => {
                    let mask = write.hardware.map_or(0, |hardware| hardware.mask);
                    assert_eq!(mask, passing, "{} {}", register.name, register.access);
                }
                Ok(_) => {}
                Err(_) => assert!(is_denied, "{}", register.name),
            }
        }
    });
}
