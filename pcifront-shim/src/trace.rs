//! Recorded accesses to the configuration space of one function: text form and replay.
//!
//! One access a line, `DIRECTION SIZE OFFSET VALUE`: direction `R` or `W`, size in bytes, offset and value hexadecimal
//! (`0x` may be left out); the value of a read is what was answered. Lines that start with `#` are comments.
//! ```text
//! # Linux 6.1 on an e1000e
//! R 4 0x0 10d38086
//! W 2 0x4 503
//! ```

use std::fmt;
use std::str::FromStr;

use xenpcid_address::Sbdf;

use crate::abi::ErrorCode;
use crate::blocking::{Connection, Frontend, RequestError};
use crate::request::Width;

/// Accesses in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub Vec<TracedAccess>);

/// One access to configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedAccess {
    /// Read or write.
    pub direction: Direction,
    /// Width of the access.
    pub width: Width,
    /// Offset in bytes.
    pub offset: u16,
    /// Value written, or the answer to the read.
    pub value: u32,
}

/// Direction of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The guest read.
    Read,
    /// The guest wrote.
    Write,
}

/// An access that was answered otherwise than when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Position in the trace, from 0.
    pub index: usize,
    /// The access with its recorded value.
    pub recorded: TracedAccess,
    /// What the backend answered now: the value read (0 for a write), or its error.
    pub answered: Result<u32, ErrorCode>,
}

/// Text that is not a trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} of the trace, \"{text}\": {reason}; write R or W, size, offset and value, such as R 4 0x10 febc0000"
)]
pub struct ParseTraceError {
    line: usize,
    text: String,
    reason: &'static str,
}

impl Trace {
    /// Makes the same accesses to `address`, and gives those that were answered otherwise.
    ///
    /// # Errors
    /// The backend does not answer, or the event channel failed. An answer with an error code is a difference.
    pub fn replay<C: Connection>(
        &self,
        frontend: &mut Frontend<C>,
        address: Sbdf,
    ) -> Result<Vec<Difference>, RequestError> {
        let mut differences = Vec::new();
        for (index, recorded) in self.0.iter().copied().enumerate() {
            let TracedAccess { direction, width, offset, value } = recorded;
            let result = match direction {
                Direction::Read => frontend.config_read(address, offset, width),
                Direction::Write => frontend.config_write(address, offset, width, value).map(|()| 0),
            };
            let answered = match result {
                Ok(answer) => Ok(answer),
                Err(RequestError::Refused { error, .. }) => Err(error),
                Err(error) => return Err(error),
            };
            let expected = if direction == Direction::Read { value } else { 0 };
            if answered != Ok(expected) {
                differences.push(Difference { index, recorded, answered });
            }
        }
        Ok(differences)
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|access| writeln!(f, "{access}"))
    }
}

impl fmt::Display for TracedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.direction {
            Direction::Read => 'R',
            Direction::Write => 'W',
        };
        write!(f, "{letter} {} {:#x} {:x}", self.width.bytes(), self.offset, self.value)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access {} ({}): ", self.index, self.recorded)?;
        match self.answered {
            Ok(value) => write!(f, "answered {value:x}"),
            Err(error) => write!(f, "answered {error}"),
        }
    }
}

impl FromStr for Trace {
    type Err = ParseTraceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lines = (1..).zip(text.lines().map(str::trim));
        lines
            .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
            .map(|(line, text)| {
                parse_access(text).map_err(|reason| ParseTraceError { line, text: text.to_owned(), reason })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn parse_access(text: &str) -> Result<TracedAccess, &'static str> {
    let mut words = text.split_whitespace();
    let mut word = || words.next().ok_or("there are not four words");
    let direction = match word()? {
        "R" => Direction::Read,
        "W" => Direction::Write,
        _ => return Err("the direction is not R or W"),
    };
    let width = word()?.parse().ok().and_then(Width::from_bytes).ok_or("the size is not 1, 2 or 4")?;
    let offset = hexadecimal(word()?).and_then(|offset| offset.try_into().ok()).ok_or("the offset is not 0 to ffff")?;
    let value = hexadecimal(word()?)
        .filter(|value| *value <= width.all_ones())
        .ok_or("the value is not a hexadecimal number of that size")?;
    match words.next() {
        Some(_) => Err("there are more than four words"),
        None => Ok(TracedAccess { direction, width, offset, value }),
    }
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}
