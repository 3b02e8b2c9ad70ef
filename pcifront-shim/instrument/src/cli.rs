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

Run it as root in a Xen PV guest that has a PCI device, in place of the kernel's frontend:
  echo pci-0 > /sys/bus/xen/drivers/pcifront/unbind     (if xen-pcifront is loaded; better, do not load it)
  modprobe xen-gntalloc; modprobe xen-evtchn
  pcifront-shim probe

It connects to the backend, does what it is asked for, and closes, so that the next run or the kernel's frontend can
connect again. xen-pciback connects once only: with it, do not load xen-pcifront before, and do everything in one run
(pcifront-shim session).";

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
    /// Run several commands over one connection, up to the first that fails
    ///
    /// One a line: probe, dump, random, replay, bench or torture with their arguments, separated by blanks, without quotes.
    /// Empty lines and lines that start with # are passed over. For backends that connect once only, as xen-pciback.
    #[command(after_help = "\
Example:
  printf 'dump -o before.txt\\nrandom --seed 1 -o random.txt\\nbench --json -o bench.json\\n' | pcifront-shim session")]
    Session(Session),
    /// Compare two recordings of dump, random or replay, register by register; runs anywhere
    ///
    /// Each difference is shown by function, register and kind of access, with what both answered. It must be on the reviewed
    /// list, or the exit status is 1.
    #[command(after_help = "\
The list is TOML:
  [[difference]]
  where = \"pm.pmcsr\"        # a register, or \"pm.*\": everything in a capability
  operation = \"read\"        # dump, read or write; without it any
  function = \"00:00.0\"      # without it any
  a = \"success\"             # what A answers: value, success, nothing, or an error's name; without it anything
  b = \"access_denied\"       # what B answers
  reason = \"why it is right\"

Example:
  pcifront-shim compare pciback.txt xenpcid.txt --expect reviewed.toml")]
    Compare(Compare),
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
    /// Make seeded random reads and writes, and write each with its answer, one a line
    ///
    /// All sizes and all offsets, mostly valid and mostly where registers are; each write is followed by a read of what was
    /// written. The same seed makes the same requests whatever is answered. Registers that would break the device or the
    /// machine, or whose answers depend on time, are spared. The output starts with the configuration space as it was before,
    /// and can be compared and replayed.
    #[command(after_help = "\
Examples:
  pcifront-shim random --seed 1 --count 10000 -o xenpcid.txt
  pcifront-shim random --seed 1 --count 10000 --layout pciback.txt -o xenpcid.txt
                        spares what is where pciback.txt has it, to compare with pciback.txt")]
    Random(Random),
    /// Make recorded accesses once more, and say which are answered otherwise
    ///
    /// FILE is a trace (R|W SIZE OFFSET VALUE a line), made to the first function or to --function, or a recording of random
    /// or replay. The exit status is 1 if an answer differs.
    #[command(after_help = "\
Example:
  pcifront-shim replay pcifront-6.1-e1000e.trace --record xenpcid.txt")]
    Replay(Replay),
    /// Measure round trips of configuration reads: minimum, percentiles, maximum, requests per second
    #[command(after_help = "\
Example:
  pcifront-shim bench --count 10000 --register 0x0:4 --json")]
    Bench(Bench),
    /// Send requests that no honest guest sends, and see whether the backend survives
    ///
    /// Operations that do not exist, offsets, sizes and addresses that are none, interrupts switched on and off with any
    /// number of any vectors, requests changed under way, the active bit toggled, floods of notifications. Configuration is
    /// written only by valid requests that spare what random spares, and the Command register. Afterwards interrupts are
    /// off, and each function must answer an honest read as before: or the exit status is 1. Counts are printed by answer.
    ///
    /// A backend with a defect can take the whole machine down: xen-pciback hands negative offsets to the machine's own
    /// accessors. Not for machines that are needed.
    #[command(after_help = "\
Example:
  pcifront-shim torture --seed 1 --seconds 60")]
    Torture(Torture),
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

/// Arguments of `random`.
#[derive(Debug, Args)]
pub struct Random {
    /// Number that makes the requests what they are
    #[arg(long)]
    pub seed: u64,
    /// How many requests
    #[arg(long, default_value = "1000")]
    pub count: usize,
    /// Only this function, such as 00:00.0; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub function: Vec<Sbdf>,
    /// Spare what this list has instead of the built-in one (TOML: register, why; bits, access)
    #[arg(long, value_name = "FILE")]
    pub spare: Option<PathBuf>,
    /// Take the places of capabilities from this recording instead of the device
    #[arg(long, value_name = "FILE")]
    pub layout: Option<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `session`.
#[derive(Debug, Args)]
pub struct Session {
    /// File with the commands; standard input without it
    pub file: Option<PathBuf>,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Trace or recording
    pub file: PathBuf,
    /// The function that a trace is made to, such as 00:00.0; the first of the bus without it
    #[arg(long, value_name = "ADDRESS")]
    pub function: Option<Sbdf>,
    /// Write configuration spaces and answers to this file, to compare or replay them
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// How many reads
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// The function, such as 00:00.0; the first of the bus without it
    #[arg(long, value_name = "ADDRESS")]
    pub function: Option<Sbdf>,
    /// The register: offset and bytes
    #[arg(long, value_name = "OFFSET:SIZE", default_value = "0x0:4", value_parser = register)]
    pub register: (i32, i32),
    /// Write JSON; times are nanoseconds
    #[arg(long)]
    pub json: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `torture`.
#[derive(Debug, Args)]
pub struct Torture {
    /// Number that makes the attacks what they are
    #[arg(long)]
    pub seed: u64,
    /// How long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, required_unless_present = "count", conflicts_with = "count")]
    pub seconds: Option<Duration>,
    /// How many attacks
    #[arg(long)]
    pub count: Option<u64>,
    /// Only this function, such as 00:00.0; can be given several times
    #[arg(long, value_name = "ADDRESS")]
    pub function: Vec<Sbdf>,
    /// Spare what this list has instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub spare: Option<PathBuf>,
    /// Seconds to wait for the answer to a request that was spoilt under way, which may never come
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    pub patience: Duration,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// First recording
    pub a: PathBuf,
    /// Second recording
    pub b: PathBuf,
    /// The reviewed list of differences
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
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

/// An offset, decimal or hexadecimal with 0x, and 1, 2 or 4 bytes.
fn register(text: &str) -> Result<(i32, i32), String> {
    let wrong = || "an offset and 1, 2 or 4 bytes, such as 0x0:4".to_owned();
    let (offset, size) = text.split_once(':').ok_or_else(wrong)?;
    let offset = match offset.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => offset.parse(),
    };
    let size = size.parse().ok().filter(|size| [1, 2, 4].contains(size)).ok_or_else(wrong)?;
    Ok((offset.map_err(|_| wrong())?.into(), size))
}
