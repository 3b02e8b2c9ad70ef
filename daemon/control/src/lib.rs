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
//!        └─────────────── JSON, NUL ◄────────────────────────┘
//! ```
//! [`memory`] is a service of recorded answers, for tests of clients.
#![forbid(unsafe_code)]

mod admission;
mod client;
mod dispatch;
mod interface;
pub mod memory;
mod message;
mod refusal;
mod server;
mod types;

pub use admission::Admission;
pub use client::{Client, ClientError, Replies};
pub use dispatch::Service;
pub use interface::{DeniedReply, Description, DeviceReply, DevicesReply, ServiceInfo};
pub use interface::{DescribeDevice, GetInfo, GetInterfaceDescription, GetStatus, ListDenied, ListDevices, Method};
pub use refusal::Refusal;
pub use server::{BindError, Limits, Server};
pub use types::{
    Denied, Device, DeviceDescription, DeviceState, Guest, Operation, Outcome, Resource, Status, WrongDescription,
};

/// Where the daemon's socket is, unless it is told otherwise.
pub const SOCKET: &str = "/run/xenpcid/control";

/// The interface of the daemon, in varlink's own language.
pub const CONTROL_DESCRIPTION: &str = include_str!("../io.xenpcid.Control.varlink");

/// The interface that every varlink service has.
pub const SERVICE_DESCRIPTION: &str = include_str!("../org.varlink.service.varlink");
