use super::header::CHAIN as CHAIN_WHY;
use crate::access::Width;
use crate::register::{ALL, Field, Register, Shown, check, followed_by};

const RESET: &str = "a reset takes the device's addresses and interrupts from it while its guest has them: the daemon \
                     does it, and puts them back";
const POWER: &str = "a device in D3 does not answer for memory that its guest has mapped, and comes back without its \
                     BARs: the guest sees the state it asked for, the hardware stays in D0";
const WINDOW: &str = "it is a window into the BARs, and what it is aimed at can be the MSI-X table, which the hypervisor \
                      keeps from the guest";
const INDEX: &str = "it reaches registers by their number, past what says which of them a guest has";
const ALLOCATION: &str = "addresses stay where the host put them, as those of BARs do: the hypervisor's permissions and \
                          other devices stand on them";
/// Function Level Reset Capability, of af.cap and of pcie.devcap.
const AF_RESET: Shown = Shown::FunctionReset { distance: 1, capable: 0x02 };
const EXPRESS_RESET: Shown = Shown::FunctionReset { distance: 4, capable: 0x1000_0000 };
const READ_ONLY: &[Field] = &[Field::read_only(ALL, "")];

/// First two bytes of every conventional capability.
pub(super) const CHAIN: Register = Register::new(
    "capability_header",
    0,
    Width::Word,
    &[Field::guarded(ALL, "Capability ID, Next Capability Pointer", Shown::Listed, CHAIN_WHY)],
    "PCI 6.7",
);

/// A conventional capability of which nothing else is known here.
pub const CAPABILITY_HEADER: &[Register] = &[CHAIN];

/// PCI Power Management: 8 bytes.
pub const POWER_MANAGEMENT: &[Register] = &[
    CHAIN,
    Register::new(
        "pm.pmc",
        2,
        Width::Word,
        &[Field::read_only(0x07ff, "version, D1, D2, auxiliary current"), Field::read_only(0xf800, "PME Support")],
        "PM 3.2.3",
    ),
    Register::new(
        "pm.pmcsr",
        4,
        Width::Word,
        &[
            Field::guarded(0x0003, "Power State", Shown::PowerState, POWER),
            Field::read_only(0x0004, "reserved"),
            Field::read_only(0x0008, "No Soft Reset"),
            Field::read_only(0x00f0, "reserved"),
            Field::read_write(0x0100, "PME Enable"),
            Field::read_write(0x1e00, "Data Select"),
            Field::read_only(0x6000, "Data Scale"),
            Field::write_one_to_clear(0x8000, "PME Status"),
        ],
        "PM 3.2.4",
    ),
    Register::new("pm.pmcsr_bse", 6, Width::Byte, READ_ONLY, "PM 3.2.5"),
    Register::new("pm.data", 7, Width::Byte, READ_ONLY, "PM 3.2.6"),
];

/// Vital Product Data: 8 bytes.
pub const VITAL_PRODUCT_DATA: &[Register] = &[
    CHAIN,
    Register::new(
        "vpd.address",
        2,
        Width::Word,
        &[
            Field::read_write(0x7fff, "VPD Address"),
            // 0 starts a read, 1 a write.
            Field::command(0x8000, "F"),
        ],
        "PCI appendix I",
    ),
    Register::new("vpd.data", 4, Width::Dword, &[Field::read_write(ALL, "")], "PCI appendix I"),
];

/// Advanced Features: 6 bytes.
pub const ADVANCED_FEATURES: &[Register] = &[
    CHAIN,
    Register::new("af.length", 2, Width::Byte, READ_ONLY, "AF ECN"),
    Register::new("af.cap", 3, Width::Byte, READ_ONLY, "AF ECN"),
    Register::new(
        "af.ctl",
        4,
        Width::Byte,
        &[Field::guarded(0x01, "Initiate FLR", AF_RESET, RESET), Field::read_only(0xfe, "reserved")],
        "AF ECN",
    ),
    Register::new("af.sta", 5, Width::Byte, READ_ONLY, "AF ECN"),
];

/// Vendor-specific: what is known is its length.
pub const VENDOR_SPECIFIC: &[Register] =
    &[CHAIN, Register::new("vendor.length", 2, Width::Byte, READ_ONLY, "PCI 6.8.4 / appendix H")];

