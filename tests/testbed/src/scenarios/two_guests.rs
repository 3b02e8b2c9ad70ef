//! Two guests do not notice each other.

use crate::error::{Error, Result, expect};
use crate::machine::devices::NVME;
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::nvme;

const FIRST: GuestConfiguration = GuestConfiguration::new("first");
const SECOND: GuestConfiguration = GuestConfiguration::new("second");

/// Both do I/O. The first is destroyed in the middle of it: the second goes on, and a third guest with the first one's
/// name gets the first one's device, in working order.
pub fn two_guests(machine: &mut Machine) -> Result<()> {
    let devices = [machine.find(NVME, 0)?, machine.find(NVME, 1)?].map(Declared::new);
    let [of_first, of_second] = &devices;
    let configuration = configuration::text(&[
        (FIRST.name, std::slice::from_ref(of_first)),
        (SECOND.name, std::slice::from_ref(of_second)),
    ]);
    let daemon = machine.start_daemon(&configuration)?;
    let first = machine.start_guest(&FIRST)?;
    let second = machine.start_guest(&SECOND)?;
    for guest in [&first, &second] {
        nvme::expect_queues(guest)?;
        start_reading(guest)?;
        wait_for_reads(guest)?;
    }

    machine.destroy_guest(&first)?;
    daemon.wait_for_lines(1, &["released", FIRST.name])?;
    wait_for_reads(&second)?;

    let third = machine.start_guest(&FIRST)?;
    nvme::expect_queues(&third)?;
    nvme::expect_content(&third)?;

    wait_for_reads(&second)?;
    let errors = second.channel().sh("cat /tmp/errors; dmesg | grep -E 'I/O error|timeout' || true")?;
    expect(errors.is_empty(), "no I/O error in the second guest", errors)
}

/// Reads the disk over and over in the background; each read that succeeds is counted in a file.
fn start_reading(guest: &Guest) -> Result<()> {
    guest
        .channel()
        .sh(": > /tmp/errors
             (while dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct 2> /tmp/last; do
                  echo >> /tmp/reads
              done; cp /tmp/last /tmp/errors) > /dev/null 2>&1 &")
        .map(drop)
}

/// Waits until several more reads have succeeded than now.
fn wait_for_reads(guest: &Guest) -> Result<()> {
    let count = guest.channel().sh("touch /tmp/reads; wc -l < /tmp/reads")?;
    let count: u32 = count
        .trim()
        .parse()
        .map_err(|_| Error::Expectation { expected: "a number of reads".to_owned(), found: count.clone() })?;
    let condition = format!("[ $(wc -l < /tmp/reads) -ge {} ]", count + 3);
    guest.channel().wait_until("its reads to go on", &condition)
}
