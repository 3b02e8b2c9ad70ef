//! What can be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use xenpcid_address::Sbdf;

/// Shows what xenpcid lets guests do with their PCI devices, what they tried and did not get, and how to change it.
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
Colours are left out when the output is not a terminal or NO_COLOR is set.";

/// Where things are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where things are")]
pub struct Places {
    /// Control socket of the running xenpcid
    #[arg(long, global = true, value_name = "PATH", default_value = xenpcid_control::SOCKET)]
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
    #[arg(value_name = "BDF", required_unless_present = "from")]
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
    #[arg(value_name = "BDF")]
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
    #[arg(value_name = "BDF")]
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
    #[arg(value_name = "BDF")]
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
