//! The commands that look at devices and domains, and move the ones to the others.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCompleter;
use xenpcid_config::Override;

use crate::completions;

/// Devices are called by more than one command in these words.
const DEVICES: &str = "\
A device is its address (SEGMENT:BUS:DEVICE.FUNCTION or BUS:DEVICE.FUNCTION, in hexadecimal), an address with * for all
functions that are there, or its name. A domain is its name, or its number.";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci status          all devices that are declared or claimed, with what is wrong with them
  xenpci status --json   for scripts")]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci tree            the host's buses, and beside them the buses that guests see
  xenpci tree --json     for scripts

Addresses are without the segment, which is in the heading. A domain that is held is paused until it has its devices.
[8086:10d3] is vendor and device. What the firmware calls a slot is in quotes, and can be `port` in the configuration.")]
pub struct Tree {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci watch           a line for each event, until Ctrl-C
  xenpci watch --json    a JSON object for each event")]
pub struct Watch {
    /// Print JSON, an object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci interrupts          each vector of each assigned device
  xenpci interrupts --json   for scripts

AGREE says whether a vector is delivered to CPUs that run the guest, and to no others. Xen moves a vector when its guest has
moved, at the next interrupt: what does not agree for long is worth a look at `xl vcpu-list`.")]
pub struct Interrupts {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  xenpci why 03:00.0          whether any guest could have it, and if not, every reason with its remedy
  xenpci why uplink0 web1     whether this one could

{DEVICES}

Exit status: 0 it would be attached; 1 it would not; 2 the command line is wrong; 3 xenpcid cannot be reached."))]
pub struct Why {
    /// The device
    #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(completions::functions))]
    pub device: String,

    /// The domain
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(completions::domains))]
    pub domain: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci plan            what `xenpci apply` would do now
  xenpci plan --json     for scripts")]
pub struct Plan {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci apply                  reads the configuration anew, and makes it true
  xenpci apply --timeout 30s    and waits no longer than that; what is not done by then goes on
  xenpci apply --no-wait        and does not wait at all

A configuration with a mistake changes nothing.")]
pub struct Apply {
    /// Return when it is under way
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,

    /// Wait that long at most: 30 (seconds), 30s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  xenpci attach web1 03:00.0                    gives a device to a running domain
  xenpci attach web1 03:00.0 04:00.0            gives it both, or none
  xenpci attach web1 '05:00.*' --slot 4         all functions of a device, in slot 4 of the guest's bus
  xenpci attach web1 uplink0 --allow host-use   although dom0 uses it

{DEVICES}
`xenpci why DEVICE DOMAIN` says beforehand whether it would work."))]
pub struct Attach {
    /// The domain
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(completions::domains))]
    pub domain: String,

    /// The devices
    #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(completions::assignable_devices), required = true)]
    pub devices: Vec<String>,

    /// Slot on the guest's bus, in hexadecimal: 0 to 1f. Only for one device
    #[arg(long, value_name = "N", value_parser = slot)]
    pub slot: Option<u8>,

    /// Policy, instead of the one that the configuration gives it
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,

    #[command(flatten)]
    pub taking: Taking,

    /// Claim the devices first that dom0 has
    #[arg(long)]
    pub seize: bool,

    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  xenpci detach web1 03:00.0            asks the guest to let go of it, and takes it
  xenpci detach web1 03:00.0 --force    takes it even if the guest does not answer

{DEVICES}
A detached device is in quarantine, ready for the next guest; `xenpci release` gives it back to dom0."))]
pub struct Detach {
    /// The domain
    #[arg(value_name = "DOMAIN", add = ArgValueCompleter::new(completions::domains))]
    pub domain: String,

    /// The devices
    #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(completions::attached_devices), required = true)]
    pub devices: Vec<String>,

    /// Take them from a guest that has not let go of them in time
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  xenpci claim 03:00.0                  takes it from dom0's driver, resets it, and keeps it in quarantine
  xenpci claim 03:00.0 --name uplink0   and gives it a name

{DEVICES}
Devices that the configuration declares are claimed by themselves."))]
pub struct Claim {
    /// The device
    #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(completions::functions))]
    pub device: String,

    /// What to call it from now on
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    #[command(flatten)]
    pub taking: Taking,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  xenpci release 03:00.0             gives it back to dom0, and to the driver that it had
  xenpci release 03:00.0 --unbound   to no driver

{DEVICES}"))]
pub struct Release {
    /// The device
    #[arg(value_name = "DEVICE", add = ArgValueCompleter::new(completions::claimed))]
    pub device: String,

    /// Leave it without a driver
    #[arg(long)]
    pub unbound: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  xenpci doctor          everything that would keep passthrough from working on this host, with what to do
  xenpci doctor --json   for scripts

It needs neither Xen nor a running xenpcid, and sees more with them and as root.
Exit status: 0 nothing is wrong; 1 something is; 2 the command line is wrong.")]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// The host's file system
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    pub root: PathBuf,
}

/// How devices are taken from dom0 or given to a guest although something speaks against it.
#[derive(Debug, Args)]
pub struct Taking {
    /// Safety check that may fail; can be repeated. `xenpci why` says which one does
    #[arg(long, value_name = "KEY", value_parser = PossibleValuesParser::new(Override::ALL.iter().map(|key| key.as_str())))]
    pub allow: Vec<String>,

    /// Take it even if there is no way to reset it: what its last user left in it is there for the next
    #[arg(long)]
    pub best_effort_reset: bool,
}

/// How long an operation is waited for.
#[derive(Debug, Args)]
pub struct Waiting {
    /// Return when it is under way
    #[arg(long)]
    pub no_wait: bool,

    /// How long the guest may take for its part: 30 (seconds), 30s, 2m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Seconds, or a number with its unit.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text))
}

/// As xl writes slots.
fn slot(text: &str) -> Result<u8, String> {
    match u8::from_str_radix(text, 16) {
        Ok(slot) if slot < 32 => Ok(slot),
        _ => Err("a slot is 0 to 1f, in hexadecimal".to_owned()),
    }
}
