//! One access to configuration space and its answer, as text that can be compared line by line.
//!
//! ```text
//! R 00:00.0 4 0x10 -> 0xfebc0000
//! W 00:00.0 2 0x4 0x103 -> success
//! R 00:00.0 3 0x5 -> invalid_offset (-2)
//! ```
//! Direction, function, size, offset, value of a write; then the value read, or the error. Size and offset are what goes over
//! the wire and need not be valid.

use std::fmt;
use std::str::FromStr;

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::trace::{Direction, TracedAccess};
use pcifront_shim::{Connection, Request, RequestError, Width};
use xenpcid_address::Sbdf;

use crate::bus::Bus;
use crate::config_text::short;

/// An access, valid or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAccess {
    /// Read or write.
    pub direction: Direction,
    /// The function.
    pub address: Sbdf,
    /// In bytes.
    pub size: i32,
    /// In bytes.
    pub offset: i32,
    /// What is written; 0 for a read.
    pub value: u32,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A read's value.
    Value(u32),
    /// A write was accepted.
    Success,
    /// Neither.
    Error(ErrorCode),
}

/// An access and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The access.
    pub access: ConfigAccess,
    /// The answer.
    pub answer: Answer,
}

impl ConfigAccess {
    /// Offset and width if the access is one that configuration space has: of 1, 2 or 4 bytes, aligned, in 4096 bytes.
    #[must_use]
    pub fn valid(&self) -> Option<(u16, Width)> {
        let width = u32::try_from(self.size).ok().and_then(Width::from_bytes)?;
        let offset = u16::try_from(self.offset).ok().filter(|offset| *offset < 0x1000)?;
        (offset % u16::from(width.bytes()) == 0).then_some((offset, width))
    }

    fn request(&self) -> Request {
        let operation = match self.direction {
            Direction::Read => Operation::CONFIG_READ,
            Direction::Write => Operation::CONFIG_WRITE,
        };
        let Self { size, offset, value, .. } = *self;
        Request { size, offset, value, ..Request::new(operation, self.address) }
    }

    /// Makes the access.
    ///
    /// # Errors
    /// No answer; an error code is an answer.
    pub fn make<C: Connection>(self, bus: &mut Bus<C>) -> Result<Exchange, RequestError> {
        let completed = bus.frontend.request(&self.request())?;
        let answer = match (completed.error, self.direction) {
            (ErrorCode::SUCCESS, Direction::Read) => {
                let width = u32::try_from(self.size).ok().and_then(Width::from_bytes).unwrap_or(Width::Dword);
                Answer::Value(completed.value & width.all_ones())
            }
            (ErrorCode::SUCCESS, Direction::Write) => Answer::Success,
            (error, _) => Answer::Error(error),
        };
        Ok(Exchange { access: self, answer })
    }
}

impl Exchange {
    /// A recorded access to a function that the record does not name.
    #[must_use]
    pub fn recorded(traced: TracedAccess, address: Sbdf) -> Self {
        let TracedAccess { direction, width, offset, value } = traced;
        let (written, answer) = match direction {
            Direction::Read => (0, Answer::Value(value)),
            Direction::Write => (value, Answer::Success),
        };
        let (size, offset) = (width.bytes().into(), offset.into());
        Self { access: ConfigAccess { direction, address, size, offset, value: written }, answer }
    }
}

impl fmt::Display for ConfigAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direction, address, size, offset, value } = self;
        let letter = match direction {
            Direction::Read => 'R',
            Direction::Write => 'W',
        };
        let sign = if *offset < 0 { "-" } else { "" };
        write!(f, "{letter} {} {size} {sign}{:#x}", short(*address), offset.unsigned_abs())?;
        match direction {
            Direction::Read => Ok(()),
            Direction::Write => write!(f, " {value:#x}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Success => f.write_str("success"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.access, self.answer)
    }
}

