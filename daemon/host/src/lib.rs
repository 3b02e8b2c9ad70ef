//! The ways into Linux and Xen that xenpcid needs.
//!
//! Each is a trait with exactly two implementations, the real one here and the simulated one in `xenpcid-simhost`:
//!
//! | trait | real | what for |
//! |---|---|---|
//! | [`PciHost`] | [`Sysfs`] | take a function from its driver, enable, reset, read and write its configuration space |
//! | [`Hypervisor`] | libxenctrl and `/dev/xen/privcmd`: `Xen` | domctls and physdev operations |
//! | [`Grants`] | `/dev/xen/gntdev`: [`GrantDevice`] | map the page a guest shares |
//! | [`EventChannels`] | `/dev/xen/evtchn`: [`EventDevice`] | be woken by a guest, and wake it |
//!
//! All calls block, most of them for microseconds; [`PciHost::reset`], [`PciHost::unbind`] and [`PciHost::probe`] can take
//! seconds and belong on a thread of their own. There is no hypercall in xenpcid outside these traits, and each request
//! names the domain and the function it is for: this is the seam at which a privileged broker process can stand later.
//!
//! The other side of a ring, for a frontend in a guest's userspace: [`GrantAllocator`] shares a page,
//! [`EventDevice::open_unbound`] opens a port.
//!
//! This is the only crate of the product with `unsafe` in it.

mod capabilities;
mod error;
mod events;
mod grants;
mod host_use;
mod hypervisor;
mod interrupt_routes;
mod pci;

pub mod dom0;
mod evtchn;
mod gntalloc;
mod gntdev;
mod sysfs;
mod virtual_function;
#[cfg(feature = "libxenctrl")]
mod xen;

use std::sync::Arc;

pub use capabilities::{find_capability, find_extended_capability, serial_number};
pub use error::HostError;
pub use events::{EventChannels, EventPort, Wakeup};
pub use evtchn::EventDevice;
pub use gntalloc::{GrantAllocator, GrantedOwnPage};
pub use gntdev::GrantDevice;
pub use grants::{GrantedPage, Grants};
pub use host_use::HostUse;
pub use hypervisor::{
    DomainInfo, Hypervisor, HypervisorInfo, InterruptRoute, MsiVector, Pirq, ReservedMemory, ShutdownReason, Vcpu,
};
pub use nix::errno::Errno;
pub use pci::{ConfigSpace, FunctionDescription, PciHost, PowerPolicy, VirtualFunctions};
pub use sysfs::Sysfs;
#[cfg(feature = "libxenctrl")]
pub use xen::Xen;

/// One host, real or simulated.
#[derive(Clone)]
pub struct Host {
    /// Functions of the host.
    pub pci: Arc<dyn PciHost>,
    /// Domctls and physdev operations.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Pages shared by guests.
    pub grants: Arc<dyn Grants>,
    /// Event channels to guests.
    pub events: Arc<dyn EventChannels>,
}

#[cfg(feature = "libxenctrl")]
impl Host {
    /// The host this process runs on.
    ///
    /// # Errors
    /// If libxenctrl or one of the devices below `/dev/xen` cannot be opened, which [`dom0::Dom0Facts`] explains beforehand.
    pub fn open() -> Result<Self, HostError> {
        Ok(Self {
            pci: Arc::new(Sysfs::new("/sys")),
            hypervisor: Arc::new(Xen::open()?),
            grants: Arc::new(GrantDevice::new("/dev/xen/gntdev")),
            events: Arc::new(EventDevice::new("/dev/xen/evtchn")),
        })
    }
}
