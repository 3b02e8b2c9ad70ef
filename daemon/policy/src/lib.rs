//! What a guest sees of a PCI function's configuration space, and what its writes do.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod access;
mod bar;
mod capability;
mod compile;
mod register;
pub mod registers;
mod resource;
mod snapshot;
mod unsupported;
mod view;
mod virtual_bus;

pub use access::{Access, ConfigSize, InvalidAccess, Width};
pub use capability::{
    Capabilities, Capability, CapabilityId, ExtendedCapability, ExtendedCapabilityId, MAX_MSIX_VECTORS, MsiCapability,
    MsixCapability,
};
pub use register::{Class, InterruptMode, Register, Value};
pub use resource::{ParseResourceError, Resource};
pub use snapshot::Snapshot;
pub use unsupported::Unsupported;
pub use view::{AccessDenied, ConfigView, Effect, HardwareWrite, PowerState, Read, Verdict, Write};
pub use virtual_bus::{BusFull, VirtualAddress, VirtualBus};
