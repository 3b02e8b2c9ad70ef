//! What a real Linux guest did with the recorded device, and what the kernel's xen-pciback answered, replayed.

use xenpcid_policy::{Access, ConfigSize};

use crate::machine::Machine;
use crate::policies::shipped;
use crate::recorded::e1000e;

/// Where the answer is meant to differ from xen-pciback's: line of the trace, ours, why.
const INTENDED_DIFFERENCES: &[(usize, u32, &str)] = &[
    (18, 0x000, "command starts at 0 for each guest; xen-pciback starts with what dom0 had there"),
    (160, 0x008, "pm.pmcsr: No Soft Reset, since leaving a power state that the hardware never entered resets nothing"),
];

#[test]
fn a_linux_guest_s_enumeration_gets_xen_pciback_s_answers_but_for_the_intended_differences() {
    let mut machine = Machine::new(&e1000e(), &shipped("default")).unwrap();
    let mut differences = Vec::new();

    for (line_number, line) in (1..).zip(include_str!("fixtures/pcifront-6.1-e1000e.trace").lines()) {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [direction @ ("R" | "W"), size, offset, value] = fields[..] else {
            assert!(line.starts_with('#'), "{line}");
            continue;
        };
        let offset = i32::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
        let value = u32::from_str_radix(value, 16).unwrap();
        let access = Access::new(offset, size.parse().unwrap(), ConfigSize::Express).unwrap();
        if direction == "W" {
            assert!(machine.write(access, value).is_ok(), "line {line_number} was refused: {line}");
            continue;
        }
        let answer = machine.read(access).unwrap();
        if answer != value {
            differences.push((line_number, answer));
        }
    }

    let intended: Vec<(usize, u32)> = INTENDED_DIFFERENCES.iter().map(|(line, ours, _)| (*line, *ours)).collect();
    assert_eq!(differences, intended);
}
