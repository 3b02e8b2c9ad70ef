//! Devices that are declared by what they are, on a machine where the numbers of buses change.

use crate::error::{Error, Result, expect};
use crate::machine::devices::{E1000E, IGB, Layout, NVME};
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::{in_guest, nvme, traffic};

const NAME: &str = "keeper";

/// By its serial number, by its place on the root bus, and by vendor and device: after a reboot that moves all buses by one,
/// the same file gives the guest the same devices.
pub fn identity(machine: &mut Machine) -> Result<()> {
    let card = machine.find(E1000E, 1)?;
    let listing = machine.dom0().sh(&format!("lspci -vv -s {card}"))?;
    let serial =
        listing.lines().find_map(|line| line.split_once("Device Serial Number ")).map(|(_, serial)| serial.trim());
    let serial = serial.ok_or_else(|| Error::Expectation {
        expected: format!("a Device Serial Number of {card}"),
        found: listing.clone(),
    })?;
    let text = format!(
        "[[domain]]\nname = \"{NAME}\"\ndevices = [\n    {{ serial = \"{serial}\" }},\n    \
         {{ path = \"pci0000:00/0a.0/00.0\" }},\n    {{ vendor = \"8086\", device = \"10c9\" }},\n]\n"
    );
    let before = expect_devices(machine, &text)?;
    machine.reboot(Layout::OneMoreBus)?;
    let after = expect_devices(machine, &text)?;
    let have_moved = before.iter().zip(&after).all(|(before, after)| before != after);
    expect(have_moved, format!("other addresses than {before:?} after the reboot"), format!("{after:?}"))
}

/// The guest has exactly the devices that are meant, whatever their addresses are, and they work.
fn expect_devices(machine: &mut Machine, text: &str) -> Result<Vec<String>> {
    let meant = vec![machine.find(E1000E, 1)?, machine.find(NVME, 1)?, machine.find(IGB, 0)?];
    machine.start_daemon(text)?;
    let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;
    nvme::expect_queues(&guest)?;
    traffic::expect_use(&guest, E1000E)?;
    in_guest::wait_for_device(&guest, IGB)?;
    machine.expect_owner(&meant, &format!("d{}", guest.domid))?;
    let owners = machine.owners()?;
    let count = owners.values().filter(|owner| **owner == format!("d{}", guest.domid)).count();
    expect(count == meant.len(), format!("{} devices in the guest", meant.len()), count.to_string())?;
    machine.destroy_guest(&guest)?;
    Ok(meant)
}
