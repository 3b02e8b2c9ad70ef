//! What is asserted on real Xen. A scenario is a function over a booted [`Machine`]; it finds the machine as it was after
//! its boot, and need not clean up: [`runner`] does, and fails the scenario if that does not work.

mod ahci;
mod all_functions;
mod commands;
mod config_space;
pub mod configuration;
mod decode_is_safe;
mod destroy_race;
mod destroy_time;
mod hold;
mod hotplug;
mod identity;
pub mod in_guest;
pub mod network;
pub mod nvme;
mod oracle;
mod policy_live;
mod reboot;
mod refusals;
mod reload;
mod runner;
mod smoke;
mod sriov_pool;
mod three_devices;
mod traffic;
mod two_guests;
mod xl_parity;

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::workspace::Program;

pub use runner::{Tally, run};

/// A named test on real Xen.
pub struct Scenario {
    /// As people type it.
    pub name: &'static str,
    /// What is asserted, in a line.
    pub about: &'static str,
    /// What the machine has to be like.
    pub needs: Needs,
    /// The test.
    pub run: fn(&mut Machine) -> Result<()>,
}

/// What a scenario expects of the machine.
pub struct Needs {
    /// What has to be in it.
    pub programs: &'static [Program],
    /// Whether no scenario may have used it before.
    pub is_unused: bool,
}

impl Needs {
    const fn programs(programs: &'static [Program]) -> Self {
        Self { programs, is_unused: false }
    }

    /// For guests that use an NVMe controller of QEMU by INTx, as Linux does with xen-pciback. If one was ever reset with
    /// completions that nobody had looked at, since a guest was destroyed in the middle of its work, then QEMU goes on to count
    /// them (`cq_pending` in QEMU's `hw/nvme/ctrl.c`, which `nvme_ctrl_reset` does not set back), and the controller does not let
    /// go of its line any more. Linux in the guest switches that interrupt off after 100000 that nobody cared for, and then
    /// waits in vain for the disk, and sometimes for all the rest.
    const fn of_an_unused_machine(programs: &'static [Program]) -> Self {
        Self { programs, is_unused: true }
    }
}

const NOTHING: Needs = Needs::programs(&[]);
const DAEMON: Needs = Needs::programs(&[Program::Daemon]);
const COMMANDS: Needs = Needs::programs(&[Program::Daemon, Program::CommandLine]);

