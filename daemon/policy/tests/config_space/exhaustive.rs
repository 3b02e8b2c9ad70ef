//! Every offset, every width and a set of values, on every device under every policy that comes with xenpcid, against the
//! reference model.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use xenpcid_policy::{CompileError, InterruptMode, Policy, Snapshot, Width};

use crate::devices;
use crate::machine::accesses;
use crate::pair::Pair;
use crate::policies::all_shipped;
use crate::reference::description::fits;

/// Patterns that set, clear and alternate bits, several that have a meaning somewhere, and sizing writes.
const PATTERNS: [u32; 16] = [
    0xffff_ffff,
    0x0000_0000,
    0xffff_fff0,
    0x0000_0001,
    0xffff_fffc,
    0x0000_0002,
    0xffff_f801,
    0x0000_0003,
    0x5555_5555,
    0xaaaa_aaaa,
    0x8000_8000,
    0x7fff_7fff,
    0xffff_f800,
    0x0010_0003,
    0x0014_0407,
    0xc001_c001,
];

pub const MODES: [InterruptMode; 3] = [InterruptMode::None, InterruptMode::Msi, InterruptMode::Msix];

/// Runs `check` on every device with every policy that is for it, and says which ones an assertion is about.
pub fn for_all(check: impl Fn(&Snapshot, &Policy)) -> usize {
    let mut count = 0;
    for device in devices::ALL.iter() {
        for policy in all_shipped() {
            if !fits(&policy.applies_to, &device.snapshot) {
                let refused = Pair::new(&device.snapshot, &policy, 128).err();
                assert!(matches!(refused, Some(CompileError::NotForDevice { .. })), "{}: {refused:?}", device.name);
                continue;
            }
            count += 1;
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&device.snapshot, &policy))) {
                eprintln!("this was device {} under policy {}", device.name, policy.name);
                resume_unwind(panic);
            }
        }
    }
    count
}

#[test]
fn every_read_agrees_with_the_model_whatever_the_hardware_answers_and_the_interrupts_are() {
    let count = for_all(|snapshot, policy| {
        for mode in MODES {
            let mut pair = Pair::new(snapshot, policy, 128).unwrap();
            pair.set_interrupt_mode(mode);
            accesses(pair.machine.view.size()).for_each(|access| pair.read(access));
            pair.flip_hardware();
            accesses(pair.machine.view.size()).for_each(|access| pair.read(access));
        }
    });
    assert!(count > 100, "only {count} pairs of device and policy");
}

/// Each access writes all the values, one after the other. What it should not have touched is compared before something
/// else is written there, or at the end.
fn every_write_of_a_width_agrees(snapshot: &Snapshot, policy: &Policy, width: Width, mode: InterruptMode) {
    let mut pair = Pair::new(snapshot, policy, 128).unwrap();
    pair.set_interrupt_mode(mode);
    for access in accesses(pair.machine.view.size()).filter(|access| access.width() == width) {
        let dword = crate::machine::access(access.offset(), Width::Dword);
        pair.read(dword);
        let single_bits = (0..8 * width.bytes()).map(|n| 1 << n);
        for value in PATTERNS.into_iter().chain(single_bits) {
            let value = if width == Width::Dword { value } else { value >> (8 * (access.offset() & 2)) };
            pair.write(access, value);
            pair.read(access);
        }
        pair.read(dword);
    }
    pair.agree();
    pair.reset();
    pair.agree();
}

#[test]
fn every_write_of_a_byte_agrees_with_the_model() {
    for_all(|snapshot, policy| every_write_of_a_width_agrees(snapshot, policy, Width::Byte, InterruptMode::None));
}

#[test]
fn every_write_of_a_word_agrees_with_the_model() {
    for_all(|snapshot, policy| every_write_of_a_width_agrees(snapshot, policy, Width::Word, InterruptMode::Msi));
}

#[test]
fn every_write_of_a_dword_agrees_with_the_model() {
    for_all(|snapshot, policy| every_write_of_a_width_agrees(snapshot, policy, Width::Dword, InterruptMode::Msix));
}

#[test]
fn the_first_write_of_a_guest_agrees_with_the_model_though_it_has_read_nothing() {
    for_all(|snapshot, policy| {
        for width in Width::ALL {
            for value in [0xffff_ffff, 0x0000_0000] {
                let mut pair = Pair::new(snapshot, policy, 16).unwrap();
                pair.flip_hardware();
                for access in accesses(pair.machine.view.size()).filter(|access| access.width() == width) {
                    pair.write(access, value);
                }
                pair.agree();
            }
        }
    });
}
