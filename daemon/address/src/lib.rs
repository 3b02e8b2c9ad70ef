//! How devices and domains are named.
//!
//! Every other crate of the workspace uses these types, so this one depends on nothing of ours.
//!
//! * [`Sbdf`]: segment, bus, device and function of a PCI function of the host (PCI Firmware Specification 4.1.2).
//! * [`DomainId`]: Xen's number of a domain (`domid_t`, xen/include/public/xen.h).
#![forbid(unsafe_code)]

mod domain;
mod sbdf;

pub use domain::DomainId;
pub use sbdf::{ParseSbdfError, Sbdf};
