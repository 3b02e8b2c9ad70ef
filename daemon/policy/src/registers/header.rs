use crate::access::Width;
use crate::register::{ALL, Field, Register, Shown, check};

const DECODE: &str = "a device that stops decoding while its guest has the memory mapped answers with errors that can \
                      stop the host (XSA-120)";
const LINE: &str = "the interrupt line may be shared with other devices, whose interrupts would not arrive (XSA-120)";
const ADDRESS: &str = "addresses stay where the host put them, since the hypervisor's permissions and other devices \
                       stand on them; only the size can be asked for, with a dword of ones";
const SELF_TEST: &str = "a self test takes the device off the bus while its memory is mapped (XSA-120)";
const IDENTITY: &str = "as the host's kernel knows it: a virtual function's own register reads ffff";
const PIRQ: &str = "the pirq that the guest binds for INTx";
const PIN: &str = "no pin where there is no pirq, so that the guest does not wait for interrupts that cannot come";
pub(super) const CHAIN: &str =
    "the list is as it was at the claim, so that a device cannot change it behind its filter (XSA-337)";

const READ_ONLY: &[Field] = &[Field::read_only(ALL, "")];

/// The header of type 0: 64 bytes (PCI 6.1).
pub const HEADER: &[Register] = &[
    Register::new(
        "vendor_id",
        0x00,
        Width::Word,
        &[Field::guarded(ALL, "", Shown::Vendor, IDENTITY)],
        "PCI 6.2.1; SR-IOV 3.4.1.1",
    ),
    Register::new(
        "device_id",
        0x02,
        Width::Word,
        &[Field::guarded(ALL, "", Shown::Device, IDENTITY)],
        "PCI 6.2.1; SR-IOV 3.4.1.2",
    ),
    Register::new(
        "command",
        0x04,
        Width::Word,
        &[
            Field::guarded(0x0003, "I/O Space, Memory Space", Shown::Kept(0), DECODE),
            Field::read_write(0x0004, "Bus Master"),
            Field::read_write(0x0008, "Special Cycles"),
            Field::read_write(0x0010, "Memory Write and Invalidate"),
            Field::read_write(0x0020, "VGA Palette Snoop"),
            Field::read_write(0x0040, "Parity Error Response"),
            Field::read_write(0x0080, "IDSEL Stepping"),
            Field::read_write(0x0100, "SERR# Enable"),
            Field::read_write(0x0200, "Fast Back-to-Back Enable"),
            Field::guarded(0x0400, "Interrupt Disable", Shown::Kept(0), LINE),
            Field::read_only(0xf800, "reserved"),
        ],
        "PCI 6.2.2",
    ),
    Register::new(
        "status",
        0x06,
        Width::Word,
        &[
            Field::read_only(0x06ef, "capabilities of the bus interface"),
            Field::guarded(0x0010, "Capabilities List", Shown::Listed, CHAIN),
            Field::write_one_to_clear(0xf900, "errors"),
        ],
        "PCI 6.2.3",
    ),
    Register::new("revision_id", 0x08, Width::Byte, READ_ONLY, "PCI 6.2.1"),
    Register::new("programming_interface", 0x09, Width::Byte, READ_ONLY, "PCI 6.2.1"),
    Register::new("class", 0x0a, Width::Word, READ_ONLY, "PCI 6.2.1"),
    Register::new("cache_line_size", 0x0c, Width::Byte, &[Field::read_write(ALL, "")], "PCI 6.2.4"),
    Register::new("latency_timer", 0x0d, Width::Byte, &[Field::read_write(ALL, "")], "PCI 6.2.4"),
    Register::new("header_type", 0x0e, Width::Byte, READ_ONLY, "PCI 6.2.1"),
    Register::new(
        "bist",
        0x0f,
        Width::Byte,
        &[
            Field::read_only(0xbf, "capable, completion code"),
            Field::guarded(0x40, "Start BIST", Shown::Trigger, SELF_TEST),
        ],
        "PCI 6.2.4",
    ),
    bar("bar0", 0x10, &[Field::guarded(ALL, "", Shown::BaseAddress(0), ADDRESS)]),
    bar("bar1", 0x14, &[Field::guarded(ALL, "", Shown::BaseAddress(1), ADDRESS)]),
    bar("bar2", 0x18, &[Field::guarded(ALL, "", Shown::BaseAddress(2), ADDRESS)]),
    bar("bar3", 0x1c, &[Field::guarded(ALL, "", Shown::BaseAddress(3), ADDRESS)]),
    bar("bar4", 0x20, &[Field::guarded(ALL, "", Shown::BaseAddress(4), ADDRESS)]),
    bar("bar5", 0x24, &[Field::guarded(ALL, "", Shown::BaseAddress(5), ADDRESS)]),
    Register::new("cardbus_cis", 0x28, Width::Dword, READ_ONLY, "PCI 6.2.5"),
    Register::new("subsystem_vendor_id", 0x2c, Width::Word, READ_ONLY, "PCI 6.2.4"),
    Register::new("subsystem_id", 0x2e, Width::Word, READ_ONLY, "PCI 6.2.4"),
    Register::new(
        "expansion_rom",
        0x30,
        Width::Dword,
        &[Field::guarded(ALL, "", Shown::BaseAddress(6), ADDRESS)],
        "PCI 6.2.5.2",
    ),
    Register::new(
        "capabilities_pointer",
        0x34,
        Width::Byte,
        &[Field::guarded(ALL, "", Shown::Listed, CHAIN)],
        "PCI 6.7",
    ),
    Register::new("reserved_35", 0x35, Width::Byte, READ_ONLY, "PCI 6.1"),
    Register::new("reserved_36", 0x36, Width::Word, READ_ONLY, "PCI 6.1"),
    Register::new("reserved_38", 0x38, Width::Dword, READ_ONLY, "PCI 6.1"),
    Register::new(
        "interrupt_line",
        0x3c,
        Width::Byte,
        &[Field::guarded(ALL, "", Shown::InterruptLine, PIRQ)],
        "PCI 6.2.4",
    ),
    Register::new(
        "interrupt_pin",
        0x3d,
        Width::Byte,
        &[Field::guarded(ALL, "", Shown::InterruptPin, PIN)],
        "PCI 6.2.4",
    ),
    Register::new("minimum_grant", 0x3e, Width::Byte, READ_ONLY, "PCI 6.2.4"),
    Register::new("maximum_latency", 0x3f, Width::Byte, READ_ONLY, "PCI 6.2.4"),
];

const fn bar(name: &'static str, offset: u16, fields: &'static [Field]) -> Register {
    Register::new(name, offset, Width::Dword, fields, "PCI 6.2.5.1")
}

const _: () = check(HEADER, 64);
