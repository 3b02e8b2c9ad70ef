//! pcifront-shim as an instrument: a PCI frontend in the userspace of a real Xen PV guest, in place of the kernel's
//! xen-pcifront, that speaks to any pciif backend. It shows the virtual bus, records it, compares what two backends answer,
//! measures, and sends requests that no honest guest sends.
//!
//! ```text
//!   pcifront-shim ── /dev/xen/xenbus ───► xenstore ◄── backend     handshake
//!        │
//!        ├── page of /dev/xen/gntalloc ◄────────────► backend      bus, commands
//!        └── port of /dev/xen/evtchn   ◄────────────► backend
//! ```
//! The commands are generic over [`pcifront_shim::Connection`], so the same code runs over a page in memory.
//!
//! Errors of devices (AER) are not handled, and the page says so (`XEN_PCIB_AERHANDLER` stays clear): a backend does not
//! wait for answers to them.
#![forbid(unsafe_code)]

pub mod bus;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod config_text;
mod error;
pub mod exchange;
pub mod guest;
pub mod handshake;
pub mod recording;
pub mod registers;
pub mod rng;
pub mod spare;
mod stop;

pub use error::Error;
pub use stop::Stop;
