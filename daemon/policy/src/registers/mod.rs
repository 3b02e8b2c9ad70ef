//! The registers that a guest meets, as data. What is not in these tables reads the hardware and discards writes.
//!
//! Abbreviations in `spec`: PCI is the PCI Local Bus Specification 3.0, PM the PCI Bus Power Management Interface
//! Specification 1.2, PCIe the PCI Express Base Specification 5.0.

mod capabilities;
mod header;
mod interrupts;

pub use capabilities::{CAPABILITY_HEADER, EXTENDED_CAPABILITY_HEADER, POWER_MANAGEMENT, VITAL_PRODUCT_DATA};
pub use header::HEADER;
pub use interrupts::{MSI_32, MSI_32_MASKABLE, MSI_64, MSI_64_MASKABLE, MSIX};
