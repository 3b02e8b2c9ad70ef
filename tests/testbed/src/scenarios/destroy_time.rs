//! How long `xl destroy` of a guest with devices takes.

use std::time::{Duration, Instant};

use crate::error::{Result, expect};
use crate::machine::devices::{E1000, E1000E, Model, NVME};
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};

const NAME: &str = "five";

const DEVICES: [(Model, usize); 5] = [(NVME, 0), (NVME, 1), (E1000E, 0), (E1000E, 1), (E1000, 0)];

const ALL_THERE: &str = "[ -b /dev/nvme0n1 -a -b /dev/nvme1n1 -a -e /sys/class/net/eth2 ]";

/// A guest that does not answer, for which libxl waits 10 s for each device with xen-pciback, is destroyed in a fifth of that
/// time, or less; afterwards every device is in quarantine, and nothing of the guest is left in xenstore.
pub fn destroy_time(machine: &mut Machine) -> Result<()> {
    let devices = DEVICES.map(|(model, index)| machine.find(model, index));
    let devices: Vec<String> = devices.into_iter().collect::<Result<_>>()?;

    let configuration = GuestConfiguration { pci: devices.clone(), ..GuestConfiguration::new(NAME) };
    let theirs = machine.with_pciback(&devices, |machine| time(machine, &configuration))?;
    // libxl leaves the nodes of a guest that did not answer.
    machine.dom0().sh("xenstore-rm /local/domain/0/backend/pci 2> /dev/null || true")?;

    let declared: Vec<Declared> = devices.iter().map(Declared::without_reset).collect();
    let daemon = machine.start_daemon(&configuration::text(&[(NAME, &declared)]))?;
    let ours = time(machine, &GuestConfiguration::new(NAME))?;
    daemon.wait_for_lines(DEVICES.len(), &["released", NAME])?;

    let (theirs, ours) = (theirs.as_secs_f64(), ours.as_secs_f64());
    machine.report(&format!("xl destroy with five devices: {theirs:.1} s with xen-pciback, {ours:.1} s with xenpcid"));
    expect(ours <= theirs / 5.0, format!("a fifth of {theirs:.1} s, or less"), format!("{ours:.1} s"))?;
    machine.expect_owner(&devices, "DomIO")?;
    let nodes = machine.pci_nodes()?;
    let left: Vec<&String> = nodes.iter().filter(|path| path.starts_with("/local/domain/")).collect();
    expect(left.is_empty(), "nothing of the guest's virtual bus in xenstore", format!("{left:?}"))
}

/// Starts the guest, waits until its drivers have all devices, stops it in the middle of that, and destroys it.
fn time(machine: &mut Machine, configuration: &GuestConfiguration) -> Result<Duration> {
    let guest = machine.start_guest(configuration)?;
    guest.channel().wait_until("two disks and three network cards", ALL_THERE)?;
    machine.dom0().sh(&format!("xl pause {}", guest.domid))?;
    let begun = Instant::now();
    machine.dom0().sh(&format!("xl destroy {}", guest.domid))?;
    let elapsed = begun.elapsed();
    machine.wait_for_end(&guest)?;
    Ok(elapsed)
}
