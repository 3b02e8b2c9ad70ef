//! Domains that are kept paused until they have their devices.

use crate::error::{Result, expect};
use crate::machine::devices::NVME;
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::nvme;

/// A device that is not there when its domain is created: the domain stays paused, and runs when the device has come, and has
/// it. One that never comes: the domain runs after the deadline, without it.
pub fn hold_until_attached(machine: &mut Machine) -> Result<()> {
    let devices = [machine.find(NVME, 0)?, machine.find(NVME, 1)?];
    let [late, never] = &devices;
    let bridge = machine.dom0().sh(&format!("basename $(dirname $(readlink -f /sys/bus/pci/devices/{late}))"))?;
    let bridge = bridge.trim();
    for sbdf in &devices {
        machine.dom0().sh(&format!("echo 1 > /sys/bus/pci/devices/{sbdf}/remove"))?;
    }
    let patient = configuration::text(&[("patient", &[Declared::new(late)])]);
    let daemon = machine.start_daemon(&format!("[daemon]\nhold = \"110s\"\n\n{patient}"))?;
    let guest = machine.create_guest(&GuestConfiguration::new("patient"))?;
    expect(machine.is_paused(&guest)?, "patient paused, whose device is not there", "that it runs")?;
    // The bus that it was on; the other one's is not searched.
    machine.dom0().sh(&format!("echo 1 > /sys/bus/pci/devices/{bridge}/rescan"))?;
    machine.wait_for_guest(&guest)?;
    nvme::expect_queues(&guest)?;
    expect(!machine.is_paused(&guest)?, "patient to run", "that it is paused")?;
    machine.destroy_guest(&guest)?;
    daemon.stop(machine)?;

    // The rescan may have found this one, too.
    let folder = format!("/sys/bus/pci/devices/{never}");
    machine.dom0().sh(&format!("test ! -e {folder} || echo 1 > {folder}/remove"))?;
    let hasty = configuration::text(&[("hasty", &[Declared::new(never)])]);
    machine.start_daemon(&format!("[daemon]\nhold = \"15s\"\n\n{hasty}"))?;
    let guest = machine.create_guest(&GuestConfiguration::new("hasty"))?;
    expect(machine.is_paused(&guest)?, "hasty paused, whose device is not there", "that it runs")?;
    machine.wait_for_guest(&guest)?;
    let devices = guest.channel().sh("ls /sys/bus/pci/devices")?;
    expect(devices.is_empty(), "no device in hasty", devices)?;
    machine.dom0().sh("echo 1 > /sys/bus/pci/rescan").map(drop)
}
