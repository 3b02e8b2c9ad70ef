//! A device of two functions, by `*`.

use crate::error::{Result, expect};
use crate::machine::devices::E1000E;
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::in_guest;

const NAME: &str = "whole";

/// Both functions are claimed, attached to one slot with their own function numbers, work, are detached and given back; libxl
/// attaches one of them.
pub fn all_functions(machine: &mut Machine) -> Result<()> {
    let functions = [machine.find(E1000E, 2)?, machine.find(E1000E, 3)?];
    let device = functions.first().map(|sbdf| sbdf.replace(".0", ".*")).unwrap_or_default();
    machine.start_daemon("")?;
    let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;

    machine.dom0().sh(&format!("xenpci pci-assignable-add '{device}'"))?;
    let listed = machine.dom0().sh("xenpci pci-assignable-list")?;
    let all: String = functions.iter().map(|sbdf| format!("{sbdf} \n")).collect();
    expect(listed == all, format!("{all:?} as what can be assigned"), format!("{listed:?}"))?;

    machine.dom0().sh(&format!("xenpci pci-attach {NAME} '{device}@5'"))?;
    in_guest::wait_for_device(&guest, E1000E)?;
    let seen = guest.channel().sh("ls /sys/bus/pci/devices")?;
    expect(seen == "0000:00:05.0\n0000:00:05.1\n", "both functions in slot 5 of the guest's bus", seen)?;
    for sbdf in ["0000:00:05.0", "0000:00:05.1"] {
        in_guest::network_interface(&guest, sbdf)?;
    }
    in_guest::expect_no_complaints(&guest)?;
    machine.expect_owner(&functions, &format!("d{}", guest.domid))?;
    let slots = machine.dom0().sh(&format!("xenpci pci-list {NAME}"))?;
    let expected = format!("Vdev Device\n05.0 {}\n05.1 {}\n", functions[0], functions[1]);
    expect(slots == expected, expected, slots)?;

    machine.dom0().sh(&format!("xenpci pci-detach {NAME} '{device}'"))?;
    in_guest::wait_for_absence(&guest, E1000E)?;
    machine.expect_owner(&functions, "DomIO")?;
    machine.dom0().sh(&format!("xenpci pci-assignable-remove '{device}'"))?;
    machine.expect_owner(&functions, "d0")
}
