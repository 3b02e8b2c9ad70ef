//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use xenpcid_address::Sbdf;

const EXIT_CODES: &str = "\
Exit status:
  0    done; nothing differs
  1    something differs, or a request or a file failed
  2    wrong command line
  3    no backend, or this is not a guest in which a frontend can run
  130  interrupted

Run it as root in a Xen PV guest that has a PCI device, without the kernel's frontend:
  rmmod xen-pcifront; modprobe xen-gntalloc; modprobe xen-evtchn
  pcifront-shim probe

It connects to the backend, does what it is asked for, and closes. xen-pciback connects to a frontend once only: with it,
do everything in one run (pcifront-shim session).";

/// A PCI frontend in a Xen PV guest's userspace: looks at any pciif backend, and compares backends
#[derive(Debug, Parser)]
#[command(name = "pcifront-shim", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    /// Seconds to wait for the backend, at each step of the handshake and for each answer
    #[arg(long, global = true, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Something on the bus.
    #[command(flatten)]
    OnBus(BusCommand),
}

/// What needs a bus.
#[derive(Debug, Subcommand)]
pub enum BusCommand {
    /// List the functions of the virtual bus with BARs and capabilities, as lspci -v does
    ///
    /// Scans as Linux does. Registers that are written to find the size of a BAR are restored.
    Probe(Probe),
    /// Write the configuration space of each function in the form of lspci -xxxx
    ///
    /// Only reads. A dword that the backend refuses is ff ff ff ff, and named in a comment.
    Dump(Dump),
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// Only this function, such as 00:00.0; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub function: Vec<Sbdf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Only this function, such as 00:00.0; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub function: Vec<Sbdf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A positive number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of seconds greater than 0, such as 5 or 0.5".to_owned();
    let number: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}
