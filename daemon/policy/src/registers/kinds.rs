use super::*;
use crate::capability::{CapabilityId, ExtendedCapabilityId};
use crate::register::Register;

/// A kind of capability, in either list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyCapabilityId {
    /// Of the conventional list, in the first 256 bytes.
    Conventional(CapabilityId),
    /// Of the extended list, above.
    Extended(ExtendedCapabilityId),
}

impl AnyCapabilityId {
    /// Message Signalled Interrupts.
    pub const MSI: Self = Self::Conventional(CapabilityId::MSI);
    /// MSI-X.
    pub const MSIX: Self = Self::Conventional(CapabilityId::MSIX);
}

/// What is known of a kind of capability.
#[derive(Clone, Copy, Debug)]
pub struct CapabilityKind {
    /// Short name, by which policies know it, and the first part of its registers' names.
    pub name: &'static str,
    /// Its identifier.
    pub id: AnyCapabilityId,
    /// Its name in the specification.
    pub title: &'static str,
    /// The layouts that it may have, shortest first; which one, the capability itself says.
    pub layouts: &'static [&'static [Register]],
    /// The layouts that it has where it is of an owner who is known here. With others the same bytes are something else, so
    /// nothing can be said of them without a device.
    pub layouts_of_owners: &'static [&'static [Register]],
}

impl CapabilityKind {
    /// Every register that one of that kind may have; those of several layouts several times.
    pub fn registers(&self) -> impl Iterator<Item = &'static Register> + use<> {
        self.layouts.iter().chain(self.layouts_of_owners).copied().flatten()
    }

    const fn or_of_owner(self, layouts_of_owners: &'static [&'static [Register]]) -> Self {
        Self { layouts_of_owners, ..self }
    }

    /// The layout of one of that kind: which of those above it has, and how much of it, say the `vendor` of the function and
    /// the capability's own bytes, which `byte` gives by their offset in it.
    pub fn layout(&self, vendor: u16, byte: impl Fn(u16) -> u8) -> &'static [Register] {
        /// Of Message Control (PCI 6.8.1.3), by byte.
        const MSI_64_BIT: u8 = 0x80;
        const MSI_MASKABLE: u8 = 0x01;
        /// Of PCI Express Capabilities (PCIe 7.5.3.2).
        const EXPRESS_VERSION: u8 = 0x0f;
        /// Of a virtio device's capabilities, the one that is a window (virtio 4.1.4).
        const VIRTIO: u16 = 0x1af4;
        const VIRTIO_PCI_CFG: u8 = 5;
        /// Of SATA Capability Register 1 (AHCI 2.4): where the pair of registers is; all ones: behind this one.
        const SATA_LOCATION: u8 = 0x0f;
        match self.id {
            AnyCapabilityId::MSI => match (byte(2) & MSI_64_BIT != 0, byte(3) & MSI_MASKABLE != 0) {
                (false, false) => MSI_32,
                (true, false) => MSI_64,
                (false, true) => MSI_32_MASKABLE,
                (true, true) => MSI_64_MASKABLE,
            },
            AnyCapabilityId::Conventional(CapabilityId::EXPRESS) if byte(2) & EXPRESS_VERSION < 2 => EXPRESS,
            AnyCapabilityId::Conventional(CapabilityId::EXPRESS) => EXPRESS_2,
            AnyCapabilityId::Conventional(CapabilityId::VENDOR_SPECIFIC)
                if vendor == VIRTIO && byte(3) == VIRTIO_PCI_CFG =>
            {
                VIRTIO_WINDOW
            }
            AnyCapabilityId::Conventional(CapabilityId::SATA) if byte(4) & SATA_LOCATION == SATA_LOCATION => SATA_PAIR,
            AnyCapabilityId::Conventional(CapabilityId::ENHANCED_ALLOCATION) => enhanced_allocation(byte),
            AnyCapabilityId::Extended(ExtendedCapabilityId::DESIGNATED_VENDOR_SPECIFIC) => designated(byte),
            AnyCapabilityId::Extended(ExtendedCapabilityId::RESIZABLE_BAR | ExtendedCapabilityId::VF_RESIZABLE_BAR) => {
                // A capability register and a control register for each BAR; how many says the first control (PCIe 7.8.6.3).
                let bars = usize::from(byte(8) >> 5).clamp(1, 6);
                RESIZABLE_BAR.split_at(bars.saturating_mul(2).saturating_add(1)).0
            }
            _ => self.layouts.first().copied().unwrap_or_default(),
        }
    }
}

