//! `pcifront-shim`: see the library of this crate, and `pcifront-shim --help`.
#![forbid(unsafe_code)]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use pcifront_shim_instrument::bus::{Bus, with_bus};
use pcifront_shim_instrument::cli::{Arguments, Command};
use pcifront_shim_instrument::guest::{self, GuestRing};
use pcifront_shim_instrument::handshake::Handshake;
use pcifront_shim_instrument::{Error, Stop, commands};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pcifront-shim: {error}");
            error.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut out = BufWriter::new(std::io::stdout());
    let result = match &arguments.command {
        Command::Session(session) => commands::session::read(session)
            .and_then(|lines| on_bus(arguments, |bus| commands::session::run(&lines, bus, &mut out))),
        Command::Compare(arguments) => commands::compare::run(arguments, &mut out),
        Command::OnBus(command) => on_bus(arguments, |bus| commands::run(command, bus, &mut out)),
    };
    out.flush()?;
    result
}

/// Connects this guest's bus for `act`.
fn on_bus(arguments: &Arguments, act: impl FnOnce(&mut Bus<GuestRing>) -> Result<(), Error>) -> Result<(), Error> {
    guest::check(Path::new("/"))?;
    let stop = Stop::on_signals()?;
    let ring = GuestRing::open()?;
    let nodes = ring.nodes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (client, domain) = runtime.block_on(guest::xenstore())?;
    let mut handshake = Handshake::new(client, domain, arguments.timeout, stop);
    with_bus(&runtime, &mut handshake, ring, &nodes, act)
}
