//! Network cards: by MSI-X, by INTx, and a virtual function.

use crate::error::{Result, expect};
use crate::machine::devices::{E1000, E1000E, IGB, IGBVF};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::in_guest;

/// The host on the machine's network; it answers pings.
pub const PEER: &str = "10.0.2.2";

/// MSI-X. The guest is there before xenpcid is.
pub fn e1000e(machine: &mut Machine) -> Result<()> {
    let device = machine.find(E1000E, 0)?;
    let guest = machine.start_guest(&GuestConfiguration::new("network"))?;
    machine.start_daemon(&configuration::text(&[("network", &[Declared::new(device)])]))?;
    expect_e1000e(&guest)
}

/// The card works by MSI-X, with a vector each for receiving, for sending and for the rest.
///
/// # Errors
/// If something of it does not hold.
pub fn expect_e1000e(guest: &Guest) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, E1000E)?;
    let interface = in_guest::network_interface(guest, &sbdf)?;
    bring_up(guest, &interface, "10.0.2.21")?;
    in_guest::expect_parts(
        "lspci",
        &in_guest::lspci(guest, &sbdf)?,
        &["MSI-X: Enable+", "BusMaster+", "Kernel driver in use: e1000e"],
    )?;
    let before = in_guest::interrupts(guest, &interface)?;
    let are_msix = before.iter().all(|interrupt| interrupt.kind.contains("msi-x"));
    expect(before.len() == 3 && are_msix, "3 MSI-X vectors of the e1000e", format!("{before:?}"))?;
    ping(guest)?;
    let after = in_guest::interrupts(guest, &interface)?;
    // The vector for the rest comes with changes of the link only.
    let data: Vec<_> = before.into_iter().filter(|interrupt| interrupt.name != interface).collect();
    in_guest::expect_counted_up(&data, &after)?;
    in_guest::expect_no_complaints(guest).map(drop)
}

/// INTx, and no way to reset it.
pub fn e1000(machine: &mut Machine) -> Result<()> {
    let device = machine.find(E1000, 0)?;
    machine.start_daemon(&configuration::text(&[("legacy", &[Declared::without_reset(device)])]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("legacy"))?;
    expect_e1000(&guest)
}

/// The card works by INTx.
///
/// # Errors
/// If something of it does not hold.
pub fn expect_e1000(guest: &Guest) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, E1000)?;
    let interface = in_guest::network_interface(guest, &sbdf)?;
    bring_up(guest, &interface, "10.0.2.22")?;
    in_guest::expect_parts(
        "lspci",
        &in_guest::lspci(guest, &sbdf)?,
        &["Interrupt: pin A routed to IRQ", "BusMaster+", "Kernel driver in use: e1000"],
    )?;
    let before = in_guest::interrupts(guest, &interface)?;
    // How a PV guest calls the interrupt of a line that pcifront gave it.
    let are_lines = before.iter().all(|interrupt| interrupt.kind.ends_with("-pcifront"));
    expect(before.len() == 1 && are_lines, "one INTx interrupt of the e1000", format!("{before:?}"))?;
    ping(guest)?;
    in_guest::expect_counted_up(&before, &in_guest::interrupts(guest, &interface)?)?;
    in_guest::expect_no_complaints(guest).map(drop)
}

/// A virtual function, whose vendor and device registers read ffff in hardware.
pub fn igbvf(machine: &mut Machine) -> Result<()> {
    make_virtual_functions(machine)?;
    let function = machine.find(IGBVF, 0)?;
    machine.start_daemon(&configuration::text(&[("virtual", &[Declared::new(function)])]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("virtual"))?;
    expect_igbvf(&guest)
}

/// Has dom0's driver of the physical function make two virtual ones.
///
/// # Errors
/// If it does not.
pub fn make_virtual_functions(machine: &Machine) -> Result<()> {
    let physical = machine.find(IGB, 0)?;
    let folder = format!("/sys/bus/pci/devices/{physical}");
    machine.dom0().sh("modprobe igb")?;
    machine.dom0().sh(&format!("echo 2 > {folder}/sriov_numvfs"))?;
    // A virtual function's driver talks with the physical function's, which serves it while its interface is up.
    machine.dom0().sh(&format!("ip link set $(ls {folder}/net) up")).map(drop)
}

/// The virtual function works by MSI-X, and says who it is.
///
/// # Errors
/// If something of it does not hold.
pub fn expect_igbvf(guest: &Guest) -> Result<()> {
    let sbdf = in_guest::wait_for_device(guest, IGBVF)?;
    let registers = guest.channel().sh(&format!("lspci -n -s {sbdf}"))?;
    expect(registers.contains("8086:10ca"), "vendor 8086 and device 10ca in the guest", registers)?;
    let interface = in_guest::network_interface(guest, &sbdf)?;
    bring_up(guest, &interface, "10.0.2.23")?;
    in_guest::expect_parts(
        "lspci",
        &in_guest::lspci(guest, &sbdf)?,
        &["MSI-X: Enable+", "Kernel driver in use: igbvf"],
    )?;
    let before = in_guest::interrupts(guest, &interface)?;
    let are_msix = before.iter().all(|interrupt| interrupt.kind.contains("msi-x"));
    expect(before.len() == 3 && are_msix, "3 MSI-X vectors of the virtual function", format!("{before:?}"))?;
    ping(guest)?;
    in_guest::expect_no_complaints(guest).map(drop)
}

/// Gives the interface an address and waits until the driver says that there is a link.
///
/// # Errors
/// If there is none.
pub fn bring_up(guest: &Guest, interface: &str, address: &str) -> Result<()> {
    guest.channel().sh(&format!("ip link set {interface} up; ip address replace {address}/24 dev {interface}"))?;
    let condition = format!("[ \"$(cat /sys/class/net/{interface}/carrier)\" = 1 ]");
    guest.channel().wait_until(&format!("a link on {interface}"), &condition)
}

/// Takes the addresses from all cards: two in one network would answer for each other.
///
/// # Errors
/// If the guest does not answer.
pub fn take_down(guest: &Guest) -> Result<()> {
    guest
        .channel()
        .sh("for link in /sys/class/net/eth*; do ip address flush dev ${link##*/}; ip link set ${link##*/} down; done")
        .map(drop)
}

/// Sends and receives: the card reads and writes the guest's memory, and interrupts.
fn ping(guest: &Guest) -> Result<()> {
    guest.channel().sh(&format!("ping -c 5 -i 0.2 -W 10 {PEER}")).map(drop)
}
