use super::capabilities::CHAIN;
use crate::access::Width;
use crate::register::{ALL, Field, InterruptMode, Register, Shown, check};

const REQUEST: &str = "a guest asks for interrupts with a request, not here; drivers write the enable bit all the \
                       same, before and after, and the state shown is already the right one";
const ROUTING: &str = "the hypervisor programs it: it names the host's processors and vectors, and a guest that wrote \
                       it could interrupt any of them";
const ONE_VECTOR: &str = "one vector is what a request can ask for";
const MASKING: &str = "masking is the hypervisor's, through the event channel";
const TABLE: &str = "where the table is decides which memory the hypervisor protects: as at the claim, for good \
                     (XSA-337)";
const TABLE_SIZE: &str = "no more entries than one request can ask for, and than the domain's budget of vectors has";

const MSI_CONTROL: Register = Register::new(
    "msi.control",
    2,
    Width::Word,
    &[
        Field::guarded(0x0001, "MSI Enable", Shown::Enabled(InterruptMode::Msi), REQUEST),
        Field::guarded(0x007e, "Multiple Message Capable, Multiple Message Enable", Shown::Zero, ONE_VECTOR),
        Field::guarded(0x0080, "64 bit address capable", Shown::Claimed, ROUTING),
        Field::guarded(0x0100, "Per-vector masking capable", Shown::Zero, MASKING),
        Field::guarded(0xfe00, "Extended message data, reserved", Shown::Zero, ONE_VECTOR),
    ],
    "PCI 6.8.1.3",
);

/// A register that holds the host's own interrupt routing, or the hypervisor's masks.
const fn routing(name: &'static str, offset: u16, width: Width) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Zero, ROUTING)];
    Register::new(name, offset, width, FIELDS, "PCI 6.8.1")
}

/// MSI with a 32-bit address: 12 bytes, the last two reserved.
pub const MSI_32: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    routing("msi.address", 4, Width::Dword),
    routing("msi.data", 8, Width::Word),
    routing("msi.extended_data", 10, Width::Word),
];

/// MSI with a 64-bit address: 16 bytes, the last two reserved.
pub const MSI_64: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    routing("msi.address", 4, Width::Dword),
    routing("msi.upper_address", 8, Width::Dword),
    routing("msi.data", 12, Width::Word),
    routing("msi.extended_data", 14, Width::Word),
];

/// MSI with a 32-bit address and per-vector masking: 20 bytes.
pub const MSI_32_MASKABLE: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    routing("msi.address", 4, Width::Dword),
    routing("msi.data", 8, Width::Word),
    routing("msi.extended_data", 10, Width::Word),
    routing("msi.mask", 12, Width::Dword),
    routing("msi.pending", 16, Width::Dword),
];

/// MSI with a 64-bit address and per-vector masking: 24 bytes.
pub const MSI_64_MASKABLE: &[Register] = &[
    CHAIN,
    MSI_CONTROL,
    routing("msi.address", 4, Width::Dword),
    routing("msi.upper_address", 8, Width::Dword),
    routing("msi.data", 12, Width::Word),
    routing("msi.extended_data", 14, Width::Word),
    routing("msi.mask", 16, Width::Dword),
    routing("msi.pending", 20, Width::Dword),
];

/// MSI-X: 12 bytes.
pub const MSIX: &[Register] = &[
    CHAIN,
    Register::new(
        "msix.control",
        2,
        Width::Word,
        &[
            Field::guarded(0x07ff, "Table Size", Shown::MsixTableSize, TABLE_SIZE),
            Field::guarded(0x3800, "reserved", Shown::Zero, REQUEST),
            Field::guarded(0x4000, "Function Mask", Shown::Zero, MASKING),
            Field::guarded(0x8000, "MSI-X Enable", Shown::Enabled(InterruptMode::Msix), REQUEST),
        ],
        "PCI 6.8.2.3",
    ),
    Register::new(
        "msix.table",
        4,
        Width::Dword,
        &[Field::guarded(ALL, "Table Offset and BIR", Shown::Claimed, TABLE)],
        "PCI 6.8.2.4",
    ),
    Register::new(
        "msix.pba",
        8,
        Width::Dword,
        &[Field::guarded(ALL, "Pending Bit Array Offset and BIR", Shown::Claimed, TABLE)],
        "PCI 6.8.2.5",
    ),
];

const _: () = {
    check(MSI_32, 12);
    check(MSI_64, 16);
    check(MSI_32_MASKABLE, 20);
    check(MSI_64_MASKABLE, 24);
    check(MSIX, 12);
};
