//! A guest that reboots, or crashes, and that xl starts anew: another domain with the same name and devices.

use std::rc::Rc;

use crate::error::{Result, expect};
use crate::machine::devices::{E1000E, NVME};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{network, nvme, traffic};

const NAME: &str = "again";

/// Two reboots in a row; each time the devices are there and work, and nothing is left of the domain that was.
pub fn reboot(machine: &mut Machine) -> Result<()> {
    let (mut guest, devices) = start(machine)?;
    let nodes = machine.pci_nodes()?.len();
    for _ in 0..2 {
        guest = end_and_restart(machine, &guest, "reboot -f")?;
        expect_working(machine, &guest, &devices)?;
        let now = machine.pci_nodes()?;
        expect(now.len() == nodes, format!("{nodes} xenstore nodes, as before the reboot"), format!("{now:?}"))?;
    }
    Ok(())
}

/// A crash in the middle of I/O: the DMA under way ends before the memory that it goes to is another's.
pub fn crash(machine: &mut Machine) -> Result<()> {
    let (guest, devices) = start(machine)?;
    traffic::start(&guest, NVME)?;
    traffic::expect_going_on(&guest)?;
    let guest = end_and_restart(machine, &guest, "echo c > /proc/sysrq-trigger")?;
    expect_working(machine, &guest, &devices)
}

fn start(machine: &mut Machine) -> Result<(Rc<Guest>, [String; 2])> {
    let devices = [machine.find(NVME, 0)?, machine.find(E1000E, 0)?];
    machine.start_daemon(&configuration::text(&[(NAME, &devices.clone().map(Declared::new))]))?;
    let guest = machine.start_guest(&GuestConfiguration { restarts: true, ..GuestConfiguration::new(NAME) })?;
    expect_working(machine, &guest, &devices)?;
    Ok((guest, devices))
}

fn end_and_restart(machine: &mut Machine, guest: &Guest, command: &str) -> Result<Rc<Guest>> {
    // The answer to the command comes before the end.
    guest.channel().sh(&format!("(sleep 0.5; {command}) > /dev/null 2>&1 &"))?;
    machine.wait_for_restart(guest)
}

fn expect_working(machine: &Machine, guest: &Guest, devices: &[String]) -> Result<()> {
    nvme::expect_queues(guest)?;
    nvme::expect_content(guest)?;
    network::expect_e1000e(guest)?;
    machine.expect_owner(devices, &format!("d{}", guest.domid))
}
