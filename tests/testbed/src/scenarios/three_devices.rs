//! Three devices of different kinds in one guest.

use crate::error::Result;
use crate::machine::devices::{E1000, E1000E, NVME};
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, network, nvme};

/// Each is on the virtual bus with its own BARs and capabilities, and each works.
pub fn three_devices(machine: &mut Machine) -> Result<()> {
    let devices = [
        Declared::new(machine.find(NVME, 0)?),
        Declared::new(machine.find(E1000E, 0)?),
        Declared::without_reset(machine.find(E1000, 0)?),
    ];
    machine.start_daemon(&configuration::text(&[("three", &devices)]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("three"))?;

    let shown = [
        (NVME, ["Region 0: Memory at", "[size=16K]", "MSI-X: Enable", "Express (v2)"]),
        (E1000E, ["Region 0: Memory at", "[size=128K]", "MSI-X: Enable", "Express (v1)"]),
        (E1000, ["Region 0: Memory at", "[size=128K]", "Region 1: I/O ports at", "Interrupt: pin A"]),
    ];
    for (model, parts) in shown {
        let sbdf = in_guest::wait_for_device(&guest, model)?;
        in_guest::expect_parts(&format!("lspci of {model}"), &in_guest::lspci(&guest, &sbdf)?, &parts)?;
    }
    nvme::expect_queues(&guest)?;
    nvme::expect_content(&guest)?;
    network::expect_e1000e(&guest)?;
    network::take_down(&guest)?;
    network::expect_e1000(&guest)
}
