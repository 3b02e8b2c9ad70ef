//! The demonstration: three real devices (as far as Xen and the drivers can tell) work in an unmodified guest, and no
//! xen-pciback is there.

use std::rc::Rc;
use std::time::Instant;

use crate::Options;
use crate::error::Result;
use crate::images::DISK_SHA256;
use crate::machine::devices::{E1000, E1000E, NVME};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, network, nvme};
use crate::testbed::Testbed;
use crate::workspace::Program;

/// Boots and shows it.
///
/// # Errors
/// If something that is shown does not hold.
pub fn run(testbed: &Rc<Testbed>, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let daemon = options.program(Program::Daemon, testbed)?;
    let mut machine = Machine::boot(testbed, options.verbose)?;
    if options.keep {
        eprintln!("run folder: {}", machine.keep().display());
    }
    machine.install(Program::Daemon, &daemon)?;
    match show(&mut machine) {
        Ok(()) => {
            say(&format!("That was {:.0} s, in an emulated machine.", begun.elapsed().as_secs_f64()));
            Ok(())
        }
        Err(error) => {
            for (title, text) in machine.daemon_logs() {
                eprintln!("--- {title}\n{text}");
            }
            Err(machine.explain(error))
        }
    }
}

fn show(machine: &mut Machine) -> Result<()> {
    say("Xen runs, and Debian's dom0 on it. There is an IOMMU (pv_directio). The kernel's xen-pciback is not loaded:");
    output(
        &machine.dom0().sh("xl info | grep -E '^(xen_version|release|virt_caps)'; ! grep xen_pciback /proc/modules")?,
    );

    let addresses = [machine.find(NVME, 0)?, machine.find(E1000E, 0)?, machine.find(E1000, 0)?];
    say("Three devices of dom0 are meant for a guest:");
    for address in &addresses {
        output(&machine.dom0().sh(&format!("lspci -nn -s {address}"))?);
    }

    let [disk, card, legacy] = addresses;
    let devices = [Declared::new(disk), Declared::new(card), Declared::without_reset(legacy)];
    let text = configuration::text(&[("web1", &devices)]);
    say("The whole configuration of xenpcid (the last card has no way to be reset, so that must be said):");
    output(&text);
    let daemon = machine.start_daemon(&text)?;
    say("xenpcid takes them from dom0, resets them, and quarantines them:");
    output(&daemon.log()?);

    say("A guest starts: Debian's kernel as it is, two vCPUs. Its xl.cfg names no device. On its PCI bus it finds:");
    let guest = machine.start_guest(&GuestConfiguration::new("web1"))?;
    for model in [NVME, E1000E, E1000] {
        in_guest::wait_for_device(&guest, model)?;
    }
    output(&guest.channel().sh("lspci -nn")?);

    show_disk(&guest)?;
    show_networks(&guest)?;

    say("The guest is destroyed. xenpcid resets the devices and keeps them in");
    say_more("quarantine for the next guest of that name:");
    machine.destroy_guest(&guest)?;
    output(&daemon.wait_for_lines(3, &["released", "web1"])?.join("\n"));

    daemon.stop(machine)?;
    say("xenpcid was stopped, and dom0 has its devices back.");
    Ok(())
}

fn show_disk(guest: &Guest) -> Result<()> {
    nvme::expect_queues(guest)?;
    say("Its NVMe driver has a queue for each vCPU and one to administer, each with an interrupt of its own.");
    say_more("(With xen-pciback this kernel gets `enable msix get err`, one queue, and an interrupt that is shared.)");
    output(&guest.channel().sh("dmesg | grep 'nvme nvme0.*queues'")?);
    nvme::expect_content(guest)?;
    say("It has read the whole disk, and the SHA-256 is what it should be:");
    output(DISK_SHA256);
    output(&guest.channel().sh("grep -E 'CPU0|nvme0q' /proc/interrupts")?);
    Ok(())
}

fn show_networks(guest: &Guest) -> Result<()> {
    let show_interrupts = || guest.channel().sh("grep -E 'CPU0|eth' /proc/interrupts").map(|text| output(&text));
    network::expect_e1000e(guest)?;
    say("Both network cards send and receive. The e1000e, by MSI-X:");
    show_interrupts()?;
    network::take_down(guest)?;
    network::expect_e1000(guest)?;
    say("The e1000, by an interrupt pin:");
    show_interrupts()
}

fn say(text: &str) {
    println!("\n{text}");
}

/// A second line of the same sentence.
fn say_more(text: &str) {
    println!("{text}");
}

/// What the machine itself says is set off from what is said about it.
fn output(text: &str) {
    for line in text.trim_end().lines() {
        println!("    {line}");
    }
}