/// The vendor-specific capability by which a virtio device reaches its own BARs (`VIRTIO_PCI_CAP_PCI_CFG`): 20 bytes.
pub const VIRTIO_WINDOW: &[Register] = &[
    CHAIN,
    Register::new("vendor.length", 2, Width::Byte, READ_ONLY, "PCI 6.8.4 / appendix H"),
    Register::new("vendor.virtio_type", 3, Width::Byte, READ_ONLY, "virtio 4.1.4"),
    window("vendor.virtio_bar", 4, Width::Byte),
    Register::new("vendor.virtio_id", 5, Width::Byte, READ_ONLY, "virtio 4.1.4"),
    Register::new("vendor.virtio_padding", 6, Width::Word, READ_ONLY, "virtio 4.1.4"),
    window("vendor.virtio_offset", 8, Width::Dword),
    window("vendor.virtio_length", 12, Width::Dword),
    window("vendor.virtio_data", 16, Width::Dword),
];

const fn window(name: &'static str, offset: u16, width: Width) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, WINDOW)];
    Register::new(name, offset, width, FIELDS, "virtio 4.1.4.9")
}

/// SATA Data/Index Configuration, whose pair of registers is in a BAR: 8 bytes.
pub const SATA: &[Register] = SATA_PAIR.split_at(3).0;

/// SATA Data/Index Configuration, followed by its pair of registers: 16 bytes.
pub const SATA_PAIR: &[Register] = &[
    CHAIN,
    Register::new("sata.cr0", 2, Width::Word, READ_ONLY, "AHCI 2.4"),
    Register::new("sata.cr1", 4, Width::Dword, READ_ONLY, "AHCI 2.4"),
    indexed("sata.index", 8),
    indexed("sata.data", 12),
];

const fn indexed(name: &'static str, offset: u16) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, INDEX)];
    Register::new(name, offset, Width::Dword, FIELDS, "AHCI 2.4")
}

/// Enhanced Allocation, with as many dwords of entries as a capability has room for: 192 bytes.
pub const ENHANCED_ALLOCATION: &[Register] = &followed_by::<50>(
    &[
        CHAIN,
        Register::new("ea.entry_count", 2, Width::Byte, READ_ONLY, "PCIe 7.8.5.1"),
        Register::new("ea.reserved_3", 3, Width::Byte, READ_ONLY, "PCIe 7.8.5.1"),
    ],
    Register::new(
        "ea.entries",
        4,
        Width::Dword,
        &[Field::guarded(ALL, "", Shown::Hardware, ALLOCATION)],
        "PCIe 7.8.5.3",
    ),
);

/// PCI Express, as far as every version has it: 20 bytes.
pub const EXPRESS: &[Register] = EXPRESS_2.split_at(8).0;

