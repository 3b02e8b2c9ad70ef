//! What can be written on the command line.

mod toolstack;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCompleter;
use xenpcid_address::Sbdf;

use crate::completions::{Shell, devices, functions};
use crate::xl::SOCKET_VARIABLE;

pub use toolstack::{
    Apply, Attach, Claim, Detach, Doctor, Interrupts, Plan, Release, Status, Taking, Tree, Watch, Why,
};

/// Gives PCI devices of this host to guests of Xen, and shows what these may do with them.
#[derive(Debug, Parser)]
#[command(name = "xenpci", version, arg_required_else_help = true, after_help = EXIT_CODES, max_term_width = 120)]
pub struct Arguments {
    #[command(flatten)]
    pub places: Places,

    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit status: 0 done; 1 it did not work; 2 the command line is wrong; 3 xenpcid cannot be reached.
Colours are left out when the output is not a terminal or NO_COLOR is set. XENPCID_SOCKET names another control socket.";

/// Where things are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where things are")]
pub struct Places {
    /// Control socket of the running xenpcid
    #[arg(long, global = true, value_name = "PATH", default_value = xenpcid_control::SOCKET, env = SOCKET_VARIABLE, hide_env_values = true)]
    pub socket: PathBuf,

    /// Configuration of xenpcid, for names and policies of devices that it does not run
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/xenpcid/xenpcid.toml")]
    pub config: PathBuf,

    /// Folder of the operator's policies
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/etc/xenpcid/policies")]
    pub policies: PathBuf,

    /// The host's sysfs
    #[arg(long, global = true, value_name = "FOLDER", default_value = "/sys", hide = true)]
    pub sysfs: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the devices, and who has them
    Status(Status),
    /// Shows the buses of the host and those that guests see
    Tree(Tree),
    /// Prints what happens, as it happens
    Watch(Watch),
    /// Lists the interrupts of assigned devices, and whether they reach the CPUs that run their guest
    Interrupts(Interrupts),
    /// Says whether a device would be attached, and if not, why and what to do
    Why(Why),
    /// Looks for everything that would keep passthrough from working on this host
    Doctor(Doctor),
    /// Shows what `apply` would do
    Plan(Plan),
    /// Makes true what the configuration declares
    Apply(Apply),
    /// Gives devices to a running domain
    Attach(Attach),
    /// Takes devices from a domain
    Detach(Detach),
    /// Takes a device from dom0, so that guests can have it
    Claim(Claim),
    /// Gives a device back to dom0
    Release(Release),
    /// Says of every register of a device what a guest sees, what it may write, and why
    Explain(Explain),
    /// Lists what guests tried and did not get, by register
    Denied(Denied),
    /// Watches a guest for a while and prints a policy that would have let it do what it tried
    Learn(Learn),
    /// Prints a policy that would have let guests do what they tried since they got the device
    Suggest(Suggest),
    /// Lists the policies that there are, or shows one
    Policies(Policies),
    /// Checks configuration and policy files, and says of each mistake where it is
    Check(Check),
    /// Creates a domain with the devices that its xl.cfg lists, or not at all
    Create(Create),
    // The commands that xl has.
    #[command(flatten)]
    Xl(crate::xl::Listed),
    /// Prints what makes a shell complete commands, devices and domains
    Completions(Completions),
    /// Writes the man pages of the commands into a folder
    #[command(hide = true)]
    ManPages(ManPages),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci explain 03:00.0                      a device of this host, under its own policy
  xenpci explain 03:00.0 --policy strict      what would change under another
  xenpci explain 03:00.0 --map                all bytes at a glance
  lspci -vv -xxxx -s 03:00.0 > nic.txt        recorded as root, on any machine, ...
  xenpci explain --from nic.txt               ... explained on any other

A device that the running xenpcid has claimed is shown as it was then; any other as it is now.")]
pub struct Explain {
    /// The device: SEGMENT:BUS:DEVICE.FUNCTION or BUS:DEVICE.FUNCTION, in hexadecimal
    #[arg(value_name = "BDF", required_unless_present = "from", add = ArgValueCompleter::new(functions))]
    pub device: Option<Sbdf>,

    /// Policy by name, or by file (a path with a / or ending in .toml), instead of the device's own
    #[arg(long, value_name = "NAME|FILE")]
    pub policy: Option<String>,

    /// Take the device from a recording, as `lspci -vv -xxxx` prints it. Without -vv the sizes of BARs are guessed
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// Draw all bytes of the configuration space, one letter each
    #[arg(long)]
    pub map: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "map")]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci denied                  of all devices
  xenpci denied 03:00.0 --json   of one, for scripts

An access is counted when it did not do what the guest wanted: a write whose bits were discarded although they would have
changed something, or any access that was refused. Counting begins when a guest gets the device.")]
pub struct Denied {
    /// Only of this device
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(devices))]
    pub device: Option<Sbdf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci learn 03:00.0 --for 60s > suggested.toml
  xenpci learn 03:00.0 --for 10m                  Ctrl-C ends it early

Start it, do in the guest what does not work, and read the policy before you use it: what is dangerous is commented out.
Its first lines say where to put it.")]
pub struct Learn {
    /// The device
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(devices))]
    pub device: Sbdf,

    /// How long: 60s, 10m, 1h
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  xenpci suggest 03:00.0 > suggested.toml

Read the policy before you use it: what is dangerous is commented out. Its first lines say where to put it.")]
pub struct Suggest {
    /// The device
    #[arg(value_name = "BDF", add = ArgValueCompleter::new(devices))]
    pub device: Sbdf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci policies              all, with what they are for
  xenpci policies default      every rule of one, with its reason")]
pub struct Policies {
    /// Only this one, whole
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// Print JSON
    #[arg(long, conflicts_with = "name")]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci check                   the configuration and all policies of this host
  xenpci check ./uplink.toml     a policy or a configuration, before it is put there")]
pub struct Check {
    /// Files; without any, those that xenpcid would read
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci create web1.cfg
  xenpci create web1.cfg -- -q memory=2048      options and settings for `xl create`

Runs `xl create -p` with a copy of the file that has no pci=, but passthrough and e820_host as a guest with devices needs
them; attaches what pci= lists, all or nothing; and lets the domain run. If anything goes wrong the domain is destroyed
again. Device names, * for all functions, and the keys pci_permissive, pci_seize, pci_msitranslate and pci_power_mgmt are
understood; see xl.cfg(5) and xl-pci-configuration(5).")]
pub struct Create {
    /// The domain's xl.cfg
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,

    /// Options for `xl create`, and settings that are added to the file (KEY=VALUE)
    #[arg(value_name = "XL_ARGUMENT", last = true)]
    pub xl: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci completions bash > /etc/bash_completion.d/xenpci
  source <(xenpci completions zsh)                        in ~/.zshrc, after compinit
  xenpci completions fish > /etc/fish/completions/xenpci.fish
  source <(xenpci completions bash)                       only in this shell")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManPages {
    /// The folder
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}
