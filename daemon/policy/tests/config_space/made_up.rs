//! A device put together by hand.

use xenpcid_policy::{Resource, Snapshot};

/// A conventional device that has what the e1000e lacks: D1 and D2, VPD, MSI with masks, an MSI-X table of full length,
/// 64-bit BARs, no INTx, and registers that do not say who it is, like a virtual function's. The capabilities' contents
/// follow the examples of the specifications.
pub fn made_up() -> Snapshot {
    let mut config = vec![0; 256];
    let mut put = |offset: usize, bytes: &[u8]| config[offset..offset + bytes.len()].copy_from_slice(bytes);
    // Header: identity ffff, master enabled, capability list and a received abort, class 0200, multi-function, pin A.
    put(0x00, &[0xff, 0xff, 0xff, 0xff, 0x07, 0x05, 0x10, 0x20, 0x01, 0x00, 0x00, 0x02, 0x10, 0x40, 0x80, 0x80]);
    put(0x28, &[0x00, 0x00, 0x00, 0x00, 0x34, 0x12, 0x78, 0x56]);
    put(0x34, &[0x40]);
    put(0x3c, &[0x0b, 0x01, 0x05, 0x06]);
    // Power management: version 3, D1, D2 and every PME; PME pending and enabled, Data Select 3.
    put(0x40, &[0x01, 0x48, 0x03, 0xfe, 0x00, 0x87, 0x00, 0x2a]);
    // VPD: a read that has completed.
    put(0x48, &[0x03, 0x50, 0x10, 0x80, 0x82, 0x04, 0x00, 0x4e]);
    // MSI: 32-bit, maskable, 4 vectors; live address, data, mask and pending.
    put(0x50, &[0x05, 0x64, 0x04, 0x01, 0x00, 0x10, 0xe0, 0xfe, 0x41, 0x00, 0x00, 0x00, 0x0e, 0, 0, 0, 0x02, 0, 0, 0]);
    // Vendor-specific.
    put(0x64, &[0x09, 0x70, 0x08, 0xaa, 0x55, 0x55, 0x55, 0x55]);
    // MSI-X: 2048 entries at 0 of BAR 3, pending bits at 0x8000, enabled and masked.
    put(0x70, &[0x11, 0x00, 0xff, 0xc7, 0x03, 0x00, 0x00, 0x00, 0x03, 0x80, 0x00, 0x00]);
    let bar = |start, size, flags| Resource { start, end: start + size - 1, flags };
    Snapshot {
        config,
        resources: [
            bar(0x38_0000_0000, 0x2_0000_0000, 0x14_220c),
            Resource::default(),
            bar(0xe000, 0x20, 0x4_0101),
            bar(0xf000_0000, 0x1_0000, 0x4_0200),
            bar(0x3a_0000_0000, 0x1000, 0x14_0204),
            Resource::default(),
            bar(0xf100_0000, 0x1_0000, 0x4_6200),
        ],
        vendor: 0x1234,
        device: 0x5678,
        interrupt_line: 0,
        is_virtual_function: false,
    }
}
