//! What a real Linux guest did with the recorded device, and what the kernel's xen-pciback answered, replayed.

mod recording;

use xenpcid_policy::{Access, ConfigSize, ConfigView};

/// Where the answer is meant to differ from xen-pciback's: line of the trace, ours, why.
const INTENDED_DIFFERENCES: &[(usize, u32, &str)] = &[
    (18, 0x000, "command starts at 0 for each guest; xen-pciback starts with what dom0 had there"),
    (
        160,
        0x008,
        "pm.control_status says No Soft Reset, since leaving a power state that the hardware never entered resets nothing",
    ),
];

#[test]
fn a_linux_guest_s_enumeration_gets_xen_pciback_s_answers_but_for_the_intended_differences() {
    let snapshot = recording::e1000e();
    let mut view = ConfigView::compile(&snapshot).unwrap();
    let mut hardware = snapshot.config.clone();
    let mut differences = Vec::new();

    for (index, line) in include_str!("fixtures/pcifront-6.1-e1000e.trace").lines().enumerate() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [direction @ ("R" | "W"), size, offset, value] = fields[..] else {
            assert!(line.starts_with('#'));
            continue;
        };
        let offset = i32::from_str_radix(offset.trim_start_matches("0x"), 16).unwrap();
        let value = u32::from_str_radix(value, 16).unwrap();
        let access = Access::new(offset, size.parse().unwrap(), ConfigSize::Express).unwrap();
        let at = usize::from(access.offset());
        let bytes = usize::from(access.width().bytes());
        if direction == "R" {
            let mut raw = [0; 4];
            raw[..bytes].copy_from_slice(&hardware[at..at + bytes]);
            let answer = view.read(access).value(u32::from_le_bytes(raw));
            if answer != value {
                differences.push((index + 1, answer, value));
            }
        } else if let Some(write) = view.write(access, value).unwrap().hardware {
            let at = usize::from(write.access.offset());
            let bytes = usize::from(write.access.width().bytes());
            let mut raw = [0; 4];
            raw[..bytes].copy_from_slice(&hardware[at..at + bytes]);
            let merged = write.merge(u32::from_le_bytes(raw)).to_le_bytes();
            hardware[at..at + bytes].copy_from_slice(&merged[..bytes]);
        }
    }
    let listed: Vec<(usize, u32)> = INTENDED_DIFFERENCES.iter().map(|(line, ours, _)| (*line, *ours)).collect();
    let found: Vec<(usize, u32)> = differences.iter().map(|(line, ours, _)| (*line, *ours)).collect();
    assert_eq!(found, listed);
}
