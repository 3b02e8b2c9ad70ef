//! A file of this program: configuration spaces, then accesses with their answers.
//!
//! ```text
//! # comment
//! 00:00.0 0200: 8086:10d3
//! 00: 86 80 d3 10 ...
//!
//! R 00:00.0 4 0x10 -> 0xfebc0000
//! ```
//! Either part may be missing: a dump has no accesses. The spaces say where the capabilities are, and so what the registers
//! of the accesses are called.

use std::fmt;
use std::fs;
use std::path::Path;

use pcifront_shim::trace::Trace;
use xenpcid_address::Sbdf;

use crate::Error;
use crate::config_text::ConfigText;
use crate::exchange::Exchange;
use crate::registers::Layout;

/// What a file has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Configuration spaces, as they were before the accesses.
    pub spaces: Vec<ConfigText>,
    /// Accesses in their order.
    pub exchanges: Vec<Exchange>,
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not in this form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&read(path)?).map_err(|problem| Error::malformed(path, problem))
    }

    /// Reads a file in this form, or a trace ([`pcifront_shim::trace`]), whose accesses are to the function `of_trace`.
    ///
    /// # Errors
    /// It cannot be read, or is in neither form.
    pub fn read_or_trace(path: &Path, of_trace: Sbdf) -> Result<Self, Error> {
        let text = read(path)?;
        let first = text.lines().find(|line| is_access(line));
        if first.is_none_or(|line| line.contains("->")) {
            return Self::parse(&text).map_err(|problem| Error::malformed(path, problem));
        }
        let trace: Trace = text.parse().map_err(|error| Error::malformed(path, error))?;
        let exchanges = trace.0.into_iter().map(|traced| Exchange::recorded(traced, of_trace)).collect();
        Ok(Self { spaces: Vec::new(), exchanges })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is wrong with it, with the number of the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let exchanges = (1..).zip(text.lines()).filter(|(_, line)| is_access(line)).map(|(number, line)| {
            line.parse().map_err(|problem: String| format!("line {number}, \"{line}\": {problem}"))
        });
        let exchanges: Vec<Exchange> = exchanges.collect::<Result<_, _>>()?;
        // Empty in the place of an access, so that lines keep their numbers.
        let rest: Vec<&str> = text.lines().map(|line| if is_access(line) { "" } else { line }).collect();
        let has_spaces = rest.iter().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let spaces = if has_spaces { ConfigText::parse(&rest.join("\n"))? } else { Vec::new() };
        if spaces.is_empty() && exchanges.is_empty() {
            return Err("there is neither a configuration space nor an access in it".to_owned());
        }
        Ok(Self { spaces, exchanges })
    }

    /// Where the registers of a function are: nothing is known if its space is not recorded.
    #[must_use]
    pub fn layout(&self, address: Sbdf) -> Layout {
        self.space(address).map(|space| Layout::of(&space.config)).unwrap_or_default()
    }

    /// The configuration space of a function.
    #[must_use]
    pub fn space(&self, address: Sbdf) -> Option<&ConfigText> {
        self.spaces.iter().find(|space| space.address == address)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

fn is_access(line: &str) -> bool {
    line.starts_with("R ") || line.starts_with("W ")
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spaces.iter().try_for_each(|space| writeln!(f, "{space}"))?;
        self.exchanges.iter().try_for_each(|exchange| writeln!(f, "{exchange}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::tests::e1000e;

    #[test]
    fn both_parts_come_back_from_their_text() {
        let address = Sbdf::from_devfn(0, 0, 0);
        let recording = Recording {
            spaces: vec![ConfigText { address, config: e1000e(), refused: Vec::new() }],
            exchanges: vec!["R 00:00.0 4 0x10 -> 0x0".parse().unwrap(), "R 00:00.0 1 0x0 -> 0x86".parse().unwrap()],
        };
        assert_eq!(Recording::parse(&recording.to_string()), Ok(recording.clone()));
        assert_eq!(recording.layout(address).size(), 4096);
        assert_eq!(recording.layout(Sbdf::from_devfn(0, 0, 1)).size(), 0);
    }

    #[test]
    fn accesses_alone_are_a_recording_and_nothing_is_none() {
        assert_eq!(
            Recording::parse("# x\nR 00:00.0 4 0x10 -> 0x0\n").map(|recording| recording.exchanges.len()),
            Ok(1)
        );
        assert!(Recording::parse("# x\n\n").unwrap_err().contains("neither"));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let error = Recording::parse("# x\nR 00:00.0 4 0x10 -> 0x0\nR 00:00.0\n").unwrap_err();
        assert!(error.starts_with("line 3, "), "{error}");
        let error = Recording::parse("R 00:00.0 4 0x10 -> 0x0\n00:00.0 0200:\n10: 00\n").unwrap_err();
        assert!(error.starts_with("line 3, "), "{error}");
    }
}
