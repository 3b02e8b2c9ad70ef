//! The pciif protocol, by which a PV guest reaches its PCI devices (xen/include/public/io/pciif.h): the shared page,
//! both ends of it, and a PCI frontend in userspace.
//!
//! ```text
//!                 FrontendEnd::post                          BackendEnd::take
//!   ┌──────┐  fields of op, then active := 1  ┌────────┐  copy, the bit stays set   ┌───────┐
//!   │ idle │ ───────────────────────────────► │ posted │ ─────────────────────────► │ taken │
//!   └──────┘                                  └────────┘                            └───────┘
//!     ▲  ▲        FrontendEnd::give_up             │                                 │     │
//!     │  └──────────── active := 0 ────────────────┴─────────────────────────────────┘     │
//!     └───────── BackendEnd::answer: err, value, vectors, then active := 0 ────────────────┘
//! ```
//! One bit of the page, active, says whose turn it is; notifications over the event channel only say "look". There is
//! one request at a time for all devices of a guest. A frontend that gives up leaves a backend with a copy of a request
//! that is gone: its answer is [`Delivery::Stale`], see [`BackendEnd::answer`].
//!
//! * [`abi`]: numbers of the protocol.
//! * [`SharedPage`]: the layout of the page, in atomics.
//! * [`BackendEnd`] and [`FrontendEnd`]: the two ends, without any I/O.
//! * [`Frontend`]: a frontend that waits for its answers, over a [`Connection`].
//! * [`guest`]: what a Linux guest does with one: enumeration and a driver's steps.
//! * [`trace`]: recorded accesses, and their replay.
#![forbid(unsafe_code)]

pub mod abi;
mod backend;
mod blocking;
mod frontend;
pub mod guest;
mod page;
mod request;
mod sync;
pub mod trace;

pub use backend::{Answer, BackendEnd, Delivery};
pub use blocking::{Connection, Frontend, MsixOutcome, RequestError};
pub use frontend::{Completed, FrontendEnd};
pub use page::SharedPage;
pub use request::{MsixEntries, Request, Width};