/// PCI Express version 2: 60 bytes.
pub const EXPRESS_2: &[Register] = &[
    CHAIN,
    Register::new("pcie.cap", 2, Width::Word, READ_ONLY, "PCIe 7.5.3.2"),
    Register::new("pcie.devcap", 4, Width::Dword, READ_ONLY, "PCIe 7.5.3.3"),
    Register::new(
        "pcie.devctl",
        8,
        Width::Word,
        &[
            Field::read_write(0x000f, "error reporting enables"),
            Field::read_write(0x0010, "Enable Relaxed Ordering"),
            Field::read_write(0x00e0, "Max Payload Size"),
            Field::read_write(0x0100, "Extended Tag Enable"),
            Field::read_write(0x0200, "Phantom Functions Enable"),
            Field::read_write(0x0400, "Aux Power PM Enable"),
            Field::read_write(0x0800, "Enable No Snoop"),
            Field::read_write(0x7000, "Max Read Request Size"),
            Field::guarded(0x8000, "Initiate FLR", EXPRESS_RESET, RESET),
        ],
        "PCIe 7.5.3.4",
    ),
    Register::new(
        "pcie.devsta",
        10,
        Width::Word,
        &[
            Field::write_one_to_clear(0x000f, "errors detected"),
            Field::read_only(0xfff0, "power, transactions pending"),
        ],
        "PCIe 7.5.3.5",
    ),
    Register::new("pcie.lnkcap", 12, Width::Dword, READ_ONLY, "PCIe 7.5.3.6"),
    Register::new(
        "pcie.lnkctl",
        16,
        Width::Word,
        &[
            Field::read_write(0x0003, "ASPM Control"),
            Field::read_only(0x0004, "reserved"),
            Field::read_write(0x0008, "Read Completion Boundary"),
            Field::read_only(0x0030, "Link Disable, Retrain Link: of ports"),
            Field::read_write(0x0040, "Common Clock Configuration"),
            Field::read_write(0x0080, "Extended Synch"),
            Field::read_write(0x0100, "Enable Clock Power Management"),
            Field::read_write(0x0200, "Hardware Autonomous Width Disable"),
            Field::read_only(0xfc00, "of ports, reserved"),
        ],
        "PCIe 7.5.3.7",
    ),
    Register::new("pcie.lnksta", 18, Width::Word, READ_ONLY, "PCIe 7.5.3.8"),
    Register::new("pcie.sltcap", 20, Width::Dword, READ_ONLY, "PCIe 7.5.3.9"),
    Register::new("pcie.sltctl", 24, Width::Word, READ_ONLY, "PCIe 7.5.3.10"),
    Register::new("pcie.sltsta", 26, Width::Word, READ_ONLY, "PCIe 7.5.3.11"),
    Register::new("pcie.rootctl", 28, Width::Word, READ_ONLY, "PCIe 7.5.3.12"),
    Register::new("pcie.rootcap", 30, Width::Word, READ_ONLY, "PCIe 7.5.3.13"),
    Register::new("pcie.rootsta", 32, Width::Dword, READ_ONLY, "PCIe 7.5.3.14"),
    Register::new("pcie.devcap2", 36, Width::Dword, READ_ONLY, "PCIe 7.5.3.15"),
    Register::new(
        "pcie.devctl2",
        40,
        Width::Word,
        &[
            Field::read_write(0x000f, "Completion Timeout Value"),
            Field::read_write(0x0010, "Completion Timeout Disable"),
            Field::read_write(0x0020, "ARI Forwarding Enable"),
            Field::read_write(0x00c0, "AtomicOp Requester Enable, Egress Blocking"),
            Field::read_write(0x0300, "ID-Based Ordering Request Enable, Completion Enable"),
            Field::read_write(0x0400, "LTR Mechanism Enable"),
            Field::read_write(0x0800, "Emergency Power Reduction Request"),
            Field::read_write(0x1000, "10-Bit Tag Requester Enable"),
            Field::read_write(0x6000, "OBFF Enable"),
            Field::read_write(0x8000, "End-End TLP Prefix Blocking"),
        ],
        "PCIe 7.5.3.16",
    ),
    Register::new("pcie.devsta2", 42, Width::Word, READ_ONLY, "PCIe 7.5.3.17"),
    Register::new("pcie.lnkcap2", 44, Width::Dword, READ_ONLY, "PCIe 7.5.3.18"),
    Register::new("pcie.lnkctl2", 48, Width::Word, &[Field::read_write(ALL, "")], "PCIe 7.5.3.19"),
    Register::new(
        "pcie.lnksta2",
        50,
        Width::Word,
        &[
            Field::read_only(0xffdf, "state of the link"),
            Field::write_one_to_clear(0x0020, "Link Equalization Request"),
        ],
        "PCIe 7.5.3.20",
    ),
    Register::new("pcie.sltcap2", 52, Width::Dword, READ_ONLY, "PCIe 7.5.3.21"),
    Register::new("pcie.sltctl2", 56, Width::Word, READ_ONLY, "PCIe 7.5.3.22"),
    Register::new("pcie.sltsta2", 58, Width::Word, READ_ONLY, "PCIe 7.5.3.23"),
];

const _: () = {
    check(CAPABILITY_HEADER, 2);
    check(POWER_MANAGEMENT, 8);
    check(VITAL_PRODUCT_DATA, 8);
    check(ADVANCED_FEATURES, 6);
    check(VENDOR_SPECIFIC, 3);
    check(VIRTIO_WINDOW, 20);
    check(SATA, 8);
    check(SATA_PAIR, 16);
    check(ENHANCED_ALLOCATION, 192);
    check(EXPRESS, 20);
    check(EXPRESS_2, 60);
};
