//! `session`: several commands over one connection, as a backend needs that connects once only.

use std::io::{self, Read, Write};
use std::path::Path;

use clap::Parser;
use pcifront_shim::Connection;

use crate::Error;
use crate::bus::Bus;
use crate::cli::{BusCommand, Session};

/// One line of a session.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, name = "pcifront-shim", disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    command: BusCommand,
}

/// Reads the commands of a session, before anything is done.
///
/// # Errors
/// They cannot be read, or one of them is wrong.
pub fn read(arguments: &Session) -> Result<Vec<BusCommand>, Error> {
    let standard_input = Path::new("standard input");
    let (text, path) = match &arguments.file {
        Some(path) => (std::fs::read_to_string(path).map_err(Error::file("read", path))?, path.as_path()),
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(Error::file("read", standard_input))?;
            (text, standard_input)
        }
    };
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
    let commands = lines.map(|(number, line)| {
        let parsed = Line::try_parse_from(line.split_whitespace());
        parsed.map(|line| line.command).map_err(|error| Error::malformed(path, format!("line {number}: {error}")))
    });
    commands.collect()
}

/// Runs the commands one after the other, up to the first that fails.
///
/// # Errors
/// That of the command that failed.
pub fn run<C: Connection>(commands: &[BusCommand], bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    commands.iter().try_for_each(|command| super::run(command, bus, out))
}
