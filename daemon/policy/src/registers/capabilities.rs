use crate::access::Width;
use crate::register::{ALL, Class, Register, Value, check};

/// First two bytes of every conventional capability.
pub(super) const CHAIN: Register = Register {
    name: "capability_header",
    offset: 0,
    width: Width::Word,
    bits: &[(ALL, Class::Fixed(Value::Claimed))],
    why: "the list is as it was at the claim, so that a device cannot change it behind its filter",
    spec: "PCI 6.7",
};

/// A conventional capability of which nothing else is known here: its identifier and the pointer to the next.
pub const CAPABILITY_HEADER: &[Register] = &[CHAIN];

/// An extended capability of which nothing else is known here: identifier, version and the pointer to the next.
pub const EXTENDED_CAPABILITY_HEADER: &[Register] = &[Register {
    name: "extended_capability_header",
    offset: 0,
    width: Width::Dword,
    bits: &[(ALL, Class::Fixed(Value::Claimed))],
    why: "the list is as it was at the claim, so that a device cannot change it behind its filter",
    spec: "PCIe 7.6.3",
}];

/// PCI Power Management: 8 bytes.
pub const POWER_MANAGEMENT: &[Register] = &[
    CHAIN,
    Register {
        name: "pm.capabilities",
        offset: 2,
        width: Width::Word,
        bits: &[
            (0x07ff, Class::HardwareReadOnly),
            // PME Support
            (0xf800, Class::Fixed(Value::Constant(0))),
        ],
        why: "a PME would go to the host, which has no driver for the device: the guest is told that there is none",
        spec: "PM 3.2.3",
    },
    Register {
        name: "pm.control_status",
        offset: 4,
        width: Width::Word,
        bits: &[
            (0x0003, Class::PowerState),
            (0x0004, Class::HardwareReadOnly),
            // No Soft Reset: true of a power state that the hardware never enters.
            (0x0008, Class::Fixed(Value::Constant(0x0008))),
            (0x00f0, Class::HardwareReadOnly),
            // PME Enable
            (0x0100, Class::Fixed(Value::Constant(0))),
            // Data Select
            (0x1e00, Class::HardwareReadWrite),
            // Data Scale
            (0x6000, Class::HardwareReadOnly),
            // PME Status
            (0x8000, Class::HardwareWriteOneToClear),
        ],
        why: "a device in D3 does not answer for memory that its guest has mapped, and comes back without its BARs: \
              the guest sees the state it asked for, the hardware stays in D0",
        spec: "PM 3.2.4",
    },
    Register {
        name: "pm.bridge_extensions",
        offset: 6,
        width: Width::Byte,
        bits: &[(ALL, Class::HardwareReadOnly)],
        why: "nothing to write",
        spec: "PM 3.2.5",
    },
    Register {
        name: "pm.data",
        offset: 7,
        width: Width::Byte,
        bits: &[(ALL, Class::HardwareReadOnly)],
        why: "what Data Select chose",
        spec: "PM 3.2.6",
    },
];

/// Vital Product Data: 8 bytes.
pub const VITAL_PRODUCT_DATA: &[Register] = &[
    CHAIN,
    Register {
        name: "vpd.address",
        offset: 2,
        width: Width::Word,
        bits: &[
            (0x7fff, Class::HardwareReadWrite),
            // F: 0 starts a read, 1 a write.
            (0x8000, Class::HardwareZeroOnly),
        ],
        why: "reading is harmless; a write would change the device's EEPROM for every later owner",
        spec: "PCI appendix I",
    },
    Register {
        name: "vpd.data",
        offset: 4,
        width: Width::Dword,
        bits: &[(ALL, Class::HardwareReadOnly)],
        why: "only filled by reads",
        spec: "PCI appendix I",
    },
];

const _: () = {
    check(CAPABILITY_HEADER, 2);
    check(EXTENDED_CAPABILITY_HEADER, 4);
    check(POWER_MANAGEMENT, 8);
    check(VITAL_PRODUCT_DATA, 8);
};
