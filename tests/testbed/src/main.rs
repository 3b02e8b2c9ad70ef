//! `cargo testbed`: real Xen on any Debian 12 machine, without KVM and without hardware.
//!
//! One emulated machine boots Xen and a Debian dom0 made from packages; scenarios run in it one after the other. See
//! [`machine`] for what is in the machine, [`scenarios`] for what is asserted there, [`packages`] and [`images`] for where
//! it all comes from.
#![forbid(unsafe_code)]

mod all_tests;
mod cache;
mod demo;
mod error;
mod host_packages;
mod images;
mod interrupt;
mod machine;
mod packages;
mod process;
mod progress;
mod record;
mod scenarios;
mod shell;
mod testbed;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::{Error, Result};
use testbed::Testbed;
use workspace::Program;

/// Boots real Xen in an emulated machine and tests xenpcid there.
#[derive(Parser)]
#[command(name = "cargo testbed", bin_name = "cargo testbed", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install missing build dependencies, and fetch what only the testbed needs into its cache
    Setup {
        /// Fetch the testbed's packages again, in their newest versions
        #[arg(long)]
        refresh: bool,
    },
    /// Set up, build, boot, and show a guest that drives three devices through xenpcid
    Demo {
        #[command(flatten)]
        options: Options,
    },
    /// Set up, then run every test of the project, the scenarios on real Xen included
    Test {
        #[command(flatten)]
        options: Options,
    },
    /// Run scenarios on real Xen
    Run {
        /// Names from `cargo testbed list`; none means all of them
        names: Vec<String>,
        #[command(flatten)]
        options: Options,
    },
    /// List the scenarios
    List,
    /// Record the configuration space of QEMU's devices into tests/devices, with lspci
    RecordDevices {
        /// Record only these, by the names of their files without .txt
        names: Vec<String>,
    },
    /// Boot the machine and give a shell in its dom0
    Shell {
        #[command(flatten)]
        options: Options,
    },
}

/// How a machine is run.
#[derive(Debug, Clone, clap::Args)]
struct Options {
    /// Leave the run folders (logs, sockets, what dom0 shares) where they are
    #[arg(long)]
    keep: bool,
    /// Have xenpcid log everything, and show its log and Xen's after each scenario
    #[arg(long)]
    verbose: bool,
    /// Put this program into dom0 as xenpcid, instead of building it
    #[arg(long, value_name = "PROGRAM")]
    xenpcid: Option<PathBuf>,
    /// Put this program into dom0 as xenpci, instead of building it
    #[arg(long, value_name = "PROGRAM")]
    xenpci: Option<PathBuf>,
    /// Put this program into guests as pcifront-shim, instead of building it
    #[arg(long, value_name = "PROGRAM")]
    pcifront_shim: Option<PathBuf>,
}

impl Options {
    /// Where the program is: the one that was given, or one that is built.
    fn program(&self, program: Program, testbed: &Testbed) -> Result<PathBuf> {
        let given = match program {
            Program::Daemon => &self.xenpcid,
            Program::CommandLine => &self.xenpci,
            Program::Instrument => &self.pcifront_shim,
        };
        if let Some(path) = given {
            return Ok(path.clone());
        }
        let step = testbed.progress.step(format!("building {}", program.name()));
        let path = program.build()?;
        step.done();
        Ok(path)
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted) => ExitCode::from(interrupt::EXIT_STATUS),
        Err(error) => {
            eprintln!("cargo testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if all that was asked for went well.
fn run(command: Command) -> Result<bool> {
    interrupt::install()?;
    match command {
        Command::Setup { refresh } => Testbed::set_up(refresh).map(|_| true),
        Command::List => {
            scenarios::list();
            Ok(true)
        }
        Command::Run { names, options } => {
            let chosen = scenarios::choose(&names)?;
            let tally = scenarios::run(&Testbed::set_up(false)?, &chosen, &options)?;
            Ok(tally.failed == 0)
        }
        Command::Test { options } => all_tests::run(&options),
        Command::Demo { options } => demo::run(&Testbed::set_up(false)?, &options).map(|()| true),
        Command::RecordDevices { names } => record::run(&Testbed::set_up(false)?, &names).map(|()| true),
        Command::Shell { options } => shell::run(&Testbed::set_up(false)?, &options).map(|()| true),
    }
}
