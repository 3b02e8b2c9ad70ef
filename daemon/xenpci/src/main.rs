//! The command line of xenpcid.
//!
//! [`status`], [`tree`], [`watch`], [`interrupts`], [`why`], [`reconcile`] and [`assign`] ask the daemon over its control
//! socket, and so does [`doctor`], which looks at this host first. [`xl`] has the commands of xl, and [`create`] makes
//! domains. [`explain`] works on a device from a file, from the running daemon, or from this host's sysfs ([`device`]);
//! [`denied`] and [`learn`] ask the daemon what guests tried; [`policies`] and [`check`] read files.
#![forbid(unsafe_code)]

mod arguments;
mod assign;
mod check;
mod class;
mod completions;
mod create;
mod denied;
mod device;
mod doctor;
mod explain;
mod failure;
mod interrupts;
mod learn;
mod man_pages;
mod operation;
mod policies;
mod reconcile;
mod screen;
mod status;
mod table;
mod tree;
mod watch;
mod why;
mod xl;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    completions::answer();
    let words: Vec<_> = std::env::args_os().collect();
    match xl::Invocation::find(&words, &globals()) {
        Ok(Some(invocation)) => return invocation.run(),
        Ok(None) => {}
        Err(unknown) => return unknown.report(),
    }
    let Arguments { places, command } = Arguments::parse();
    let result = match command {
        Command::Status(arguments) => status::run(&places, &arguments),
        Command::Tree(arguments) => tree::run(&places, &arguments),
        Command::Watch(arguments) => watch::run(&places, &arguments),
        Command::Interrupts(arguments) => interrupts::run(&places, &arguments),
        Command::Why(arguments) => why::run(&places, arguments),
        Command::Doctor(arguments) => doctor::run(&places, &arguments),
        Command::Plan(arguments) => reconcile::plan(&places, &arguments),
        Command::Apply(arguments) => reconcile::apply(&places, &arguments),
        Command::Attach(arguments) => assign::attach(&places, arguments),
        Command::Detach(arguments) => assign::detach(&places, arguments),
        Command::Claim(arguments) => assign::claim(&places, arguments),
        Command::Release(arguments) => assign::release(&places, arguments),
        Command::Explain(arguments) => explain::run(&places, &arguments),
        Command::Denied(arguments) => denied::run(&places, &arguments),
        Command::Learn(arguments) => learn::learn(&places, &arguments),
        Command::Suggest(arguments) => learn::all(&places, &arguments),
        Command::Policies(arguments) => policies::run(&places, &arguments),
        Command::Check(arguments) => check::run(&places, &arguments),
        Command::Create(arguments) => create::run(&places, &arguments),
        // What was not taken above does not begin as a command line of xl does.
        Command::Xl(_) => Err(Failure::Misplaced),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::ManPages(arguments) => man_pages::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Options that may stand before a command.
fn globals() -> Vec<String> {
    let command = Arguments::command();
    command.get_arguments().filter(|option| option.is_global_set()).map(|option| option.get_id().to_string()).collect()
}
