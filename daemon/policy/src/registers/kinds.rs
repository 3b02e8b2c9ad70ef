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
}

impl CapabilityKind {
    /// The layout of one of that kind: which of [`CapabilityKind::layouts`] it has, and how much of it, its own bytes say,
    /// which `byte` gives by their offset in it.
    pub fn layout(&self, byte: impl Fn(u16) -> u8) -> &'static [Register] {
        /// Of Message Control (PCI 6.8.1.3), by byte.
        const MSI_64_BIT: u8 = 0x80;
        const MSI_MASKABLE: u8 = 0x01;
        /// Of PCI Express Capabilities (PCIe 7.5.3.2).
        const EXPRESS_VERSION: u8 = 0x0f;
        match self.id {
            AnyCapabilityId::MSI => match (byte(2) & MSI_64_BIT != 0, byte(3) & MSI_MASKABLE != 0) {
                (false, false) => MSI_32,
                (true, false) => MSI_64,
                (false, true) => MSI_32_MASKABLE,
                (true, true) => MSI_64_MASKABLE,
            },
            AnyCapabilityId::Conventional(CapabilityId::EXPRESS) if byte(2) & EXPRESS_VERSION < 2 => EXPRESS,
            AnyCapabilityId::Conventional(CapabilityId::EXPRESS) => EXPRESS_2,
            AnyCapabilityId::Extended(ExtendedCapabilityId::RESIZABLE_BAR | ExtendedCapabilityId::VF_RESIZABLE_BAR) => {
                // A capability register and a control register for each BAR; how many says the first control (PCIe 7.8.6.3).
                let bars = usize::from(byte(8) >> 5).clamp(1, 6);
                RESIZABLE_BAR.split_at(bars.saturating_mul(2).saturating_add(1)).0
            }
            _ => self.layouts.first().copied().unwrap_or_default(),
        }
    }
}

const fn conventional(
    name: &'static str,
    id: u8,
    title: &'static str,
    layouts: &'static [&'static [Register]],
) -> CapabilityKind {
    CapabilityKind { name, id: AnyCapabilityId::Conventional(CapabilityId(id)), title, layouts }
}

const fn extended(
    name: &'static str,
    id: u16,
    title: &'static str,
    layouts: &'static [&'static [Register]],
) -> CapabilityKind {
    CapabilityKind { name, id: AnyCapabilityId::Extended(ExtendedCapabilityId(id)), title, layouts }
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
    conventional("vendor", 0x09, "Vendor Specific", &[VENDOR_SPECIFIC]),
    conventional("debug", 0x0a, "Debug Port", ONLY_HEADER),
    conventional("subsystem", 0x0d, "Bridge Subsystem Vendor ID", ONLY_HEADER),
    conventional("agp8x", 0x0e, "AGP 8x", ONLY_HEADER),
    conventional("pcie", 0x10, "PCI Express", &[EXPRESS, EXPRESS_2]),
    conventional("msix", 0x11, "MSI-X", &[MSIX]),
    conventional("sata", 0x12, "SATA Data/Index Configuration", ONLY_HEADER),
    conventional("af", 0x13, "Advanced Features", &[ADVANCED_FEATURES]),
    conventional("ea", 0x14, "Enhanced Allocation", ONLY_HEADER),
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
    extended("mcast", 0x0012, "Multicast", ONLY_EXTENDED_HEADER),
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
    extended("dvsec", 0x0023, "Designated Vendor-Specific Extended Capability", ONLY_EXTENDED_HEADER),
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
    let in_capabilities = CAPABILITIES.iter().flat_map(|kind| {
        kind.layouts.iter().flat_map(|layout| layout.iter().map(|register| (Some(kind.id), register)))
    });
    let all = HEADER.iter().map(|register| (None, register)).chain(in_capabilities);
    all.filter(move |(_, register)| register.name == name)
}
