//! A frontend that goes and comes back in a running guest, as kexec and a reload of the module have it. xen-pciback serves a
//! frontend once.

use crate::error::Result;
use crate::machine::devices::{E1000E, NVME};
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, network, nvme};

/// xenbus' folder of pcifront, and its name of the frontend. The module stays: Linux keeps it in use once there was a bus.
const DRIVER: &str = "/sys/bus/xen/drivers/pcifront";
const FRONTEND: &str = "pci-0";

/// pcifront lets go of its frontend and takes it again, twice; the devices are on the bus again and work.
pub fn reload(machine: &mut Machine) -> Result<()> {
    let devices = [machine.find(NVME, 0)?, machine.find(E1000E, 0)?].map(Declared::new);
    machine.start_daemon(&configuration::text(&[("reloader", &devices)]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("reloader"))?;
    nvme::expect_queues(&guest)?;
    network::expect_e1000e(&guest)?;
    for _ in 0..2 {
        guest.channel().sh(&format!("echo {FRONTEND} > {DRIVER}/unbind"))?;
        for model in [NVME, E1000E] {
            in_guest::wait_for_absence(&guest, model)?;
        }
        guest.channel().sh(&format!("dmesg -c > /dev/null; echo {FRONTEND} > {DRIVER}/bind"))?;
        nvme::expect_queues(&guest)?;
        nvme::expect_content(&guest)?;
        network::expect_e1000e(&guest)?;
    }
    Ok(())
}
