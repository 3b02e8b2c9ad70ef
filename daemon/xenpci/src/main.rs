//! The command line of xenpcid.
//!
//! [`explain`] works on a device from a file, from the running daemon, or from this host's sysfs ([`device`]); [`denied`]
//! and [`learn`] ask the daemon over its control socket; [`policies`] and [`check`] read files.
#![forbid(unsafe_code)]

mod arguments;
mod check;
mod denied;
mod device;
mod explain;
mod failure;
mod learn;
mod policies;
mod screen;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let Arguments { places, command } = Arguments::parse();
    let result = match command {
        Command::Explain(arguments) => explain::run(&places, &arguments),
        Command::Denied(arguments) => denied::run(&places, &arguments),
        Command::Learn(arguments) => learn::learn(&places, &arguments),
        Command::Suggest(arguments) => learn::all(&places, &arguments),
        Command::Policies(arguments) => policies::run(&places, &arguments),
        Command::Check(arguments) => check::run(&places, &arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
