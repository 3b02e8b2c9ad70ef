//! The xenpcid daemon: PCI passthrough for Xen.
//!
//! ```text
//!   TOML ──► supervisor ──► plan ──► toolstack ──► session (one for each guest) ──► ring (a thread for each guest)
//!               │  holds             ▲    │ claims      │  assigns, publishes,           │  answers configuration accesses,
//!               ▼                    │    ▼ and renews  ▼  follows xenbus states         ▼  switches MSI and MSI-X
//!            attempts      xenpci ─ control  claim ◄── assignment ◄──────────────── interrupts
//!                                         ▲  └─────────────┴──── ledger ────────────────┘
//!                                       checks
//! ```
//! * [`startup`]: whether it can work here; [`files`]: what is declared.
//! * [`supervisor`]: what is declared is made so and kept so; [`plan`]: what there is to do; [`holds`]: domains that wait for their
//!   devices; [`attempts`]: what failed and is tried again.
//! * [`toolstack`]: claim, attach, detach, release, for the supervisor and for [`control`], the socket.
//! * [`checks`]: what would go wrong.
//! * [`claim`]: a device taken from the host; [`assignment`]: given to a guest; [`interrupts`]: its vectors; [`ledger`]: how all
//!   of that is undone; [`pool`]: where each device is.
//! * [`session`]: the handshake with a guest; [`ring`]: its requests; [`denials`]: what it tried with its devices and did not get.
//! * [`demo`]: all of it on a simulated host. `docs/lifecycle.md`: what happens when.
#![forbid(unsafe_code)]

pub mod assignment;
pub mod attempts;
pub mod checks;
pub mod claim;
pub mod control;
mod deadline;
pub mod demo;
pub mod denials;
pub mod files;
pub mod holds;
pub mod interrupts;
pub mod ledger;
pub mod plan;
pub mod pool;
mod rate_limit;
pub mod ring;
pub mod session;
pub mod startup;
pub mod supervisor;
pub mod toolstack;
