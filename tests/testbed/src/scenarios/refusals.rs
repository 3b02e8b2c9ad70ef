//! What xenpcid refuses, and that it says why and what to do.

use crate::error::{Error, Result, expect};
use crate::machine::devices::NVME;
use crate::machine::{GuestConfiguration, Machine, Startup};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::in_guest;

/// A domain without an IOMMU context: an error that names the key in xl.cfg, a guest that goes on without the device, and
/// a daemon that goes on serving others.
pub fn no_iommu_domain(machine: &mut Machine) -> Result<()> {
    let devices = [machine.find(NVME, 0)?, machine.find(NVME, 1)?].map(Declared::new);
    let [of_plain, of_other] = &devices;
    let configuration =
        configuration::text(&[("plain", std::slice::from_ref(of_plain)), ("other", std::slice::from_ref(of_other))]);
    let daemon = machine.start_daemon(&configuration)?;
    let plain = machine.start_guest(&GuestConfiguration { has_iommu: false, ..GuestConfiguration::new("plain") })?;
    daemon.wait_for_lines(1, &["plain", "passthrough=\"enabled\""])?;

    let other = machine.start_guest(&GuestConfiguration::new("other"))?;
    in_guest::wait_for_device(&other, NVME)?;
    let devices = plain.channel().sh("ls /sys/bus/pci/devices")?;
    expect(devices.is_empty(), "no device in the guest without an IOMMU context", devices)
}

/// The kernel's backend would answer the same guests: xenpcid does not start beside it.
pub fn pciback_present(machine: &mut Machine) -> Result<()> {
    let device = machine.find(NVME, 0)?;
    machine.dom0().sh("modprobe xen-pciback")?;
    let before = machine.functions()?;
    let started = machine.try_daemon(&configuration::text(&[("any", &[Declared::new(device)])]))?;
    let Startup::Ended { status, log } = started else {
        return Err(Error::Expectation {
            expected: "xenpcid to refuse to start beside xen-pciback".to_owned(),
            found: "that it is ready".to_owned(),
        });
    };
    expect(status != 0, "an exit status other than 0", status.to_string())?;
    in_guest::expect_parts("xenpcid's message", &log, &["xenpcid: ", "xen-pciback", "modprobe -r"])?;
    expect(machine.functions()? == before, "no device touched", format!("{:?}", machine.functions()?))
}
