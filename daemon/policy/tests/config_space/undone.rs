//! What a guest wrote to a device, undone before the next guest has it.

use xenpcid_policy::{Access, Plan, Terms, Width};

use crate::machine::{Machine, accesses};
use crate::{devices, policies};

/// Bits that `default` passes and that keep what is written.
const KEPT: &[(&str, u32)] = &[("cache_line_size", 0xff), ("pm.pmcsr", 0x1e00), ("pcie.devctl", 0x7810)];
/// Registers that the host sets itself, and those where a write starts something.
const LEFT: &[&str] = &["command", "vpd.address"];

#[test]
fn what_passed_to_known_registers_is_as_at_the_claim_and_nothing_else_is_written() {
    for policy in policies::all_shipped() {
        for device in devices::ALL.iter() {
            let claimed = &device.snapshot;
            let Ok(mut machine) = Machine::new(claimed, &policy) else { continue };
            let registers =
                Plan::new(claimed, &Terms { policy: &policy, name: None, vectors: u16::MAX }).unwrap().explain();
            let of_tables: Vec<_> = registers.iter().filter(|register| register.spec.is_some()).collect();
            for access in accesses(claimed.size().unwrap()).filter(|access| access.width() == Width::Dword) {
                let inverse = !machine.hardware(access);
                // F of the vital product data, and what a policy denies.
                let _ = machine.write(access, inverse & 0x7fff_7fff);
            }

            let undoing: Vec<_> = machine.view.undoing(claimed).collect();
            for write in &undoing {
                let register = of_tables.iter().find(|register| register.access == write.access);
                let name = register.map(|register| register.name.as_ref());
                assert!(
                    name.is_some_and(|name| !LEFT.contains(&name)),
                    "{} under {}: {write:?}",
                    device.name,
                    policy.name
                );
                let value = write.merge(machine.hardware(write.access));
                let at = usize::from(write.access.offset());
                let bytes = usize::from(write.access.width().bytes());
                machine.hardware[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
            }

            for (name, bits) in KEPT.iter().filter(|_| *policy.name == *"default") {
                for register in of_tables.iter().filter(|register| register.name == *name) {
                    let now = machine.hardware(register.access);
                    assert_eq!((now ^ register.claimed) & bits, 0, "{name} of {}: {now:#x}", device.name);
                    assert!(undoing.iter().any(|write| write.access == register.access), "{name} of {}", device.name);
                }
            }
        }
    }
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
