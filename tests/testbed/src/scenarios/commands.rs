//! What the commands tell of a host, and `xenpci create`.

use std::collections::BTreeSet;

use xenpcid_testbed_agent::Ending;

use crate::error::{Result, expect};
use crate::machine::devices::{E1000, E1000E, NVME};
use crate::machine::{DEADLINE, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{network, nvme};

const NAME: &str = "told";

/// Doctor, why, status, tree and interrupts tell what is so, with remedies for what is not as it should be. A domain is created
/// with all of its devices, or not at all.
pub fn commands(machine: &mut Machine) -> Result<()> {
    let [disk, card, old] = [machine.find(NVME, 0)?, machine.find(E1000E, 0)?, machine.find(E1000, 0)?];
    let is_dom0 = "good     this system is dom0";
    tells(machine, "doctor", 1, &[is_dom0, "problem  there is no control socket", "Start it with", "1 problem."])?;
    machine.start_daemon(&configuration::text(&[(NAME, &[Declared::new(&disk)])]))?;
    let is_ready = format!("good     {disk} is ready for a guest");
    tells(machine, "doctor", 0, &[is_dom0, "xenstored is running", &is_ready, "Nothing is wrong."])?;
    tells(machine, &format!("why {card}"), 0, &["would be attached to a guest"])?;
    tells(machine, &format!("why {old}"), 1, &["would not be attached", "no reset method", "reset = \"best-effort\""])?;
    tells(machine, "plan", 0, &["All is as declared."])?;
    tells(machine, "status", 0, &[&disk, "quarantine"])?;

    let wanted = GuestConfiguration { pci: vec![card.clone()], creator: "xenpci", ..GuestConfiguration::new(NAME) };
    let refused = machine.create_guest(&wanted).map(drop).map_err(|error| error.to_string()).err().unwrap_or_default();
    let remedy = format!("xenpci claim {card}");
    expect(refused.contains(&remedy), format!("no domain, and `{remedy}` as the remedy"), &refused)?;
    machine.dom0().sh(&format!("! xl domid {NAME} 2> /dev/null"))?;
    machine.wait_for_owner(&disk, "DomIO")?;
    tells(machine, &format!("claim {card}"), 0, &[])?;
    let guest = machine.start_guest(&wanted)?;
    nvme::expect_queues(&guest)?;
    network::expect_e1000e(&guest)?;

    let owner = format!("{NAME} ({})", guest.domid);
    tells(machine, "doctor", 0, &[&format!("good     {card} is assigned"), "Nothing is wrong."])?;
    tells(machine, "status", 0, &[&disk, &card, &owner])?;
    tells(machine, "status --json", 0, &["\"last_reset\"", "\"used\": \"flr\"", "\"milliseconds\": "])?;
    let short = |sbdf: &str| sbdf.trim_start_matches("0000:").to_owned();
    let on_the_bus =
        [format!("00.0 {disk}"), format!("01.0 {card}"), short(&disk), short(&card), format!("-> {owner}")];
    tells(machine, "tree", 0, &on_the_bus.each_ref().map(String::as_str))?;
    tells(machine, &format!("why {disk} {NAME}"), 0, &["would be attached to told", "extra_guest_irqs="])?;
    expect_interrupts(machine, guest.domid)
}

/// Each MSI-X vector of the guest is listed, with the number that Xen has for it.
fn expect_interrupts(machine: &Machine, domid: u32) -> Result<()> {
    let listed = machine.dom0().sh("xenpci interrupts")?;
    // DEVICE, NAME (ID), KIND, ENTRY, PIRQ, IRQ
    let irq = |line: &str| line.split_whitespace().nth(6).and_then(|irq| irq.parse::<u32>().ok());
    let irqs: BTreeSet<u32> = listed.lines().filter(|line| line.contains("MSI-X")).filter_map(irq).collect();
    let in_xen = machine.permissions(domid)?.interrupts;
    // Two queues and what is for the controller, and two queues and what is for the card; Xen has their INTx lines as well.
    expect(irqs.len() == 6 && irqs.is_subset(&in_xen), format!("6 MSI-X vectors, all of them among {in_xen:?}"), listed)
}

/// The command ends with this status, and all this is in what it prints.
fn tells(machine: &Machine, command: &str, status: i32, parts: &[&str]) -> Result<()> {
    let outcome = machine.dom0().run(&format!("xenpci {command} 2>&1"), DEADLINE)?;
    let missing: Vec<&&str> = parts.iter().filter(|part| !outcome.text.contains(**part)).collect();
    expect(
        outcome.ending == Ending::Exit(status) && missing.is_empty(),
        format!("`xenpci {command}` to end with status {status} and to tell {parts:?}"),
        format!("{:?}, without {missing:?}:\n{}", outcome.ending, outcome.text),
    )
}
