//! What scenarios look at inside a guest.

use crate::error::{Error, Result, expect};
use crate::images::DISK_SHA256;
use crate::machine::devices::{self, Model};
use crate::machine::interrupts::{self, Interrupt};
use crate::machine::{DEADLINE, Guest};

/// Linux's messages when something on the passthrough path did not work: pcifront's about the backend's answers, and the
/// PCI core's about memory that it could not place.
const COMPLAINTS: &[&str] = &["get err", "can't claim BAR", "can't assign", "failed to assign"];

/// Waits until a device of this model is on the guest's virtual bus, and returns its address there.
///
/// # Errors
/// [`Error::Deadline`] if it does not come.
pub fn wait_for_device(guest: &Guest, model: Model) -> Result<String> {
    let condition = format!("grep -qs PCI_ID={:04X}:{:04X} /sys/bus/pci/devices/*/uevent", model.vendor, model.device);
    guest.channel().wait_until(&format!("a device {model}"), &condition)?;
    let functions = devices::parse(&guest.channel().sh(devices::LIST)?);
    let found = functions.into_iter().find(|found| (found.vendor, found.device) == (model.vendor, model.device));
    found
        .map(|found| found.sbdf)
        .ok_or_else(|| Error::Deadline { what: format!("{model} to stay in {}", guest.name), deadline: DEADLINE })
}

/// Waits until no device of this model is on the guest's virtual bus.
///
/// # Errors
/// [`Error::Deadline`] if it stays.
pub fn wait_for_absence(guest: &Guest, model: Model) -> Result<()> {
    let condition =
        format!("! grep -qs PCI_ID={:04X}:{:04X} /sys/bus/pci/devices/*/uevent", model.vendor, model.device);
    guest.channel().wait_until(&format!("{model} to leave"), &condition)
}

/// Takes a device from its driver, whose name is the model's.
///
/// # Errors
/// If that is not its driver.
pub fn unbind(guest: &Guest, model: Model) -> Result<()> {
    let sbdf = wait_for_device(guest, model)?;
    guest.channel().sh(&format!("echo {sbdf} > /sys/bus/pci/drivers/{}/unbind", model.name)).map(drop)
}

/// Gives a device to its driver, which sets it up anew.
///
/// # Errors
/// If the driver does not take it.
pub fn bind(guest: &Guest, model: Model) -> Result<()> {
    let sbdf = wait_for_device(guest, model)?;
    guest.channel().sh(&format!("echo {sbdf} > /sys/bus/pci/drivers/{}/bind", model.name)).map(drop)
}

/// Waits until the guest's driver has made a network interface of the device at `sbdf`, and returns its name.
///
/// # Errors
/// [`Error::Deadline`] if it does not.
pub fn network_interface(guest: &Guest, sbdf: &str) -> Result<String> {
    let folder = format!("/sys/bus/pci/devices/{sbdf}/net");
    guest.channel().wait_until(&format!("a network interface of {sbdf}"), &format!("ls {folder} > /dev/null 2>&1"))?;
    Ok(guest.channel().sh(&format!("ls {folder}"))?.trim().to_owned())
}

/// The interrupts whose handlers' names have `name` in them.
///
/// # Errors
/// If the guest does not answer.
pub fn interrupts(guest: &Guest, name: &str) -> Result<Vec<Interrupt>> {
    let mut all = interrupts::parse(&guest.channel().sh("cat /proc/interrupts")?);
    all.retain(|interrupt| interrupt.name.contains(name));
    Ok(all)
}

/// Expects that each interrupt in `before` came again.
///
/// # Errors
/// [`Error::Expectation`] that names those that did not.
pub fn expect_counted_up(before: &[Interrupt], after: &[Interrupt]) -> Result<()> {
    let count = |name: &str| after.iter().find(|interrupt| interrupt.name == name).map_or(0, |found| found.count);
    let idle: Vec<&str> =
        before.iter().filter(|was| count(&was.name) <= was.count).map(|was| was.name.as_str()).collect();
    expect(idle.is_empty(), "interrupts on every vector", format!("none on {}: {after:?}", idle.join(", ")))
}

/// A read of a whole block device gives the content of the machine's disks.
///
/// # Errors
/// [`Error::Expectation`] with both hashes.
pub fn expect_disk(guest: &Guest, path: &str) -> Result<()> {
    // The page cache would answer a second read.
    let found = guest.channel().sh(&format!("echo 3 > /proc/sys/vm/drop_caches; sha256sum < {path}"))?;
    expect(found.starts_with(DISK_SHA256), format!("SHA-256 {DISK_SHA256} of the whole {path}"), found)
}

/// `lspci -vv` of one device.
///
/// # Errors
/// If the guest does not answer.
pub fn lspci(guest: &Guest, sbdf: &str) -> Result<String> {
    guest.channel().sh(&format!("lspci -vv -s {sbdf}"))
}

/// Expects each of `parts` in a text.
///
/// # Errors
/// [`Error::Expectation`] with the first that is missing, and the text.
pub fn expect_parts(what: &str, text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        expect(text.contains(part), format!("`{part}` in {what}"), format!("\n{text}"))?;
    }
    Ok(())
}

/// Expects that the guest's kernel had nothing to complain about on the passthrough path. Returns its messages.
///
/// # Errors
/// [`Error::Expectation`] with the complaint.
pub fn expect_no_complaints(guest: &Guest) -> Result<String> {
    let dmesg = guest.channel().sh("dmesg")?;
    let complaint = dmesg.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)));
    expect(complaint.is_none(), format!("no complaint of {}'s kernel", guest.name), complaint.unwrap_or_default())?;
    Ok(dmesg)
}
