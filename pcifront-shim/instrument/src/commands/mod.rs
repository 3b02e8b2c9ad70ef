//! The subcommands.

mod bench;
pub mod compare;
mod dump;
mod probe;
pub mod random;
mod replay;
pub mod session;
mod torture;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pcifront_shim::Connection;
use serde::Serialize;

use crate::Error;
use crate::bus::Bus;
use crate::cli::BusCommand;

/// Runs a command that needs a bus.
///
/// # Errors
/// As the command says.
pub fn run<C: Connection>(command: &BusCommand, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    match command {
        BusCommand::Probe(arguments) => probe::run(arguments, bus, out),
        BusCommand::Dump(arguments) => dump::run(arguments, bus, out),
        BusCommand::Random(arguments) => random::run(arguments, bus, out),
        BusCommand::Replay(arguments) => replay::run(arguments, bus, out),
        BusCommand::Bench(arguments) => bench::run(arguments, bus, out),
        BusCommand::Torture(arguments) => torture::run(arguments, bus, out),
    }
}

/// Lets `write` write to `file`, or to `out` without one. A file appears only when it is complete.
fn write_to(
    file: Option<&Path>,
    out: &mut dyn Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let Some(path) = file else {
        write(out)?;
        return Ok(out.flush()?);
    };
    let mut writer = BufWriter::new(File::create(path).map_err(Error::file("create", path))?);
    write(&mut writer).and_then(|()| writer.flush()).map_err(Error::file("write", path))
}

/// Writes a report to `file`, or to `out` without one: as JSON, or as `show` shows it to people.
fn write_report(
    file: Option<&Path>,
    out: &mut dyn Write,
    json: bool,
    report: &impl Serialize,
    show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    write_to(file, out, |out| {
        if json {
            serde_json::to_writer_pretty(&mut *out, report)?;
            writeln!(out)
        } else {
            show(out)
        }
    })
}
