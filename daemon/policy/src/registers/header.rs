use crate::access::Width;
use crate::register::{ALL, Class, Register, Value, check};

const READ_ONLY: &[(u32, Class)] = &[(ALL, Class::HardwareReadOnly)];

const IDENTITY: &str = "the device's own; nothing to write";
const RESERVED: &str = "reserved: left as the device has it";
const BAR: &str = "addresses stay where the host put them, since the hypervisor's permissions and other devices \
                   stand on them; only the size can be asked for, with a dword of ones";

/// The header of type 0: 64 bytes (PCI 6.1).
pub const HEADER: &[Register] = &[
    Register {
        name: "vendor_id",
        offset: 0x00,
        width: Width::Word,
        bits: &[(ALL, Class::Fixed(Value::Vendor))],
        why: "as the host's kernel knows it: a virtual function's own register reads ffff",
        spec: "PCI 6.2.1; SR-IOV 3.4.1.1",
    },
    Register {
        name: "device_id",
        offset: 0x02,
        width: Width::Word,
        bits: &[(ALL, Class::Fixed(Value::Device))],
        why: "as the host's kernel knows it: a virtual function's own register reads ffff",
        spec: "PCI 6.2.1; SR-IOV 3.4.1.2",
    },
    Register {
        name: "command",
        offset: 0x04,
        width: Width::Word,
        bits: &[
            // I/O Space, Memory Space
            (0x0003, Class::Shadow(0)),
            (0x0004, Class::BusMaster),
            // Special Cycles
            (0x0008, Class::HardwareReadOnly),
            // Memory Write and Invalidate
            (0x0010, Class::HardwareReadWrite),
            // VGA Palette Snoop
            (0x0020, Class::HardwareReadOnly),
            // Parity Error Response
            (0x0040, Class::Shadow(0)),
            // IDSEL Stepping
            (0x0080, Class::HardwareReadOnly),
            // SERR# Enable
            (0x0100, Class::Shadow(0)),
            // Fast Back-to-Back Enable
            (0x0200, Class::HardwareReadOnly),
            // Interrupt Disable
            (0x0400, Class::Shadow(0)),
            (0xf800, Class::Fixed(Value::Constant(0))),
        ],
        why: "a device that stops decoding while its guest has the memory mapped answers with errors that can stop \
              the host (XSA-120), so decode stays on and the guest's bits are only remembered; error reporting and \
              interrupt routing are the host's; DMA and write-invalidate are the guest's own",
        spec: "PCI 6.2.2",
    },
    Register {
        name: "status",
        offset: 0x06,
        width: Width::Word,
        bits: &[
            // Capabilities List: agrees with the list, which is as it was at the claim.
            (0x0010, Class::Fixed(Value::Claimed)),
            (0xffef, Class::HardwareReadOnly),
        ],
        why: "error bits are the host's to clear, which looks for them",
        spec: "PCI 6.2.3",
    },
    Register {
        name: "revision_id",
        offset: 0x08,
        width: Width::Byte,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.1",
    },
    Register {
        name: "programming_interface",
        offset: 0x09,
        width: Width::Byte,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.1",
    },
    Register { name: "class", offset: 0x0a, width: Width::Word, bits: READ_ONLY, why: IDENTITY, spec: "PCI 6.2.1" },
    Register {
        name: "cache_line_size",
        offset: 0x0c,
        width: Width::Byte,
        bits: &[(ALL, Class::HardwareReadWrite)],
        why: "belongs to memory write and invalidate, which the guest may switch",
        spec: "PCI 6.2.4",
    },
    Register {
        name: "latency_timer",
        offset: 0x0d,
        width: Width::Byte,
        bits: READ_ONLY,
        why: "how long a device may hold the bus concerns its neighbours, which may be others'",
        spec: "PCI 6.2.4",
    },
    Register {
        name: "header_type",
        offset: 0x0e,
        width: Width::Byte,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.1",
    },
    Register {
        name: "bist",
        offset: 0x0f,
        width: Width::Byte,
        bits: READ_ONLY,
        why: "a self test may take the device off the bus for two seconds while its memory is mapped, and no driver \
              needs one",
        spec: "PCI 6.2.4",
    },
    bar("bar0", 0x10, &[(ALL, Class::BaseAddress(0))]),
    bar("bar1", 0x14, &[(ALL, Class::BaseAddress(1))]),
    bar("bar2", 0x18, &[(ALL, Class::BaseAddress(2))]),
    bar("bar3", 0x1c, &[(ALL, Class::BaseAddress(3))]),
    bar("bar4", 0x20, &[(ALL, Class::BaseAddress(4))]),
    bar("bar5", 0x24, &[(ALL, Class::BaseAddress(5))]),
    Register {
        name: "cardbus_cis",
        offset: 0x28,
        width: Width::Dword,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.5",
    },
    Register {
        name: "subsystem_vendor_id",
        offset: 0x2c,
        width: Width::Word,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.4",
    },
    Register {
        name: "subsystem_id",
        offset: 0x2e,
        width: Width::Word,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.4",
    },
    Register {
        name: "expansion_rom",
        offset: 0x30,
        width: Width::Dword,
        bits: &[(ALL, Class::BaseAddress(6))],
        why: "as the BARs; the enable bit is only remembered",
        spec: "PCI 6.2.5.2",
    },
    Register {
        name: "capabilities_pointer",
        offset: 0x34,
        width: Width::Byte,
        bits: &[(ALL, Class::Fixed(Value::Claimed))],
        why: "the list is as it was at the claim, so that a device cannot change it behind its filter",
        spec: "PCI 6.7",
    },
    Register { name: "reserved", offset: 0x35, width: Width::Byte, bits: READ_ONLY, why: RESERVED, spec: "PCI 6.1" },
    Register { name: "reserved", offset: 0x36, width: Width::Word, bits: READ_ONLY, why: RESERVED, spec: "PCI 6.1" },
    Register { name: "reserved", offset: 0x38, width: Width::Dword, bits: READ_ONLY, why: RESERVED, spec: "PCI 6.1" },
    Register {
        name: "interrupt_line",
        offset: 0x3c,
        width: Width::Byte,
        bits: &[(ALL, Class::Fixed(Value::InterruptLine))],
        why: "the pirq that the guest binds for INTx",
        spec: "PCI 6.2.4",
    },
    Register {
        name: "interrupt_pin",
        offset: 0x3d,
        width: Width::Byte,
        bits: &[(ALL, Class::Fixed(Value::InterruptPin))],
        why: "no pin where there is no pirq, so that the guest does not wait for interrupts that cannot come",
        spec: "PCI 6.2.4",
    },
    Register {
        name: "minimum_grant",
        offset: 0x3e,
        width: Width::Byte,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.4",
    },
    Register {
        name: "maximum_latency",
        offset: 0x3f,
        width: Width::Byte,
        bits: READ_ONLY,
        why: IDENTITY,
        spec: "PCI 6.2.4",
    },
];

const fn bar(name: &'static str, offset: u16, bits: &'static [(u32, Class)]) -> Register {
    Register { name, offset, width: Width::Dword, bits, why: BAR, spec: "PCI 6.2.5.1" }
}

const _: () = check(HEADER, 64);
