use super::header::CHAIN as CHAIN_WHY;
use crate::access::Width;
use crate::register::{ALL, Field, Register, Shown, check, followed_by};

const VIRTUAL_FUNCTIONS: &str = "virtual functions are the host's to make: each is a device with a requester ID of \
                                 its own, that nobody has claimed";
const TRANSLATIONS: &str = "a device with translations of its own reaches memory without the IOMMU's check";
const RESIZE: &str = "a BAR that grows takes addresses that other devices have";
const PAGE_SIZE: &str = "how large the BARs of virtual functions are, and what they begin at, is the host's like the \
                         virtual functions";
const GROUPS: &str = "which devices receive copies of a write, and of which, is the host's address map";
const COHERENCE: &str = "a device that takes part in the coherence of memory, or offers memory of its own, is in the \
                         host's address map and reaches memory without the IOMMU's check";
const PORTS: &str = "what a port lets through is the host's isolation of devices";

const READ_ONLY: &[Field] = &[Field::read_only(ALL, "")];
const READ_WRITE: &[Field] = &[Field::read_write(ALL, "")];
const STATUS: &[Field] = &[Field::write_one_to_clear(ALL, "")];

/// First four bytes of every extended capability.
const CHAIN: Register = Register::new(
    "extended_capability_header",
    0,
    Width::Dword,
    &[Field::guarded(ALL, "Capability ID, Version, Next Capability Offset", Shown::Listed, CHAIN_WHY)],
    "PCIe 7.6.3",
);

const fn read_only(name: &'static str, offset: u16, width: Width, spec: &'static str) -> Register {
    Register::new(name, offset, width, READ_ONLY, spec)
}

const fn read_write(name: &'static str, offset: u16, width: Width, spec: &'static str) -> Register {
    Register::new(name, offset, width, READ_WRITE, spec)
}

const fn resizing(name: &'static str, offset: u16) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, RESIZE)];
    Register::new(name, offset, Width::Dword, FIELDS, "PCIe 7.8.6")
}

/// An extended capability of which nothing else is known here: identifier, version and the pointer to the next.
pub const EXTENDED_CAPABILITY_HEADER: &[Register] = &[CHAIN];

/// Advanced Error Reporting, as every function has it: 44 bytes.
pub const ADVANCED_ERROR_REPORTING: &[Register] = &[
    CHAIN,
    Register::new("aer.uncor_status", 4, Width::Dword, STATUS, "PCIe 7.8.4.2"),
    read_write("aer.uncor_mask", 8, Width::Dword, "PCIe 7.8.4.3"),
    read_write("aer.uncor_severity", 12, Width::Dword, "PCIe 7.8.4.4"),
    Register::new("aer.cor_status", 16, Width::Dword, STATUS, "PCIe 7.8.4.5"),
    read_write("aer.cor_mask", 20, Width::Dword, "PCIe 7.8.4.6"),
    read_write("aer.cap_control", 24, Width::Dword, "PCIe 7.8.4.7"),
    read_only("aer.header_log0", 28, Width::Dword, "PCIe 7.8.4.8"),
    read_only("aer.header_log1", 32, Width::Dword, "PCIe 7.8.4.8"),
    read_only("aer.header_log2", 36, Width::Dword, "PCIe 7.8.4.8"),
    read_only("aer.header_log3", 40, Width::Dword, "PCIe 7.8.4.8"),
];

/// Device Serial Number: 12 bytes.
pub const SERIAL_NUMBER: &[Register] = &[
    CHAIN,
    read_only("dsn.lower", 4, Width::Dword, "PCIe 7.9.3.2"),
    read_only("dsn.upper", 8, Width::Dword, "PCIe 7.9.3.2"),
];

/// Access Control Services: 8 bytes; an egress vector may follow.
pub const ACCESS_CONTROL: &[Register] = &[
    CHAIN,
    read_only("acs.cap", 4, Width::Word, "PCIe 7.7.8.2"),
    Register::new("acs.ctl", 6, Width::Word, &[Field::guarded(ALL, "", Shown::Hardware, PORTS)], "PCIe 7.7.8.3"),
];

/// Alternative Routing-ID Interpretation: 8 bytes.
pub const ALTERNATIVE_ROUTING: &[Register] = &[
    CHAIN,
    read_only("ari.cap", 4, Width::Word, "PCIe 7.8.7.2"),
    read_write("ari.ctl", 6, Width::Word, "PCIe 7.8.7.3"),
];

/// Address Translation Services: 8 bytes.
pub const ADDRESS_TRANSLATION: &[Register] = &[
    CHAIN,
    read_only("ats.cap", 4, Width::Word, "PCIe 10.5.1.2"),
    Register::new(
        "ats.ctl",
        6,
        Width::Word,
        &[
            Field::read_write(0x001f, "Smallest Translation Unit"),
            Field::read_only(0x7fe0, "reserved"),
            Field::guarded(0x8000, "Enable", Shown::Hardware, TRANSLATIONS),
        ],
        "PCIe 10.5.1.3",
    ),
];

