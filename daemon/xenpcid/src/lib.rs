//! The xenpcid daemon: PCI passthrough for Xen.
//!
//! ```text
//!   TOML ──► supervisor ──────► session (one for each guest) ──────► ring (a thread for each guest)
//!               │  claims           │  assigns, publishes,              │  answers configuration accesses,
//!               ▼  and renews       ▼  follows xenbus states            ▼  switches MSI and MSI-X
//!             claim ◄────────── assignment ◄──────────────────────  interrupts
//!               └───────────────────┴────── ledger ────────────────────┘
//! ```
//! * [`startup`]: whether it can work here.
//! * [`supervisor`]: which domain has which devices.
//! * [`claim`]: a device taken from the host; [`assignment`]: given to a guest; [`interrupts`]: its vectors; [`ledger`]: how all
//!   of that is undone.
//! * [`demo`]: all of it on a simulated host.
//! * [`pool`]: where each device is.
//! * [`denials`]: what a guest tried with its devices and did not get; [`control`]: who may ask for it, and how.
//! * [`session`]: the handshake with a guest; [`bus`]: its devices; [`ring`]: its requests.
#![forbid(unsafe_code)]

pub mod assignment;
pub mod bus;
pub mod claim;
pub mod control;
pub mod demo;
pub mod denials;
pub mod interrupts;
pub mod ledger;
pub mod pool;
mod rate_limit;
pub mod ring;
pub mod session;
pub mod startup;
pub mod supervisor;