/// As much as the entries need: how many there are says the header (PCIe 7.8.5.1), how many dwords follow the first of
/// each says the entry (PCIe 7.8.5.3).
fn enhanced_allocation(byte: impl Fn(u16) -> u8) -> &'static [Register] {
    const ENTRIES: u8 = 0x3f;
    const ENTRY_SIZE: u8 = 0x07;
    /// Registers before the entries.
    const HEAD: usize = 3;
    let mut dwords = 0_u16;
    for _ in 0..byte(2) & ENTRIES {
        let following = byte(dwords.saturating_mul(4).saturating_add(4)) & ENTRY_SIZE;
        dwords = dwords.saturating_add(u16::from(following)).saturating_add(1);
    }
    let length = usize::from(dwords).saturating_add(HEAD);
    ENHANCED_ALLOCATION.get(..length).unwrap_or(ENHANCED_ALLOCATION)
}

/// What is designated by the CXL Consortium, as long as its header says (PCIe 7.9.6.2); of others only the header is known.
fn designated(byte: impl Fn(u16) -> u8) -> &'static [Register] {
    const CXL: [u8; 2] = 0x1e98_u16.to_le_bytes();
    /// Bytes and registers before those that are repeated.
    const HEAD: (u16, usize) = (12, 4);
    if [byte(4), byte(5)] != CXL {
        return EXTENDED_CAPABILITY_HEADER;
    }
    let length = u16::from_le_bytes([byte(6), byte(7)]) >> 4;
    let length = usize::from(length.saturating_sub(HEAD.0).div_ceil(4)).saturating_add(HEAD.1);
    COMPUTE_EXPRESS_LINK.get(..length).unwrap_or(COMPUTE_EXPRESS_LINK)
}

const fn conventional(
    name: &'static str,
    id: u8,
    title: &'static str,
    layouts: &'static [&'static [Register]],
) -> CapabilityKind {
    CapabilityKind { name, id: AnyCapabilityId::Conventional(CapabilityId(id)), title, layouts, layouts_of_owners: &[] }
}

const fn extended(
    name: &'static str,
    id: u16,
    title: &'static str,
    layouts: &'static [&'static [Register]],
) -> CapabilityKind {
    let id = AnyCapabilityId::Extended(ExtendedCapabilityId(id));
    CapabilityKind { name, id, title, layouts, layouts_of_owners: &[] }
}

const ONLY_HEADER: &[&[Register]] = &[CAPABILITY_HEADER];
const ONLY_EXTENDED_HEADER: &[&[Register]] = &[EXTENDED_CAPABILITY_HEADER];