/// In the order in which they run.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "boot",
        about: "Xen has an IOMMU for PV guests, xenstored answers, every device of the machine is there",
        needs: NOTHING,
        run: smoke::boot,
    },
    Scenario {
        name: "guest",
        about: "an unmodified Linux PV guest with 2 vCPUs starts, runs commands and powers off",
        needs: NOTHING,
        run: smoke::guest,
    },
    Scenario {
        name: "nvme",
        about: "the guest's NVMe driver has a queue and an MSI-X vector for each vCPU and reads the whole disk right",
        needs: DAEMON,
        run: nvme::nvme,
    },
    Scenario {
        name: "e1000e",
        about: "a network card by MSI-X, passed through to a guest that runs already",
        needs: DAEMON,
        run: network::e1000e,
    },
    Scenario {
        name: "e1000",
        about: "a network card by INTx that cannot be reset",
        needs: DAEMON,
        run: network::e1000,
    },
    Scenario {
        name: "ahci",
        about: "a SATA controller by MSI reads the whole disk right",
        needs: DAEMON,
        run: ahci::ahci,
    },
    Scenario { name: "igbvf", about: "a virtual function: identity, MSI-X, link", needs: DAEMON, run: network::igbvf },
    Scenario {
        name: "three-devices",
        about: "NVMe, e1000e and e1000 in one guest, each with its BARs and capabilities, and working",
        needs: DAEMON,
        run: three_devices::three_devices,
    },
    Scenario {
        name: "two-guests",
        about: "destroying one guest leaves the other's I/O running; its device works in a third guest",
        needs: DAEMON,
        run: two_guests::two_guests,
    },
    Scenario {
        name: "decode-is-safe",
        about: "a guest that writes to decode bits, BARs, MSI and MSI-X changes nothing in the hardware",
        needs: DAEMON,
        run: decode_is_safe::decode_is_safe,
    },
    Scenario {
        name: "policy-live",
        about: "drivers miss nothing under the policy default; what it hides is out of reach, until a policy that xenpci suggests",
        needs: COMMANDS,
        run: policy_live::policy_live,
    },
    Scenario {
        name: "commands",
        about: "doctor, why, status, tree and interrupts tell what is so; xenpci create makes a domain with its devices or none",
        needs: COMMANDS,
        run: commands::commands,
    },
    Scenario {
        name: "xl-parity",
        about: "xl with xen-pciback and xenpci print the same and end with the same status, but for a reviewed list",
        needs: COMMANDS,
        run: xl_parity::xl_parity,
    },
    Scenario {
        name: "all-functions",
        about: "a device of two functions, by *: claimed, attached to one slot, detached and given back",
        needs: COMMANDS,
        run: all_functions::all_functions,
    },
    Scenario {
        name: "hotplug",
        about: "devices leave a running guest and come back 20 times, beside xl and xen-pciback; nothing is left behind",
        needs: Needs::of_an_unused_machine(&[Program::Daemon, Program::CommandLine]),
        run: hotplug::hotplug,
    },
    Scenario {
        name: "hold-until-attached",
        about: "a domain stays paused until its device is there, or until a deadline",
        needs: COMMANDS,
        run: hold::hold_until_attached,
    },
    Scenario {
        name: "reboot",
        about: "a guest reboots twice and has its devices each time",
        needs: DAEMON,
        run: reboot::reboot,
    },
    Scenario {
        name: "crash",
        about: "a guest crashes in the middle of I/O, is started anew and has its devices",
        needs: DAEMON,
        run: reboot::crash,
    },
    Scenario {
        name: "destroy-race",
        about: "xl destroy in the middle of the handshake, an attach or a detach: the device is in quarantine, and works on",
        needs: COMMANDS,
        run: destroy_race::destroy_race,
    },
    Scenario {
        name: "destroy-time",
        about: "xl destroy of a guest with five devices takes a fifth of the time that it takes with xen-pciback",
        needs: Needs::of_an_unused_machine(&[Program::Daemon]),
        run: destroy_time::destroy_time,
    },
    Scenario {
        name: "kexec-or-reload",
        about: "pcifront lets go and begins anew in a running guest, and the devices work again",
        needs: DAEMON,
        run: reload::reload,
    },
    Scenario {
        name: "sriov-pool",
        about: "two guests get virtual functions from a pool and reach each other through the card's switch",
        needs: DAEMON,
        run: sriov_pool::sriov_pool,
    },
    Scenario {
        name: "oracle",
        about: "with the policy pciback, guests get the same answers as from xen-pciback, but for a reviewed list",
        needs: Needs::of_an_unused_machine(&[Program::Daemon, Program::Instrument]),
        run: oracle::oracle,
    },
    Scenario {
        name: "no-iommu-domain",
        about: "a domain without passthrough=\"enabled\" gets an error that says so",
        needs: DAEMON,
        run: refusals::no_iommu_domain,
    },
    Scenario {
        name: "pciback-present",
        about: "xenpcid does not start beside xen-pciback, and says what to do",
        needs: DAEMON,
        run: refusals::pciback_present,
    },
    // Boots the machine with other devices, so what came after it would need another boot.
    Scenario {
        name: "identity",
        about: "the same file finds the same devices after a boot with other numbers of buses",
        needs: DAEMON,
        run: identity::identity,
    },
];

/// Prints the names on standard output.
pub fn list() {
    for Scenario { name, about, .. } in SCENARIOS {
        println!("{name:20} {about}");
    }
}

/// The scenarios with these names, in this order; all if there are no names.
///
/// # Errors
/// [`Error::Unsuitable`] with the names there are, if one is unknown.
pub fn choose(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            Error::Unsuitable(format!("there is no scenario {name}; there are: {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = choose(&["boot".to_owned(), "bot".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("no scenario bot") && error.contains("guest"), "{error}");
    }
}