/// Single Root I/O Virtualization: 64 bytes.
pub const VIRTUALIZATION: &[Register] = &[
    CHAIN,
    read_only("sriov.cap", 4, Width::Dword, "SR-IOV 3.3.2"),
    Register::new(
        "sriov.ctl",
        8,
        Width::Word,
        &[
            Field::guarded(0x0009, "VF Enable, VF Memory Space Enable", Shown::Hardware, VIRTUAL_FUNCTIONS),
            Field::read_write(0x0006, "VF Migration Enable, Interrupt Enable"),
            Field::guarded(0x0010, "ARI Capable Hierarchy", Shown::Hardware, VIRTUAL_FUNCTIONS),
            Field::read_only(0xffe0, "reserved"),
        ],
        "SR-IOV 3.3.3",
    ),
    Register::new("sriov.status", 10, Width::Word, STATUS, "SR-IOV 3.3.4"),
    read_only("sriov.initial_vfs", 12, Width::Word, "SR-IOV 3.3.5"),
    read_only("sriov.total_vfs", 14, Width::Word, "SR-IOV 3.3.6"),
    read_write("sriov.num_vfs", 16, Width::Word, "SR-IOV 3.3.7"),
    read_only("sriov.dependency_link", 18, Width::Word, "SR-IOV 3.3.8"),
    read_only("sriov.first_vf_offset", 20, Width::Word, "SR-IOV 3.3.9"),
    read_only("sriov.vf_stride", 22, Width::Word, "SR-IOV 3.3.10"),
    read_only("sriov.reserved_18", 24, Width::Word, "SR-IOV 3.3"),
    read_only("sriov.vf_device_id", 26, Width::Word, "SR-IOV 3.3.11"),
    read_only("sriov.supported_page_sizes", 28, Width::Dword, "SR-IOV 3.3.12"),
    Register::new(
        "sriov.system_page_size",
        32,
        Width::Dword,
        &[Field::guarded(ALL, "", Shown::Hardware, PAGE_SIZE)],
        "SR-IOV 3.3.13",
    ),
    vf_bar("sriov.bar0", 36),
    vf_bar("sriov.bar1", 40),
    vf_bar("sriov.bar2", 44),
    vf_bar("sriov.bar3", 48),
    vf_bar("sriov.bar4", 52),
    vf_bar("sriov.bar5", 56),
    read_only("sriov.migration_array", 60, Width::Dword, "SR-IOV 3.3.15"),
];

const fn vf_bar(name: &'static str, offset: u16) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, VIRTUAL_FUNCTIONS)];
    Register::new(name, offset, Width::Dword, FIELDS, "SR-IOV 3.3.14")
}

/// Multicast, without the overlay BAR of ports: 40 bytes.
pub const MULTICAST: &[Register] = &[
    CHAIN,
    read_only("mcast.cap", 4, Width::Word, "PCIe 7.9.11.2"),
    receiving("mcast.ctl", 6, Width::Word, "PCIe 7.9.11.3"),
    receiving("mcast.base_address", 8, Width::Dword, "PCIe 7.9.11.4"),
    receiving("mcast.upper_base_address", 12, Width::Dword, "PCIe 7.9.11.4"),
    receiving("mcast.receive", 16, Width::Dword, "PCIe 7.9.11.5"),
    receiving("mcast.upper_receive", 20, Width::Dword, "PCIe 7.9.11.5"),
    receiving("mcast.block_all", 24, Width::Dword, "PCIe 7.9.11.6"),
    receiving("mcast.upper_block_all", 28, Width::Dword, "PCIe 7.9.11.6"),
    receiving("mcast.block_untranslated", 32, Width::Dword, "PCIe 7.9.11.7"),
    receiving("mcast.upper_block_untranslated", 36, Width::Dword, "PCIe 7.9.11.7"),
];

const fn receiving(name: &'static str, offset: u16, width: Width, spec: &'static str) -> Register {
    const FIELDS: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, GROUPS)];
    Register::new(name, offset, width, FIELDS, spec)
}

/// Designated Vendor-Specific of the CXL Consortium, as long as a capability can be: 3840 bytes.
pub const COMPUTE_EXPRESS_LINK: &[Register] = &followed_by::<961>(
    &[
        CHAIN,
        read_only("dvsec.header1", 4, Width::Dword, "PCIe 7.9.6.2"),
        read_only("dvsec.header2", 8, Width::Word, "PCIe 7.9.6.3"),
        Register::new("dvsec.cxl_capability", 10, Width::Word, COHERENT, "CXL 8.1"),
    ],
    Register::new("dvsec.cxl_registers", 12, Width::Dword, COHERENT, "CXL 8.1"),
);

