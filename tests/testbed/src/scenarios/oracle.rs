//! The kernel's xen-pciback as the oracle for the policy `pciback`: the same guests, devices and requests, in one boot.
//!
//! Two guests for each backend. In the first, pcifront-shim speaks with it: all that it answers is recorded. In the second,
//! Linux does, and its configuration spaces are recorded with the drivers at work and without them. A guest has only one of
//! both, since xen-pciback connects to a frontend once.

use std::fs;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::machine::devices::{E1000E, Model, NVME};
use crate::machine::{Frontend, Guest, GuestConfiguration, Machine};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{config_space, in_guest};

/// Every difference there may be, each with its reason, for what pcifront-shim was answered.
const DIFFERENCES: &str = include_str!("oracle-differences.toml");
/// The same for what Linux sees.
const DIFFERENCES_WITH_DRIVERS: &str = include_str!("oracle-differences-with-drivers.toml");
const DIFFERENCES_WITHOUT_DRIVERS: &str = include_str!("oracle-differences-without-drivers.toml");

const MODELS: [Model; 2] = [E1000E, NVME];

/// Of each guest in its turn: a device is declared for one domain.
const NAME: &str = "oracle";

/// Any number makes a sequence; this one makes the same sequence each time.
const SEED: u32 = 1;
const ACCESSES: u32 = 10_000;
/// They take half a minute on an idle machine.
const DEADLINE_OF_ACCESSES: Duration = Duration::from_secs(600);

/// Names of the recordings, followed by a backend's name, in the folder that dom0 has as `/host`.
const ANSWERS: &str = "answers";
const WITH_DRIVERS: &str = "linux-with-drivers";
const WITHOUT_DRIVERS: &str = "linux-without-drivers";

/// Every answer is the same, or is on a list.
pub fn oracle(machine: &mut Machine) -> Result<()> {
    let addresses = MODELS.iter().map(|model| machine.find(*model, 0)).collect::<Result<Vec<_>>>()?;

    // Both begin with the hardware in the same state; a reset leaves something of the last guest in it.
    for address in &addresses {
        machine.dom0().sh(&format!("cat {} > /run/{address}", config_space::file(address)))?;
    }
    machine.with_pciback(&addresses, |machine| record(machine, "pciback", &addresses))?;
    for address in &addresses {
        let file = config_space::file(address);
        machine.dom0().sh(&format!("dd if=/run/{address} of={file} bs=2 count=128 conv=notrunc 2> /dev/null"))?;
    }

    let devices: Vec<Declared> =
        addresses.iter().map(|address| Declared::without_reset(address).under("pciback")).collect();
    machine.start_daemon(&configuration::text(&[(NAME, &devices)]))?;
    record(machine, "xenpcid", &[])?;

    compare(machine, ANSWERS, DIFFERENCES)?;
    compare(machine, WITH_DRIVERS, DIFFERENCES_WITH_DRIVERS)?;
    compare(machine, WITHOUT_DRIVERS, DIFFERENCES_WITHOUT_DRIVERS)
}

/// Runs both guests with a backend. `pci` is what xl gives them.
fn record(machine: &mut Machine, backend: &str, pci: &[String]) -> Result<()> {
    let configuration = || GuestConfiguration { pci: pci.to_vec(), ..GuestConfiguration::new(NAME) };
    let guest = machine.start_guest(&GuestConfiguration { frontend: Frontend::Instrument, ..configuration() })?;
    let session =
        format!("probe -o /tmp/probe\ndump -o /tmp/dump\nrandom --seed {SEED} --count {ACCESSES} -o /tmp/answers\n");
    guest.channel().sh_within(DEADLINE_OF_ACCESSES, &format!("pcifront-shim session <<'END'\n{session}END"))?;
    save(machine, ANSWERS, backend, &guest.channel().sh("cat /tmp/answers")?)?;
    machine.destroy_guest(&guest)?;

    let guest = machine.start_guest(&configuration())?;
    save(machine, WITH_DRIVERS, backend, &spaces(&guest)?)?;
    for model in MODELS {
        in_guest::unbind(&guest, model)?;
    }
    save(machine, WITHOUT_DRIVERS, backend, &spaces(&guest)?)?;
    machine.destroy_guest(&guest)
}

/// What Linux reads of all its devices.
fn spaces(guest: &Guest) -> Result<String> {
    guest.channel().sh("lspci -nxxxx")
}

fn save(machine: &Machine, name: &str, backend: &str, text: &str) -> Result<()> {
    let path = machine.share().join(format!("{name}-{backend}"));
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// pcifront-shim's own comparison: it fails for what is not on the list, and for what is there but no longer so.
fn compare(machine: &Machine, name: &str, differences: &str) -> Result<()> {
    let path = machine.share().join("differences.toml");
    fs::write(&path, differences).map_err(Error::io("write", &path))?;
    let compare = format!("pcifront-shim compare {name}-pciback {name}-xenpcid --expect differences.toml");
    machine.dom0().sh(&format!("cd /host && {compare} 2>&1")).map(drop)
}
