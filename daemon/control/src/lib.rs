//! The control socket of xenpcid: what is said over it, its server in the daemon, and its client in `xenpci`.
//!
//! The protocol is [varlink](https://varlink.org): JSON objects over a unix stream socket, each ended by a NUL. A call
//! names a method and gives its parameters; its reply gives the result, or an error with a name. `varlinkctl introspect`
//! shows what there is, from [`CONTROL_DESCRIPTION`].
//!
//! ```text
//!   xenpci, varlinkctl                                    xenpcid
//!   ──────────────────    /run/xenpcid/control            ─────────────────────────────────────────
//!   Client::call ───────► JSON, NUL ────────────────────► Server ──► Admission: who may
//!        ▲                                                   │
//!        │                                                dispatch ──► Service (what the daemon does)
//!        │                                                   │            │
//!        └─────────────── JSON, NUL ◄────────────────────────┴────────────┘
//!                         once, or with "more": Progress, Events
//! ```
//! An operation ([`Attach`] and its like) runs in a task of its own: a client that goes away ends what it is sent, not
//! the operation. [`Events`] go to each [`Watcher`] through a bounded queue; a slow one loses some and is told how many.
//! [`memory`] is a service of recorded answers, for tests of clients.
#![forbid(unsafe_code)]

mod admission;
mod client;
mod denied;
mod description;
mod dispatch;
mod events;
mod interface;
pub mod memory;
mod message;
mod operations;
mod progress;
mod refusal;
mod server;
mod types;

pub use admission::{Admission, GroupError, Rights};
pub use client::{Client, ClientError, Replies};
pub use denied::{Denied, Operation, Outcome};
pub use description::{DeviceDescription, Resource, WrongDescription};
pub use dispatch::Service;
pub use events::{Event, EventKind, Events, Watcher};
pub use interface::{
    DeniedReply, Description, DeviceReply, DevicesReply, DomainsReply, EventReply, FindingsReply, FunctionsReply,
    InterruptsReply, PlanReply, ServiceInfo,
};
pub use interface::{
    DescribeDevice, Examine, GetInfo, GetInterfaceDescription, GetPlan, GetStatus, ListDenied, ListDevices,
    ListDomains, ListFunctions, ListInterrupts, Method, Watch,
};
pub use operations::{Apply, Attach, Claim, Detach, Release};
pub use operations::{AttachDevice, Attached, Claimed, Options, ReservedMemory, Reset, Step};
pub use progress::Progress;
pub use refusal::Refusal;
pub use server::{BindError, Limits, Server};
pub use types::{
    Action, ActionKind, BusDevice, Device, DeviceState, Domain, FailedReset, Finding, Function, Guest, Interrupt,
    InterruptKind, Plan, ResetReport, Status,
};

/// Where the daemon's socket is, unless it is told otherwise.
pub const SOCKET: &str = "/run/xenpcid/control";

/// The interface of the daemon, in varlink's own language.
pub const CONTROL_DESCRIPTION: &str = include_str!("../io.xenpcid.Control.varlink");

/// The interface that every varlink service has.
pub const SERVICE_DESCRIPTION: &str = include_str!("../org.varlink.service.varlink");