const COHERENT: &[Field] = &[Field::guarded(ALL, "", Shown::Hardware, COHERENCE)];

/// Page Request Interface: 16 bytes.
pub const PAGE_REQUEST: &[Register] = &[
    CHAIN,
    Register::new(
        "pri.ctl",
        4,
        Width::Word,
        &[Field::guarded(ALL, "Enable, Reset", Shown::Hardware, TRANSLATIONS)],
        "PCIe 10.5.2.2",
    ),
    Register::new("pri.status", 6, Width::Word, STATUS, "PCIe 10.5.2.3"),
    read_only("pri.capacity", 8, Width::Dword, "PCIe 10.5.2.4"),
    read_write("pri.allocation", 12, Width::Dword, "PCIe 10.5.2.5"),
];

/// Process Address Space ID: 8 bytes.
pub const PROCESS_ADDRESS_SPACE: &[Register] = &[
    CHAIN,
    read_only("pasid.cap", 4, Width::Word, "PCIe 7.8.8.2"),
    Register::new(
        "pasid.ctl",
        6,
        Width::Word,
        &[Field::guarded(ALL, "Enable", Shown::Hardware, TRANSLATIONS)],
        "PCIe 7.8.8.3",
    ),
];

/// Resizable BAR, for all the BARs there may be: 52 bytes.
pub const RESIZABLE_BAR: &[Register] = &[
    CHAIN,
    read_only("rebar.cap0", 4, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl0", 8),
    read_only("rebar.cap1", 12, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl1", 16),
    read_only("rebar.cap2", 20, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl2", 24),
    read_only("rebar.cap3", 28, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl3", 32),
    read_only("rebar.cap4", 36, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl4", 40),
    read_only("rebar.cap5", 44, Width::Dword, "PCIe 7.8.6.2"),
    resizing("rebar.ctl5", 48),
];

/// Downstream Port Containment, as far as every port has it: 12 bytes.
pub const PORT_CONTAINMENT: &[Register] = &[
    CHAIN,
    read_only("dpc.cap", 4, Width::Word, "PCIe 7.9.15.2"),
    Register::new("dpc.ctl", 6, Width::Word, &[Field::guarded(ALL, "", Shown::Hardware, PORTS)], "PCIe 7.9.15.3"),
    Register::new("dpc.status", 8, Width::Word, STATUS, "PCIe 7.9.15.4"),
    read_only("dpc.source_id", 10, Width::Word, "PCIe 7.9.15.5"),
];

/// Latency Tolerance Reporting: 8 bytes.
pub const LATENCY_TOLERANCE: &[Register] = &[
    CHAIN,
    read_write("ltr.max_snoop", 4, Width::Word, "PCIe 7.8.2.2"),
    read_write("ltr.max_no_snoop", 6, Width::Word, "PCIe 7.8.2.3"),
];

/// L1 PM Substates: 16 bytes.
pub const L1_SUBSTATES: &[Register] = &[
    CHAIN,
    read_only("l1ss.cap", 4, Width::Dword, "PCIe 7.8.3.2"),
    read_write("l1ss.ctl1", 8, Width::Dword, "PCIe 7.8.3.3"),
    read_write("l1ss.ctl2", 12, Width::Dword, "PCIe 7.8.3.4"),
];

/// Precision Time Measurement: 12 bytes.
pub const PRECISION_TIME: &[Register] = &[
    CHAIN,
    read_only("ptm.cap", 4, Width::Dword, "PCIe 7.9.16.2"),
    read_write("ptm.ctl", 8, Width::Dword, "PCIe 7.9.16.3"),
];

/// TLP Processing Hints, without the table of steering tags: 12 bytes.
pub const PROCESSING_HINTS: &[Register] = &[
    CHAIN,
    read_only("tph.cap", 4, Width::Dword, "PCIe 7.9.13.2"),
    read_write("tph.ctl", 8, Width::Dword, "PCIe 7.9.13.3"),
];

const _: () = {
    check(EXTENDED_CAPABILITY_HEADER, 4);
    check(ADVANCED_ERROR_REPORTING, 44);
    check(SERIAL_NUMBER, 12);
    check(ACCESS_CONTROL, 8);
    check(ALTERNATIVE_ROUTING, 8);
    check(ADDRESS_TRANSLATION, 8);
    check(VIRTUALIZATION, 64);
    check(MULTICAST, 40);
    check(COMPUTE_EXPRESS_LINK, 3840);
    check(PAGE_REQUEST, 16);
    check(PROCESS_ADDRESS_SPACE, 8);
    check(RESIZABLE_BAR, 52);
    check(PORT_CONTAINMENT, 12);
    check(LATENCY_TOLERANCE, 8);
    check(L1_SUBSTATES, 16);
    check(PRECISION_TIME, 12);
    check(PROCESSING_HINTS, 12);
};
