use super::capabilities::CHAIN;
use crate::access::Width;
use crate::register::{ALL, Class, InterruptMode, Register, Value, check};

const ZERO: &[(u32, Class)] = &[(ALL, Class::Fixed(Value::Constant(0)))];

const MSI_CONTROL: Register = Register {
    name: "msi.control",
    offset: 2,
    width: Width::Word,
    bits: &[
        // MSI Enable
        (0x0001, Class::Enabled(InterruptMode::Msi)),
        // Multiple Message Capable, Multiple Message Enable: one vector is what a request can ask for.
        (0x007e, Class::Fixed(Value::Constant(0))),
        // 64 bit address capable
        (0x0080, Class::Fixed(Value::Claimed)),
        // Per-vector masking capable: masking is the hypervisor's, through the event channel.
        (0x0100, Class::Fixed(Value::Constant(0))),
        // Extended message data, reserved bits
        (0xfe00, Class::Fixed(Value::Constant(0))),
    ],
    why: "a guest asks for MSI with a request, not here; drivers write the enable bit all the same, before and after, \
          and do not look at the result: discarded without an error, since the state shown is already the right one",
    spec: "PCI 6.8.1.3",
};

/// A register that holds the host's own interrupt routing, or the hypervisor's masks.
const fn hidden(name: &'static str, offset: u16, width: Width) -> Register {
    const WHY: &str = "the hypervisor programs it; it names the host's processors and vectors";
    Register { name, offset, width, bits: ZERO, why: WHY, spec: "PCI 6.8.1" }
}

/// MSI with a 32-bit address: 12 bytes, the last two reserved.
pub const MSI_32: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    hidden("msi.address", 4, Width::Dword),
    hidden("msi.data", 8, Width::Word),
    hidden("msi.extended_data", 10, Width::Word),
];

/// MSI with a 64-bit address: 16 bytes, the last two reserved.
pub const MSI_64: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    hidden("msi.address", 4, Width::Dword),
    hidden("msi.upper_address", 8, Width::Dword),
    hidden("msi.data", 12, Width::Word),
    hidden("msi.extended_data", 14, Width::Word),
];

/// MSI with a 32-bit address and per-vector masking: 20 bytes.
pub const MSI_32_MASKABLE: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    hidden("msi.address", 4, Width::Dword),
    hidden("msi.data", 8, Width::Word),
    hidden("msi.extended_data", 10, Width::Word),
    hidden("msi.mask", 12, Width::Dword),
    hidden("msi.pending", 16, Width::Dword),
];

/// MSI with a 64-bit address and per-vector masking: 24 bytes.
pub const MSI_64_MASKABLE: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    hidden("msi.address", 4, Width::Dword),
    hidden("msi.upper_address", 8, Width::Dword),
    hidden("msi.data", 12, Width::Word),
    hidden("msi.extended_data", 14, Width::Word),
    hidden("msi.mask", 16, Width::Dword),
    hidden("msi.pending", 20, Width::Dword),
];

/// MSI-X: 12 bytes.
pub const MSIX: &[Register] = &[
    CHAIN,
    Register {
        name: "msix.control",
        offset: 2,
        width: Width::Word,
        bits: &[
            // Table Size
            (0x07ff, Class::Fixed(Value::MsixTableSize)),
            // Reserved bits, Function Mask
            (0x7800, Class::Fixed(Value::Constant(0))),
            // MSI-X Enable
            (0x8000, Class::Enabled(InterruptMode::Msix)),
        ],
        why: "a guest asks for MSI-X with a request, not here; writes of drivers are discarded as in msi.control; no \
              more entries are shown than one request can ask for",
        spec: "PCI 6.8.2.3",
    },
    Register {
        name: "msix.table",
        offset: 4,
        width: Width::Dword,
        bits: &[(ALL, Class::Fixed(Value::Claimed))],
        why: "where the table is decides which memory the hypervisor protects: as at the claim, for good (XSA-337)",
        spec: "PCI 6.8.2.4",
    },
    Register {
        name: "msix.pending",
        offset: 8,
        width: Width::Dword,
        bits: &[(ALL, Class::Fixed(Value::Claimed))],
        why: "as msix.table",
        spec: "PCI 6.8.2.5",
    },
];

const _: () = {
    check(MSI_32, 12);
    check(MSI_64, 16);
    check(MSI_32_MASKABLE, 20);
    check(MSI_64_MASKABLE, 24);
    check(MSIX, 12);
};
