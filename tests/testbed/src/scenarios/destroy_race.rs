//! `xl destroy` in the middle of something.

use crate::error::{Error, Result, expect};
use crate::machine::devices::NVME;
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, nvme};

const NAME: &str = "doomed";

/// Seconds after which xenpcid and the guest are in the middle of an attach or a detach, which takes one or two.
const DELAY: &str = "0.4";

/// The domain is destroyed during the handshake at its boot, during an attach and during a detach. Each time the device ends in
/// quarantine and nothing of the domain is left in xenstore; in the end it works in another guest.
pub fn destroy_race(machine: &mut Machine) -> Result<()> {
    let device = machine.find(NVME, 0)?;
    let declared = configuration::text(&[(NAME, &[Declared::new(&device)])]);
    let daemon = machine.start_daemon(&declared)?;
    for delay in ["0.5", "3"] {
        let guest = machine.create_guest(&GuestConfiguration::new(NAME))?;
        machine.dom0().sh(&format!("sleep {delay}; xl destroy {}", guest.domid))?;
        machine.wait_for_end(&guest)?;
        expect_taken_back(machine, &guest, &device)?;
    }
    daemon.stop(machine)?;

    machine.start_daemon(&configuration::devices(std::slice::from_ref(&device)))?;
    for during in ["attach", "detach"] {
        let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;
        if during == "detach" {
            machine.dom0().sh(&format!("xenpci pci-attach {NAME} {device}"))?;
            in_guest::wait_for_device(&guest, NVME)?;
        }
        // It may succeed, or say that the domain has gone; it must end.
        let operation = format!("xenpci pci-{during} {NAME} {device} > /dev/null 2>&1");
        machine.dom0().sh(&format!("({operation}) & sleep {DELAY}; xl destroy {}; wait", guest.domid))?;
        machine.wait_for_end(&guest)?;
        expect_taken_back(machine, &guest, &device)?;
    }
    let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;
    machine.dom0().sh(&format!("xenpci pci-attach {NAME} {device}"))?;
    nvme::expect_queues(&guest)?;
    nvme::expect_content(&guest)
}

fn expect_taken_back(machine: &Machine, guest: &Guest, device: &str) -> Result<()> {
    machine.wait_for_owner(device, "DomIO")?;
    // Those of former domains may be what libxl left of guests of xen-pciback.
    let is_left = format!("xenstore-exists /local/domain/0/backend/pci/{}", guest.domid);
    let gone = machine.dom0().wait_until("the end of the domain's virtual bus in xenstore", &format!("! {is_left}"));
    if let Err(error @ Error::Deadline { .. }) = gone {
        return Err(Error::Expectation { expected: error.to_string(), found: machine.pci_nodes()?.join(" ") });
    }
    let record = format!("/libxl/pci/{}/domid", device.replace([':', '.'], "-"));
    let outcome = machine.dom0().sh(&format!("xenstore-read {record} 2> /dev/null || true"))?;
    expect(outcome.is_empty(), "no record of a domain that has the device", outcome)
}
