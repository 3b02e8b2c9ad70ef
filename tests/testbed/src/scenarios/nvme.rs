//! An NVMe controller, driven by the guest's own driver.

use crate::error::{Result, expect};
use crate::machine::devices::NVME;
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::in_guest;

/// xenpcid is there before the guest is. Two vCPUs, so two I/O queues, each with a vector, and one for the admin queue.
pub fn nvme(machine: &mut Machine) -> Result<()> {
    let device = machine.find(NVME, 0)?;
    machine.start_daemon(&configuration::text(&[("storage", &[Declared::new(device)])]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("storage"))?;
    expect_queues(&guest)?;
    expect_content(&guest)?;
    expect_each_vector_used(&guest)
}

/// The guest's driver has a queue for each vCPU, and complains about nothing. With the kernel's xen-pciback it reports
/// `enable msix get err ffffff8e` and `1/0/0`.
///
/// # Errors
/// [`crate::error::Error::Expectation`] with what it says instead.
pub fn expect_queues(guest: &Guest) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, NVME)?;
    guest.channel().wait_until("a block device of the NVMe controller", "[ -b /dev/nvme0n1 ]")?;
    let dmesg = in_guest::expect_no_complaints(guest)?;
    let queues = dmesg.lines().find(|line| line.contains("default/read/poll queues")).unwrap_or("nothing about queues");
    expect(queues.contains("2/0/0 default/read/poll queues"), "2/0/0 default/read/poll queues", queues)?;
    in_guest::expect_parts(
        "lspci",
        &in_guest::lspci(guest, &sbdf)?,
        &["MSI-X: Enable+", "Kernel driver in use: nvme"],
    )?;
    let vectors = in_guest::interrupts(guest, "nvme0q")?;
    let are_msix = vectors.iter().all(|interrupt| interrupt.kind.contains("msi-x"));
    expect(vectors.len() == 3 && are_msix, "an MSI-X vector for each of 3 queues", format!("{vectors:?}"))
}

/// A read of the whole namespace gives the disk's content.
///
/// # Errors
/// As [`in_guest::expect_disk`].
pub fn expect_content(guest: &Guest) -> Result<()> {
    in_guest::expect_disk(guest, "/dev/nvme0n1")
}

/// Each queue has an interrupt of its own, and each of them comes when its queue is used.
fn expect_each_vector_used(guest: &Guest) -> Result<()> {
    let before = in_guest::interrupts(guest, "nvme0q")?;
    for cpu in 0..2 {
        let read = "dd if=/dev/nvme0n1 of=/dev/null bs=64k count=16 iflag=direct";
        guest.channel().sh(&format!("taskset -c {cpu} {read}"))?;
    }
    // Its answer comes through the admin queue; reading the attribute waits for it.
    guest.channel().sh("echo 1 > /sys/class/nvme/nvme0/rescan_controller; cat /sys/class/nvme/nvme0/state")?;
    in_guest::expect_counted_up(&before, &in_guest::interrupts(guest, "nvme0q")?)
}
