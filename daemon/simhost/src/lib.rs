//! A simulated host: the traits of `xenpcid-host` in memory.
//!
//! A [`World`] has devices with the behaviour of hardware, Linux' driver core, Xen with its rules, a xenstore, and
//! domains that a toolstack creates. It refuses what a real host refuses, with the same errno. What a real host would
//! let pass and be harmed by is recorded as a violation ([`World::violations`]), and what was given and not taken back
//! is found by [`World::leaks`]. Faults can be injected at any call ([`World::fail`]).
//!
//! | part | stands for |
//! |---|---|
//! | [`SimDevice`] | hardware: configuration registers, power states, reset |
//! | `pci_host` | Linux: sysfs, driver core |
//! | `hypervisor` | Xen: domctls, physdev operations |
//! | `grants`, `events` | Xen: grant tables, event channels; dom0's gntdev and evtchn |
//! | `toolstack`, `libxl` | xl: domains and their xenstore nodes |
//! | [`SimGuest`] | a PV guest with Linux' pcifront |
//! | `traffic` | what a device and a guest can reach: interrupts, DMA, memory, ports |
//!
//! ```
//! use xenpcid_host::{Errno, ReservedMemory};
//! use xenpcid_simhost::{DomainOptions, SimDevice, World};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nvme = "0000:03:00.0".parse()?;
//! let world = World::new();
//! world.add_device(SimDevice::nvme(nvme));
//! let host = world.host(); // what the daemon is given
//!
//! let plain = world.create_domain("web1", [1; 16], DomainOptions { iommu: false, hvm: false }).await?;
//! let refused = host.hypervisor.assign_device(plain, nvme, ReservedMemory::Refuse);
//!
//! assert_eq!(refused.unwrap_err().errno, Errno::EOPNOTSUPP);
//! assert!(world.leaks().is_empty());
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod device;
mod domain;
mod events;
mod function;
mod grants;
mod guest;
mod hypervisor;
mod leaks;
mod ledger;
mod libxl;
mod pci_host;
mod routes;
mod toolstack;
mod traffic;
mod virtual_functions;
mod world;

pub use device::{Bridge, SimDevice};
pub use domain::DomainOptions;
pub use events::GuestRing;
pub use guest::{DriverInterrupts, GuestError, GuestStatus, SimGuest};
pub use ledger::Call;
pub use traffic::{Interrupt, Unreachable};
pub use virtual_functions::VirtualFunctionAddress;
pub use world::{HostOptions, World};
