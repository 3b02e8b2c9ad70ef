//! Devices from text.

use xenpcid_policy::{Access, RecordingError, Resource};
use xenpcid_simhost::{SimDevice, World};

use super::NIC;

const RECORDING: &str = include_str!("../../fixtures/e1000e-82574.config.txt");

/// What `lspci -vv -xxxx -s 01:00.0` prints for the recorded device.
fn lspci() -> String {
    let mut text = "\
01:00.0 Ethernet controller: Intel Corporation 82574L Gigabit Network Connection
\tSubsystem: Intel Corporation 82574L Gigabit Network Connection
\tControl: I/O+ Mem+ BusMaster- SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR+ FastB2B- DisINTx-
\tInterrupt: pin A routed to IRQ 10
\tRegion 0: Memory at feb80000 (32-bit, non-prefetchable) [size=128K]
\tRegion 1: Memory at feba0000 (32-bit, non-prefetchable) [size=128K]
\tRegion 2: I/O ports at c060 [size=32]
\tRegion 3: Memory at febd4000 (32-bit, non-prefetchable) [size=16K]
\tExpansion ROM at feb00000 [disabled] [size=256K]
\tCapabilities: [c8] Power Management version 2
\t\tStatus: D0 NoSoftRst- PME-Enable- DSel=0 DScale=0 PME-
"
    .to_owned();
    for (row, line) in RECORDING.lines().take_while(|line| !line.starts_with("0x")).enumerate() {
        text.push_str(&format!("{:02x}: {line}\n", row * 16));
    }
    text
}

/// Addresses and sizes of the present resources, and the configuration bytes.
fn seen(device: SimDevice) -> (Vec<(u64, u64, bool)>, Vec<u8>) {
    let world = World::new();
    world.add_device(device.without_driver());
    let description = world.host().pci.describe(NIC).unwrap();
    let present = description.resources.iter().filter(|resource| resource.is_present());
    let ranges = present.map(|resource| (resource.start, resource.size(), resource.is_io())).collect();
    (ranges, world.hardware(NIC))
}

#[test]
fn lspci_and_recording_of_a_device_give_the_same() {
    let recorded = seen(SimDevice::from_recording(NIC, RECORDING).unwrap());
    let printed = seen(SimDevice::from_lspci(&lspci()).unwrap());

    assert_eq!(recorded.0.len(), 5);
    assert_eq!(printed, recorded);
}

#[test]
fn regions_of_64_bits_and_prefetchable_ones_are_told_apart() {
    let mut text = lspci().replace(
        "Region 3: Memory at febd4000 (32-bit, non-prefetchable) [size=16K]",
        "Region 3: Memory at 383febd4000 (64-bit, prefetchable) [size=16K]",
    );
    // The registers of BAR 3 and 4 say the same.
    text = text.replace("00 40 bd fe", "0c 40 bd fe");
    text =
        text.replace("20: 00 00 00 00 00 00 00 00 00 00 00 00 86 80", "20: 83 03 00 00 00 00 00 00 00 00 00 00 86 80");
    let world = World::new();

    world.add_device(SimDevice::from_lspci(&text).unwrap());

    let bars = world.host().pci.describe(NIC).unwrap().resources;
    let flags = Resource::MEMORY | Resource::MEMORY_64 | Resource::PREFETCHABLE | 0xc;
    assert_eq!(bars[3], Resource { start: 0x383_febd_4000, end: 0x383_febd_7fff, flags });
    assert!(!bars[0].is_64_bit() && !bars[0].is_prefetchable());
}

#[test]
fn text_that_is_no_device_is_refused_with_the_reason() {
    let without =
        |line: &str| lspci().lines().filter(|text| !text.contains(line)).fold(String::new(), |a, b| a + b + "\n");
    let bridge = lspci().replace("00 00 00 02 00 00 00 00", "00 00 00 02 00 00 01 00");
    let cases = [
        ("".to_owned(), "does not start with a PCI address"),
        (without("Region 0"), "BAR 0 has an address but no size"),
        (without("Expansion ROM"), "BAR 6 has an address but no size"),
        (without("ff0: "), "has 4080 configuration bytes"),
        (without("80: "), "rows are missing before this one"),
        (lspci().replace("[size=32]", "[size=33]"), "the size is not a power of two"),
        (lspci().replace("Region 2: ", ""), "regions have no number here"),
        (bridge, "header type 0x01: only type 0, an endpoint"),
    ];
    for (text, reason) in cases {
        let error = SimDevice::from_lspci(&text).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error} instead of {reason}");
    }
    assert!(matches!(SimDevice::from_recording(NIC, "zz"), Err(RecordingError::Line { line: 1, .. })));
}

#[test]
fn reset_methods_are_those_that_the_capabilities_promise() {
    let methods = |device: SimDevice| {
        let world = World::new();
        let function = NIC;
        world.add_device(device);
        world.host().pci.reset_methods(function).unwrap()
    };

    assert_eq!(methods(SimDevice::e1000e(NIC)), ["pm"]);
    assert_eq!(methods(SimDevice::nvme(NIC)), ["flr", "pm"]);
    assert!(methods(SimDevice::e1000(NIC)).is_empty());
    assert_eq!(methods(SimDevice::nvme(NIC).with_reset_methods(&["bus"])), ["bus"]);
}

#[test]
fn changed_bytes_are_what_the_device_shows() {
    let world = World::new();
    world.add_device(SimDevice::nvme(NIC).with_config(0x08, &[0x42]));

    let config = world.host().pci.open_config(NIC).unwrap();

    assert_eq!(config.read(Access::byte(0x08)).unwrap(), 0x42);
}
