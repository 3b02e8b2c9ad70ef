//! `dump`: configuration space as text.

use std::io::Write;

use pcifront_shim::guest;
use pcifront_shim::{Connection, RequestError, Width};
use xenpcid_address::Sbdf;

use super::write_to;
use crate::Error;
use crate::bus::Bus;
use crate::cli::Dump;
use crate::config_text::ConfigText;

pub fn run<C: Connection>(arguments: &Dump, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let mut texts = Vec::new();
    for address in bus.functions(&arguments.function)? {
        texts.push(record(bus, address)?);
    }
    write_to(arguments.output.as_deref(), out, |out| texts.iter().try_for_each(|text| writeln!(out, "{text}")))
}

/// Reads all of a function's configuration space by dwords. What is refused is all ones, as in Linux.
pub fn record<C: Connection>(bus: &mut Bus<C>, address: Sbdf) -> Result<ConfigText, Error> {
    let size = guest::config_size(&mut bus.frontend, address)?;
    let mut text = ConfigText { address, config: Vec::with_capacity(size.into()), refused: Vec::new() };
    for offset in (0..size).step_by(4) {
        bus.stop.check()?;
        let value = match bus.frontend.config_read(address, offset, Width::Dword) {
            Err(RequestError::Refused { error, .. }) => {
                text.refused.push((offset, error));
                Width::Dword.all_ones()
            }
            result => result?,
        };
        text.config.extend(value.to_le_bytes());
    }
    Ok(text)
}
