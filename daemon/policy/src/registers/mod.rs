//! The registers that a guest meets, as data.
//!
//! Abbreviations in `spec`: PCI is the PCI Local Bus Specification 3.0, PM the PCI Bus Power Management Interface
//! Specification 1.2, AF ECN its Advanced Capabilities for Conventional PCI, PCIe the PCI Express Base Specification
//! 5.0, SR-IOV the Single Root I/O Virtualization and Sharing Specification 1.1, AHCI the Serial ATA Advanced Host
//! Controller Interface 1.3, virtio the OASIS Virtual I/O Device Specification 1.2, CXL the Compute Express Link
//! Specification 2.0.

mod capabilities;
mod extended;
mod header;
mod interrupts;
mod kinds;

pub use capabilities::{
    ADVANCED_FEATURES, CAPABILITY_HEADER, ENHANCED_ALLOCATION, EXPRESS, EXPRESS_2, POWER_MANAGEMENT, SATA, SATA_PAIR,
    VENDOR_SPECIFIC, VIRTIO_WINDOW, VITAL_PRODUCT_DATA,
};
pub use extended::{
    ACCESS_CONTROL, ADDRESS_TRANSLATION, ADVANCED_ERROR_REPORTING, ALTERNATIVE_ROUTING, COMPUTE_EXPRESS_LINK,
    EXTENDED_CAPABILITY_HEADER, L1_SUBSTATES, LATENCY_TOLERANCE, MULTICAST, PAGE_REQUEST, PORT_CONTAINMENT,
    PRECISION_TIME, PROCESS_ADDRESS_SPACE, PROCESSING_HINTS, RESIZABLE_BAR, SERIAL_NUMBER, VIRTUALIZATION,
};
pub use header::HEADER;
pub use interrupts::{MSI_32, MSI_32_MASKABLE, MSI_64, MSI_64_MASKABLE, MSIX};
pub use kinds::{AnyCapabilityId, CAPABILITIES, CapabilityKind, capability, capability_named, named};
