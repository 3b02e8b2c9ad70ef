//! The commands as clap lists them.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::completions::{assignable_specs, attached_specs, claimed, domains, functions};

/// They are carried out by [`Invocation`](super::Invocation), before clap reads anything.
#[derive(Debug, Subcommand)]
pub enum Listed {
    /// Gives a device to a running domain, as `xl pci-attach` does
    #[command(name = "pci-attach")]
    Attach(Attach),
    /// Takes a device from a running domain, as `xl pci-detach` does
    #[command(name = "pci-detach")]
    Detach(Detach),
    /// Lists the devices of a domain, as `xl pci-list` does
    #[command(name = "pci-list")]
    List(List),
    /// Takes a device from dom0 for guests, as `xl pci-assignable-add` does
    #[command(name = "pci-assignable-add")]
    AssignableAdd(AssignableAdd),
    /// Gives a device back to dom0, as `xl pci-assignable-remove` does
    #[command(name = "pci-assignable-remove")]
    AssignableRemove(AssignableRemove),
    /// Lists the devices that guests could be given, as `xl pci-assignable-list` does
    #[command(name = "pci-assignable-list")]
    AssignableList(AssignableList),
}

/// As [`Listed::Attach`] has it.
#[derive(Debug, Args)]
pub struct Attach {
    /// The domain: its number or its name
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(domains))]
    domain: String,
    /// The device: its address (DDDD:BB:SS.F or BB:SS.F, with * for all functions), then @VSLOT and settings; or
    /// name=NAME. See xl-pci-configuration(5)
    #[arg(value_name = "PCI_SPEC_STRING", add = ArgValueCompleter::new(assignable_specs))]
    device: String,
}

/// As [`Listed::Detach`] has it.
#[derive(Debug, Args)]
pub struct Detach {
    /// Take it even if the guest does not let go of it
    #[arg(short)]
    force: bool,
    /// The domain: its number or its name
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(domains))]
    domain: String,
    /// The device: a BDF, or * for its function, or name=NAME
    #[arg(value_name = "PCI_SPEC_STRING", add = ArgValueCompleter::new(attached_specs))]
    device: String,
}

/// As [`Listed::List`] has it.
#[derive(Debug, Args)]
pub struct List {
    /// The domain: its number or its name
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(domains))]
    domain: String,
}

/// As [`Listed::AssignableAdd`] has it.
#[derive(Debug, Args)]
pub struct AssignableAdd {
    /// What the device is called from now on
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// The device
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(functions))]
    device: String,
}

/// As [`Listed::AssignableRemove`] has it.
#[derive(Debug, Args)]
pub struct AssignableRemove {
    /// Let the driver have it that it had
    #[arg(short = 'r')]
    rebind: bool,
    /// The device, by address or name
    #[arg(value_name = "BDF|NAME", add = ArgValueCompleter::new(claimed))]
    device: String,
}

/// As [`Listed::AssignableList`] has it.
#[derive(Debug, Args)]
pub struct AssignableList {
    /// With their names
    #[arg(short = 'n', long)]
    show_names: bool,
}
