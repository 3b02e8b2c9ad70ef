//! What a guest sees of a PCI function's configuration space, what its writes do, and the bus it finds the function on.
//!
//! Pure: no I/O. A guest never reaches the configuration space of a device. It sends requests, and each ends in one of
//! three verbs, decided bit by bit:
//!
//! * **pass**: the device answers, or gets the bits;
//! * **emulate**: answered from state kept here, or kept there;
//! * **discard**: accepted, with success, and dropped. It is what happens to a write unless a register says otherwise.
//!
//! A few writes are none of them: they are refused with `access_denied`, because they are commands that a guest must
//! not give and must not believe to have given.
//!
//! ```text
//!                 registers (const tables, checked by the compiler)
//!                     │
//!  Snapshot ──────────┴──► ConfigView::compile ──► for each 4 bytes: hardware, shadow, store, pass, clear, deny
//!  (taken at the claim)        │                                         │
//!                              ▼                                         │
//!                          Unsupported                                   │
//!                                                                        │
//!  request ──► Access::new ──► ConfigView::read ◄────────────────────────┤
//!                  │           └► Read { hardware, emulated }            │
//!                  │              value = device & hardware | emulated   │
//!                  ▼                                                     │
//!           invalid_offset     ConfigView::write ◄───────────────────────┘
//!                              ├► Write { verdict, hardware, effect }
//!                              │  pass:    one write to the device, in the register's own width
//!                              │  emulate: the shadow has changed
//!                              │  discard: nothing has
//!                              └► access_denied
//! ```
//!
//! An access is a lookup and a few masks, without allocation. Only four kinds of registers do more than their masks:
//! the BARs and the expansion ROM, which answer with their size after a dword of ones; the command register, which
//! tells when the guest switches its DMA; the power state, which can only be entered from some others; and the enable
//! bits of MSI and MSI-X, which follow [`ConfigView::set_interrupt_mode`].
//!
//! What never follows a guest in hardware, whatever it writes: memory and I/O decode, Interrupt Disable, BARs, the
//! power state, everything in the MSI and MSI-X capabilities. What a guest never sees: the host's MSI address and data.
//!
//! Three rules make it hold against a device that lies, as one may that its guest has taken over: what decides where a
//! register lies is taken from the [`Snapshot`]; capability lists are walked without visiting an offset twice; and
//! where two registers would overlap, the function is refused.
//!
//! [`differences`] lists where a guest can tell this from the kernel's xen-pciback.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod access;
mod bar;
mod capability;
mod chain;
mod compile;
mod explain;
mod plan;
pub mod policy;
mod recording;
mod register;
pub mod registers;
mod resource;
mod snapshot;
mod unsupported;
mod view;
mod virtual_bus;
mod write;

#[doc = include_str!("../docs/differences.md")]
pub mod differences {}

pub use access::{Access, ConfigSize, InvalidAccess, Width};
pub use capability::{
    Capabilities, Capability, CapabilityId, ExtendedCapability, ExtendedCapabilityId, MAX_MSIX_VECTORS, MsiCapability,
    MsixCapability,
};
pub use explain::{ExplainedBits, ExplainedCapability, ExplainedRegister};
pub use plan::{CompileError, Plan, Terms, Treatment};
pub use policy::Policy;
pub use recording::{Recording, RecordingError};
pub use register::{Field, InterruptMode, Kind, Register, Shown};
pub use registers::AnyCapabilityId;
pub use resource::{ParseResourceError, Resource};
pub use snapshot::Snapshot;
pub use unsupported::Unsupported;
pub use view::{ConfigView, Read};
pub use virtual_bus::{NoPlace, VirtualAddress, VirtualBus};
pub use write::{AccessDenied, Effect, HardwareWrite, Verdict, Write};
