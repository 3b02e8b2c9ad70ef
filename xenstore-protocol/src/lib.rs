//! Everything that xenpcid says over xenstore.
//!
//! xenstore is the small database through which domains of a Xen host find each other: a tree of nodes with values and
//! permissions, transactions, and watches that tell when something changes (docs/misc/xenstore.txt of Xen).
//!
//! * [`wire`]: the messages, without I/O. [`Path`], [`Permissions`], [`ErrorName`]: what is in them.
//! * [`client`]: the asynchronous client, with transactions, watches and reconnection.
//! * [`xenbus`], [`pci_nodes`]: what the nodes of a split driver mean, and those of the PCI bus.
//! * [`memory`]: a server in memory with the same semantics, for tests and simulated hosts.
//! * [`xenstore_rs_traits`]: the client behind the traits of the crate xenstore-rs.
//!
//! Nothing here trusts what it reads: a guest writes its own nodes.
#![forbid(unsafe_code)]

pub mod client;
mod error;
pub mod memory;
mod number;
mod path;
pub mod pci_nodes;
mod permissions;
pub mod wire;
pub mod xenbus;
pub mod xenstore_rs_traits;

pub use client::{Changes, Client, ConnectionState, Endpoint, Store, Transaction, Watch};
pub use error::{Error, ErrorName};
pub use path::{ABSOLUTE_MAX, InvalidPath, Path, RELATIVE_MAX};
pub use permissions::{Access, InvalidPermissions, Permissions};
pub use xenbus::XenbusState;