impl FromStr for Exchange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (access, answer) = text.split_once(" -> ").ok_or("there is no \" -> \" before the answer")?;
        let mut words = access.split(' ');
        let mut word = |what: &str| words.next().ok_or_else(|| format!("there is no {what}"));
        let direction = match word("direction")? {
            "R" => Direction::Read,
            "W" => Direction::Write,
            _ => return Err("the direction is not R or W".to_owned()),
        };
        let address = word("address")?.parse().map_err(|error: xenpcid_address::ParseSbdfError| error.to_string())?;
        let size = word("size")?.parse().map_err(|_| "the size is no number")?;
        let offset = signed_hexadecimal(word("offset")?).ok_or("the offset is no hexadecimal number")?;
        let value = match direction {
            Direction::Read => 0,
            Direction::Write => hexadecimal(word("value")?).ok_or("the value is no hexadecimal number")?,
        };
        if words.next().is_some() {
            return Err("there are too many words before the answer".to_owned());
        }
        let answer = match (direction, answer) {
            (Direction::Write, "success") => Answer::Success,
            (Direction::Read, answer) if answer.starts_with("0x") => {
                Answer::Value(hexadecimal(answer).ok_or("the answer is no hexadecimal number")?)
            }
            (_, error) => Answer::Error(error_code(error).ok_or("the answer is neither a value nor an error")?),
        };
        Ok(Self { access: ConfigAccess { direction, address, size, offset, value }, answer })
    }
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn signed_hexadecimal(text: &str) -> Option<i32> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    i32::try_from(i64::from(hexadecimal(digits)?).checked_mul(sign)?).ok()
}

/// As [`ErrorCode`] is shown: `access_denied (-3)`, `error -22`.
fn error_code(text: &str) -> Option<ErrorCode> {
    let number = match text.strip_prefix("error ") {
        Some(number) => number,
        None => text.split_once(" (")?.1.strip_suffix(')')?,
    };
    let code = ErrorCode(number.parse().ok()?);
    (code.to_string() == text && code != ErrorCode::SUCCESS).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_as_documented() {
        for line in [
            "R 00:00.0 4 0x10 -> 0xfebc0000",
            "W 00:00.0 2 0x4 0x103 -> success",
            "R 0001:02:1f.7 3 -0x5 -> invalid_offset (-2)",
            "W 00:00.0 -1 0x0 0x0 -> error -22",
        ] {
            assert_eq!(line.parse::<Exchange>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn what_is_not_a_line_is_refused_with_a_reason() {
        for (line, reason) in [
            ("R 00:00.0 4 0x10", "before the answer"),
            ("X 00:00.0 4 0x10 -> 0x0", "direction"),
            ("R 00:00.9 4 0x10 -> 0x0", "function"),
            ("R 00:00.0 four 0x10 -> 0x0", "size"),
            ("R 00:00.0 4 10 -> 0x0", "offset"),
            ("W 00:00.0 4 0x10 -> success", "no value"),
            ("R 00:00.0 4 0x10 0x0 -> 0x0", "too many"),
            ("R 00:00.0 4 0x10 -> success", "answer"),
            ("R 00:00.0 4 0x10 -> success (0)", "answer"),
            ("R 00:00.0 4 0x10 -> access_denied (-2)", "answer"),
        ] {
            let error = line.parse::<Exchange>().unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_exchange_comes_back_from_its_line(
            is_read: bool, devfn: u8, size: i32, offset: i32, value: u32, error in prop::option::of(i32::MIN..0)
        ) {
            let address = Sbdf::from_devfn(0, 0, devfn);
            let (direction, value, success) = if is_read {
                (Direction::Read, 0, Answer::Value(value))
            } else {
                (Direction::Write, value, Answer::Success)
            };
            let answer = error.map_or(success, |error| Answer::Error(ErrorCode(error)));
            let exchange = Exchange { access: ConfigAccess { direction, address, size, offset, value }, answer };
            prop_assert_eq!(exchange.to_string().parse(), Ok(exchange));
        }

        #[test]
        fn no_line_makes_the_parser_panic(line: String) {
            let _either = line.parse::<Exchange>();
        }
    }
}
