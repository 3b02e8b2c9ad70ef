//! A SATA controller: MSI without MSI-X, no way to reset it.
//!
//! The e1000e can use MSI too, but QEMU's does not pass its driver's test of it ("MSI interrupt test failed, using legacy
//! interrupt"), without Xen as little as with it.

use crate::error::{Result, expect};
use crate::machine::devices::AHCI;
use crate::machine::{GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::in_guest;

/// Each command to the disk is answered by the one MSI vector.
pub fn ahci(machine: &mut Machine) -> Result<()> {
    let device = machine.find(AHCI, 0)?;
    machine.start_daemon(&configuration::text(&[("sata", &[Declared::without_reset(device)])]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("sata"))?;

    let sbdf = in_guest::wait_for_device(&guest, AHCI)?;
    guest.channel().wait_until("a disk at the controller", "[ -b /dev/sda ]")?;
    in_guest::expect_parts(
        "lspci",
        &in_guest::lspci(&guest, &sbdf)?,
        &["MSI: Enable+", "DisINTx+", "Kernel driver in use: ahci"],
    )?;
    let before = in_guest::interrupts(&guest, "ahci")?;
    let are_msi = before.iter().all(|interrupt| interrupt.kind.ends_with("-msi"));
    expect(before.len() == 1 && are_msi, "one MSI vector of the controller", format!("{before:?}"))?;
    in_guest::expect_disk(&guest, "/dev/sda")?;
    in_guest::expect_counted_up(&before, &in_guest::interrupts(&guest, "ahci")?)?;
    in_guest::expect_no_complaints(&guest)?;

    // The driver stops the controller. Nothing else would, without a reset: it would still read its commands when the
    // guest's memory is no longer there.
    guest.channel().sh("(sleep 0.5; poweroff -f) > /dev/null 2>&1 &")?;
    machine.wait_for_end(&guest)
}
