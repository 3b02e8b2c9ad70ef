//! Devices read from text.

use xenpcid_policy::{Recording, Resource};

use crate::devices;

#[test]
fn bars_of_virtual_functions_are_not_taken_for_the_function_s_own() {
    let igb = devices::named("igb");

    let sizes = igb.resources.map(|resource| resource.size());

    assert_eq!(sizes, [0x2_0000, 0x2_0000, 32, 0x4000, 0, 0, 0]);
}

#[test]
fn a_recording_without_sizes_gets_them_from_the_addresses() {
    let mut config = [0_u8; 256];
    config[0x10..0x14].copy_from_slice(&0xfeb8_0000_u32.to_le_bytes());
    let rows: String = (0..16)
        .map(|line| {
            let bytes: Vec<String> = config[line * 16..][..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{:02x}: {}\n", line * 16, bytes.join(" "))
        })
        .collect();

    let recording =
        Recording::lspci_without_sizes(&format!("00:01.0 Ethernet controller [0200]: X [8086:10d3]\n{rows}"));

    let expected = Resource { start: 0xfeb8_0000, end: 0xfebf_ffff, flags: Resource::MEMORY };
    assert_eq!(recording.unwrap().resources[0], expected);
}
