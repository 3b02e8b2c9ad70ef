//! `replay`: a recording once more, and what is answered otherwise.

use std::io::Write;

use indicatif::ProgressIterator;
use pcifront_shim::Connection;

use super::{dump, write_to};
use crate::Error;
use crate::bus::Bus;
use crate::cli::Replay;
use crate::exchange::Exchange;
use crate::recording::Recording;

/// Makes the recorded accesses.
pub(super) fn run<C: Connection>(arguments: &Replay, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let named = arguments.function.as_slice();
    let function = bus.functions(named)?.first().copied().ok_or(Error::EmptyBus)?;
    let recorded = Recording::read_or_trace(&arguments.file, function)?;
    let mut answered = Recording::default();
    if arguments.record.is_some() {
        for address in bus.functions(&[])? {
            answered.spaces.push(dump::record(bus, address)?);
        }
    }
    let mut differences: Vec<(usize, &Exchange, Exchange)> = Vec::new();
    for (number, exchange) in (1..).zip(recorded.exchanges.iter().progress()) {
        bus.stop.check()?;
        let now = exchange.access.make(bus)?;
        if now.answer != exchange.answer {
            differences.push((number, exchange, now));
        }
        answered.exchanges.push(now);
    }
    if let Some(path) = &arguments.record {
        write_to(Some(path), out, |out| write!(out, "{answered}"))?;
    }
    write_to(None, out, |out| {
        for (number, recorded, now) in &differences {
            writeln!(out, "access {number}: {recorded} | {}", now.answer)?;
        }
        writeln!(out, "{} accesses, {} answered otherwise", recorded.exchanges.len(), differences.len())
    })?;
    match differences.len() {
        0 => Ok(()),
        count => Err(Error::Failed(format!("{count} accesses were answered otherwise than recorded"))),
    }
}
