//! What a guest wrote to a device, undone before the next guest has it.

use xenpcid_policy::policy::{DeviceMatch, Layer, Origin, Place, Policy, ReadAction, Rule, WriteAction};
use xenpcid_policy::{Access, ConfigView, HardwareWrite, Snapshot, Width};

use crate::devices;
use crate::exhaustive::for_all;
use crate::machine::{Machine, accesses};
use crate::pair::Pair;
use crate::policies;

#[test]
fn what_passed_to_registers_with_a_name_is_as_at_the_claim_and_nothing_else_is_written() {
    for_all(|claimed, policy| {
        let mut pair = Pair::new(claimed, policy, 128).unwrap();
        for access in accesses(claimed.size().unwrap()).filter(|access| access.width() == Width::Dword) {
            let inverse = !pair.machine.hardware(access);
            // F of the vital product data, and what a policy denies.
            let _ = pair.machine.write(access, inverse & 0x7fff_7fff);
        }

        pair.undo(claimed);
    });
}

/// Which of the registers at these offsets are written before the next guest, under a shipped policy.
fn written<const N: usize>(device: &str, policy: &str, registers: [Access; N]) -> [bool; N] {
    let claimed = devices::named(device);
    let view = Machine::new(claimed, &policies::shipped(policy)).unwrap().view;
    registers.map(|access| view.undoing(claimed).any(|write| write.access == access))
}

#[test]
fn registers_that_passed_to_a_guest_are_written_before_the_next() {
    // Cache line size, Device Control.
    let kept = [Access::byte(0x0c), Access::word(0xe8)];
    assert_eq!(written("e1000e", "default", kept), [true; 2]);
    // Command of PCI-X; window onto the card's registers, and what it shows.
    let of_pcix = [Access::word(0x42), Access::dword(0x78), Access::dword(0x80)];
    assert_eq!(written("bcm5704", "network", of_pcix), [true, true, false]);
    // Frame length adjustment.
    assert_eq!(written("ich9-ehci", "usb-controller", [Access::byte(0x61)]), [true]);
    // The host sets the command register; F of the address starts something.
    assert_eq!(written("conventional-spec", "default", [Access::COMMAND, Access::word(0xa2)]), [false; 2]);
}

fn rule(line: usize, place: Place, mask: u32, undo: bool) -> Rule {
    Rule {
        place,
        mask,
        read: ReadAction::Pass,
        write: WriteAction::Pass,
        reset_value: None,
        undo,
        when: DeviceMatch::default(),
        why: "".into(),
        origin: Origin { policy: "mine".into(), line },
    }
}

fn view(claimed: &Snapshot, rules: Vec<Rule>) -> ConfigView {
    let layer = Layer { otherwise: None, rules, visibility: Vec::new() };
    let policy =
        Policy { name: "mine".into(), description: "".into(), applies_to: DeviceMatch::default(), layers: vec![layer] };
    Machine::new(claimed, &policy).unwrap().view
}

#[test]
fn bits_of_a_register_that_only_a_rule_names_are_undone_unless_the_rule_says_otherwise() {
    let claimed = devices::named("reaching");
    let place = Place::at(0xa0, 4).unwrap();
    let rules = vec![rule(1, place, 0xffff_0000, true), rule(2, place, 0x0000_ff00, false)];

    let undoing: Vec<_> = view(claimed, rules).undoing(claimed).collect();

    assert_eq!(undoing, [HardwareWrite { access: Access::dword(0xa0), value: 0, mask: 0xffff_0000, clear: 0 }]);
}

#[test]
fn a_rule_over_a_register_and_bytes_beside_it_is_undone_in_both() {
    // Status of Advanced Features is at 9d; behind it nothing has a name.
    let claimed = devices::named("ich9-ehci");
    let rule = rule(1, Place::at(0x9c, 4).unwrap(), 0xffff_ff00, true);

    let undoing = view(claimed, vec![rule]);

    let accesses: Vec<_> = undoing.undoing(claimed).map(|write| write.access).collect();
    assert_eq!(accesses, [0x9d, 0x9e, 0x9f].map(Access::byte));
}

#[test]
fn status_that_a_guest_cleared_is_not_written_and_stays_cleared() {
    let claimed = devices::named("made-up");
    let machine = Machine::new(claimed, &policies::shipped("default")).unwrap();
    // PME Status is pending in the device at the claim; Data Select is beside it.
    let pmcsr = Access::word(0x44);
    assert_eq!(machine.hardware(pmcsr) & 0x8000, 0x8000);

    let write = machine.view.undoing(claimed).find(|write| write.access == pmcsr).unwrap();

    assert_eq!(write.merge(0x9e00) & 0x8000, 0);
}
