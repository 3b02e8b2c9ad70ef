//! I/O that goes on in a guest while something is done to another device.

use crate::error::{Error, Result, expect};
use crate::machine::Guest;
use crate::machine::devices::{Model, NVME};
use crate::scenarios::{in_guest, network};

/// Uses the device over and over in the background. Each success is counted in a file, a failure ends it.
///
/// # Errors
/// If the guest does not answer.
pub fn start(guest: &Guest, model: Model) -> Result<()> {
    let once = once(model);
    guest
        .channel()
        .sh(&format!(
            "rm -f /tmp/stop /tmp/done /tmp/failed; : > /tmp/uses
             (while [ ! -e /tmp/stop ]; do {once} > /tmp/last 2>&1 && echo >> /tmp/uses || {{ cp /tmp/last /tmp/failed; break; }}
             done; : > /tmp/done) > /dev/null 2>&1 &"
        ))
        .map(drop)
}

/// Waits until the device was used several times more than until now.
///
/// # Errors
/// If it does not go on, with what went wrong.
pub fn expect_going_on(guest: &Guest) -> Result<()> {
    let count = guest.channel().sh("wc -l < /tmp/uses")?;
    let count: u32 = count
        .trim()
        .parse()
        .map_err(|_| Error::Expectation { expected: "a number of uses".to_owned(), found: count.clone() })?;
    let condition = format!("[ -e /tmp/failed ] || [ $(wc -l < /tmp/uses) -ge {} ]", count + 3);
    guest.channel().wait_until("I/O to go on", &condition)?;
    let failed = guest.channel().sh("cat /tmp/failed 2> /dev/null || true")?;
    expect(failed.is_empty(), format!("no failure of the I/O in {}", guest.name), failed)
}

/// Ends it, and expects that it did not fail.
///
/// # Errors
/// If it did, with what went wrong.
pub fn stop(guest: &Guest) -> Result<()> {
    guest.channel().sh("touch /tmp/stop")?;
    guest.channel().wait_until("I/O to end", "[ -e /tmp/done ]")?;
    let failed = guest.channel().sh("cat /tmp/failed 2> /dev/null || true")?;
    expect(failed.is_empty(), format!("no failure of the I/O in {}", guest.name), failed)
}

/// The device has a driver, and does what it is for: a disk is read, a network card sends and receives.
///
/// # Errors
/// If it does not.
pub fn expect_use(guest: &Guest, model: Model) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, model)?;
    if model == NVME {
        guest.channel().wait_until("a block device of the NVMe controller", "[ -b /dev/nvme0n1 ]")?;
    } else {
        let interface = in_guest::network_interface(guest, &sbdf)?;
        network::bring_up(guest, &interface, "10.0.2.24")?;
    }
    guest.channel().sh(&once(model)).map(drop)
}

fn once(model: Model) -> String {
    if model == NVME {
        "dd if=/dev/nvme0n1 of=/dev/null bs=64k count=16 iflag=direct".to_owned()
    } else {
        format!("ping -c 1 -W 10 {}", network::PEER)
    }
}
