//! The commands: what their help says, what they take.

use std::fmt::Write;

use super::options::Switch;

/// A command of xl.
#[derive(Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// What it takes, as its help says.
    usage: &'static str,
    /// What it does, as its help says.
    description: &'static str,
    /// Its options, as its help says; some has none to tell.
    options: &'static str,
    /// Its options.
    pub switches: &'static [Switch],
    /// Fewest operands.
    pub operands: usize,
}

const ADD_NAME: Switch = Switch { short: 'n', long: Some("name"), takes_value: true };
const FORCE: Switch = Switch { short: 'f', long: None, takes_value: false };
const REBIND: Switch = Switch { short: 'r', long: None, takes_value: false };
const SHOW_NAMES: Switch = Switch { short: 'n', long: Some("show-names"), takes_value: false };

/// All of them.
pub const COMMANDS: [Command; 6] = [
    Command {
        name: "pci-attach",
        usage: "<Domain> <PCI_SPEC_STRING>",
        description: "Insert a new pass-through pci device",
        options: "",
        switches: &[],
        operands: 2,
    },
    Command {
        name: "pci-detach",
        usage: "<Domain> <PCI_SPEC_STRING>",
        description: "Remove a domain's pass-through pci device",
        options: "",
        switches: &[FORCE],
        operands: 2,
    },
    Command {
        name: "pci-list",
        usage: "<Domain>",
        description: "List pass-through pci devices for a domain",
        options: "",
        switches: &[],
        operands: 1,
    },
    Command {
        name: "pci-assignable-add",
        usage: "[options] <BDF>",
        description: "Make a device assignable for pci-passthru",
        options: concat!(
            "-n NAME, --name=NAME    Name the assignable device.\n",
            "-h                      Print this help.\n",
        ),
        switches: &[ADD_NAME],
        operands: 1,
    },
    Command {
        name: "pci-assignable-remove",
        usage: "[options] <BDF>|NAME",
        description: "Remove a device from being assignable",
        options: concat!(
            "-h                      Print this help.\n",
            "-r                      Attempt to re-assign the device to the\n",
            "                        original driver.",
        ),
        switches: &[REBIND],
        operands: 1,
    },
    Command {
        name: "pci-assignable-list",
        usage: "[options]",
        description: "List all the assignable pci devices",
        options: concat!(
            "-h                      Print this help.\n",
            "-n, --show-names        Display assignable device names where\n",
            "                        supplied.\n",
        ),
        switches: &[SHOW_NAMES],
        operands: 0,
    },
];

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Command {
    /// What `-h` prints, of a command that was called so.
    pub fn help(&self, called: &str) -> String {
        let mut help = format!("Usage: {called} {}\n\n{}.\n\n", self.usage, self.description);
        if !self.options.is_empty() {
            // Writing to a String does not fail.
            let _ = writeln!(help, "Options:\n\n{}", self.options);
        }
        help
    }
}
