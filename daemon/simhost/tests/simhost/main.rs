//! The rules of the simulated host, each with its errno, and the conformance suite of `PciHost`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop where something is wrong")]

mod domains;
mod dumps;
mod events;
mod guest;
mod hardware;
mod hypervisor;
mod leaks;
mod pci_host;
mod violations;

use xenpcid_address::Sbdf;
use xenpcid_simhost::{SimDevice, World};

/// An e1000e: memory and port BARs, MSI and MSI-X, recorded.
const NIC: Sbdf = Sbdf::from_devfn(0, 1, 0);
/// An NVMe controller with a BAR above 4 GiB.
const NVME: Sbdf = Sbdf::from_devfn(0, 2, 0);
/// A conventional NIC with INTx only, and no reset.
const OLD_NIC: Sbdf = Sbdf::from_devfn(0, 3, 0);
/// An SR-IOV NIC and one of its virtual functions.
const PHYSICAL: Sbdf = Sbdf::from_devfn(0, 4, 0);
const VIRTUAL: Sbdf = Sbdf::from_devfn(0, 4, 0x80);
/// Nothing is there.
const ABSENT: Sbdf = Sbdf::from_devfn(0, 9, 0);

/// A host with one device of each kind.
fn world() -> World {
    let world = World::new();
    world.add_device(SimDevice::e1000e(NIC));
    world.add_device(SimDevice::nvme(NVME));
    world.add_device(SimDevice::e1000(OLD_NIC));
    world.add_device(SimDevice::igb(PHYSICAL));
    world.add_device(SimDevice::igb_vf(VIRTUAL, PHYSICAL, 0));
    world
}

/// What a claim does about power.
const PINNED: xenpcid_host::PowerPolicy =
    xenpcid_host::PowerPolicy { runtime_suspend: false, d3cold_allowed: Some(false) };
