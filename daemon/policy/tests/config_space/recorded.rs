//! The recorded device: its configuration space and resources, as dom0 showed them before the claim.

use xenpcid_policy::{Resource, Snapshot};

/// The INTx pirq that the trace's guest was shown.
pub const E1000E_INTERRUPT_LINE: u8 = 0x15;

/// QEMU's Intel 82574L.
pub fn e1000e() -> Snapshot {
    let recording = include_str!("fixtures/e1000e-82574.config.txt");
    let (resource_lines, byte_lines): (Vec<_>, Vec<_>) = recording.lines().partition(|line| line.starts_with("0x"));
    let config: Vec<u8> = byte_lines
        .iter()
        .flat_map(|line| line.split_ascii_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let resources: Vec<Resource> = resource_lines.iter().take(7).map(|line| line.parse().unwrap()).collect();
    let word = |offset| u16::from_le_bytes([config[offset], config[offset + 1]]);
    Snapshot {
        vendor: word(0),
        device: word(2),
        config,
        resources: resources.try_into().unwrap(),
        interrupt_line: E1000E_INTERRUPT_LINE,
        is_virtual_function: false,
    }
}