/// The capabilities that have a name (PCI Code and ID Assignment Specification 2 and 3).
pub const CAPABILITIES: &[CapabilityKind] = &[
    conventional("pm", 0x01, "PCI Power Management Interface", &[POWER_MANAGEMENT]),
    conventional("agp", 0x02, "AGP", ONLY_HEADER),
    conventional("vpd", 0x03, "Vital Product Data", &[VITAL_PRODUCT_DATA]),
    conventional("slot-id", 0x04, "Slot Identification", ONLY_HEADER),
    conventional("msi", 0x05, "Message Signalled Interrupts", &[MSI_32, MSI_64, MSI_32_MASKABLE, MSI_64_MASKABLE]),
    conventional("hot-swap", 0x06, "CompactPCI Hot Swap", ONLY_HEADER),
    conventional("pcix", 0x07, "PCI-X", ONLY_HEADER),
    conventional("ht", 0x08, "HyperTransport", ONLY_HEADER),
    conventional("vendor", 0x09, "Vendor Specific", &[VENDOR_SPECIFIC]).or_of_owner(&[VIRTIO_WINDOW]),
    conventional("debug", 0x0a, "Debug Port", ONLY_HEADER),
    conventional("subsystem", 0x0d, "Bridge Subsystem Vendor ID", ONLY_HEADER),
    conventional("agp8x", 0x0e, "AGP 8x", ONLY_HEADER),
    conventional("pcie", 0x10, "PCI Express", &[EXPRESS, EXPRESS_2]),
    conventional("msix", 0x11, "MSI-X", &[MSIX]),
    conventional("sata", 0x12, "SATA Data/Index Configuration", &[SATA, SATA_PAIR]),
    conventional("af", 0x13, "Advanced Features", &[ADVANCED_FEATURES]),
    conventional("ea", 0x14, "Enhanced Allocation", &[ENHANCED_ALLOCATION]),
    extended("aer", 0x0001, "Advanced Error Reporting", &[ADVANCED_ERROR_REPORTING]),
    extended("vc", 0x0002, "Virtual Channel", ONLY_EXTENDED_HEADER),
    extended("dsn", 0x0003, "Device Serial Number", &[SERIAL_NUMBER]),
    extended("pb", 0x0004, "Power Budgeting", ONLY_EXTENDED_HEADER),
    extended("mfvc", 0x0008, "Multi-Function Virtual Channel", ONLY_EXTENDED_HEADER),
    extended("vc9", 0x0009, "Virtual Channel beside Multi-Function Virtual Channel", ONLY_EXTENDED_HEADER),
    extended("vsec", 0x000b, "Vendor-Specific Extended Capability", ONLY_EXTENDED_HEADER),
    extended("acs", 0x000d, "Access Control Services", &[ACCESS_CONTROL]),
    extended("ari", 0x000e, "Alternative Routing-ID Interpretation", &[ALTERNATIVE_ROUTING]),
    extended("ats", 0x000f, "Address Translation Services", &[ADDRESS_TRANSLATION]),
    extended("sriov", 0x0010, "Single Root I/O Virtualization", &[VIRTUALIZATION]),
    extended("mriov", 0x0011, "Multi-Root I/O Virtualization", ONLY_EXTENDED_HEADER),
    extended("mcast", 0x0012, "Multicast", &[MULTICAST]),
    extended("pri", 0x0013, "Page Request Interface", &[PAGE_REQUEST]),
    extended("rebar", 0x0015, "Resizable BAR", &[RESIZABLE_BAR]),
    extended("dpa", 0x0016, "Dynamic Power Allocation", ONLY_EXTENDED_HEADER),
    extended("tph", 0x0017, "TLP Processing Hints", &[PROCESSING_HINTS]),
    extended("ltr", 0x0018, "Latency Tolerance Reporting", &[LATENCY_TOLERANCE]),
    extended("secpci", 0x0019, "Secondary PCI Express", ONLY_EXTENDED_HEADER),
    extended("pmux", 0x001a, "Protocol Multiplexing", ONLY_EXTENDED_HEADER),
    extended("pasid", 0x001b, "Process Address Space ID", &[PROCESS_ADDRESS_SPACE]),
    extended("dpc", 0x001d, "Downstream Port Containment", &[PORT_CONTAINMENT]),
    extended("l1ss", 0x001e, "L1 PM Substates", &[L1_SUBSTATES]),
    extended("ptm", 0x001f, "Precision Time Measurement", &[PRECISION_TIME]),
    extended("frs", 0x0021, "FRS Queueing", ONLY_EXTENDED_HEADER),
    extended("rtr", 0x0022, "Readiness Time Reporting", ONLY_EXTENDED_HEADER),
    extended("dvsec", 0x0023, "Designated Vendor-Specific Extended Capability", ONLY_EXTENDED_HEADER)
        .or_of_owner(&[COMPUTE_EXPRESS_LINK]),
    extended("vf-rebar", 0x0024, "VF Resizable BAR", &[RESIZABLE_BAR]),
    extended("dlf", 0x0025, "Data Link Feature", ONLY_EXTENDED_HEADER),
    extended("pl16", 0x0026, "Physical Layer 16.0 GT/s", ONLY_EXTENDED_HEADER),
    extended("lmr", 0x0027, "Lane Margining at the Receiver", ONLY_EXTENDED_HEADER),
    extended("hid", 0x0028, "Hierarchy ID", ONLY_EXTENDED_HEADER),
    extended("npem", 0x0029, "Native PCIe Enclosure Management", ONLY_EXTENDED_HEADER),
    extended("doe", 0x002e, "Data Object Exchange", ONLY_EXTENDED_HEADER),
    extended("ide", 0x0030, "Integrity and Data Encryption", ONLY_EXTENDED_HEADER),
];

/// The kind with this identifier, if it has a name.
#[must_use]
pub fn capability(id: AnyCapabilityId) -> Option<&'static CapabilityKind> {
    CAPABILITIES.iter().find(|kind| kind.id == id)
}

/// The kind with this name.
#[must_use]
pub fn capability_named(name: &str) -> Option<&'static CapabilityKind> {
    CAPABILITIES.iter().find(|kind| kind.name == name)
}

/// Every register that goes by this name: of the header, or of a capability in each of its layouts.
pub fn named(name: &str) -> impl Iterator<Item = (Option<AnyCapabilityId>, &'static Register)> {
    let in_capabilities =
        CAPABILITIES.iter().flat_map(|kind| kind.registers().map(|register| (Some(kind.id), register)));
    let all = HEADER.iter().map(|register| (None, register)).chain(in_capabilities);
    all.filter(move |(_, register)| register.name == name)
}
