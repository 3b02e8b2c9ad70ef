//! What differs between two recordings, by register, and what of it was reviewed.

mod expected;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pcifront_shim::trace::Direction;
use serde::Serialize;
use xenpcid_address::Sbdf;

use crate::config_text::{ConfigText, short};
use crate::exchange::{Answer, ConfigAccess};
use crate::recording::Recording;
use crate::registers::{Layout, Placed};

pub use expected::Expected;

/// A register that answers differently. Many accesses can show the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// The function.
    pub function: String,
    /// The register's name; for accesses that no register can have, what is wrong with them.
    #[serde(rename = "where")]
    pub place: String,
    /// How it was accessed.
    pub operation: Operation,
    /// What the first backend answers: `value`, `success`, an error's name or `nothing`.
    pub a: String,
    /// What the second one answers.
    pub b: String,
}

/// How a register was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// In a dump, before any other access.
    Dump,
    /// Read.
    Read,
    /// Written.
    Write,
}

/// The accesses that show a difference.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// How many there are.
    pub times: usize,
    /// The first, with both answers.
    pub first: String,
}

/// All differences of two recordings.
pub type Differences = BTreeMap<Difference, Shown>;

/// How the difference of a whole function is called.
const FUNCTION: &str = "function";

/// Compares two recordings.
///
/// # Errors
/// They are not of the same accesses.
pub fn compare(a: &Recording, b: &Recording) -> Result<Differences, String> {
    let mut comparison = Comparison::default();
    let functions: BTreeSet<Sbdf> = a.spaces.iter().chain(&b.spaces).map(|space| space.address).collect();
    for address in functions {
        comparison.layouts.insert(address, a.layout(address).with(b.layout(address)));
        comparison.spaces(address, a.space(address), b.space(address));
    }
    for (number, (first, second)) in (1..).zip(a.exchanges.iter().zip(&b.exchanges)) {
        if first.access != second.access {
            return Err(format!(
                "access {number} is \"{}\" in the first and \"{}\" in the second: these are not the same requests; \
                 make both with the same --seed, --count, --function, --spare and --layout",
                first.access, second.access
            ));
        }
        comparison.answers(first.access, first.answer, second.answer);
    }
    if a.exchanges.len() != b.exchanges.len() {
        return Err(format!("the first has {} accesses, the second {}", a.exchanges.len(), b.exchanges.len()));
    }
    Ok(comparison.differences)
}

#[derive(Default)]
struct Comparison {
    layouts: BTreeMap<Sbdf, Layout>,
    differences: Differences,
}

impl Comparison {
    fn add(&mut self, difference: Difference, first: String) {
        self.differences.entry(difference).or_insert(Shown { times: 0, first }).times += 1;
    }

    /// Compares the spaces of a function register by register.
    fn spaces(&mut self, address: Sbdf, a: Option<&ConfigText>, b: Option<&ConfigText>) {
        let difference = |place: &str, a: &str, b: &str| Difference {
            function: short(address),
            place: place.to_owned(),
            operation: Operation::Dump,
            a: a.to_owned(),
            b: b.to_owned(),
        };
        let (Some(a), Some(b)) = (a, b) else {
            let there = |space: Option<_>| if space.is_some() { "value" } else { "nothing" };
            let difference = difference(FUNCTION, there(a), there(b));
            return self.add(difference, "only one of both has the function".to_owned());
        };
        let Some(layout) = self.layouts.get(&address) else { return };
        for Placed { name, offset, bytes } in layout.touched(0, layout.size()) {
            match (little_endian(&a.config, offset, bytes), little_endian(&b.config, offset, bytes)) {
                (a, b) if a == b => {}
                (a, b) => {
                    let kind = |text: &str| if text.is_empty() { "nothing" } else { "value" };
                    self.add(difference(&name, kind(&a), kind(&b)), format!("at {offset:#x}: {a} | {b}"));
                }
            }
        }
    }

    fn answers(&mut self, access: ConfigAccess, a: Answer, b: Answer) {
        if a == b {
            return;
        }
        let operation = match access.direction {
            Direction::Read => Operation::Read,
            Direction::Write => Operation::Write,
        };
        for place in self.places(access, a, b) {
            let function = short(access.address);
            let difference = Difference { function, place, operation, a: kind(a), b: kind(b) };
            self.add(difference, format!("{access} -> {a} | {b}"));
        }
    }

    /// The registers in which the answers to an access differ.
    fn places(&self, access: ConfigAccess, a: Answer, b: Answer) -> Vec<String> {
        let Some((offset, width)) = access.valid() else { return vec![what_is_wrong(access).to_owned()] };
        let layout = match self.layouts.get(&access.address) {
            Some(layout) => layout,
            // Without any space nothing is known of any function.
            None if self.layouts.is_empty() => &Layout::default(),
            None => return vec!["absent-function".to_owned()],
        };
        let bytes = u16::from(width.bytes());
        if layout.size() != 0 && offset.saturating_add(bytes) > layout.size() {
            return vec!["beyond-end".to_owned()];
        }
        let differs = |byte: u16| match (a, b) {
            (Answer::Value(a), Answer::Value(b)) => (a ^ b) >> (u32::from(byte.saturating_sub(offset)) * 8) & 0xff != 0,
            _ => true,
        };
        let mut touched = layout.touched(offset, bytes);
        touched.retain(|register| {
            (offset..offset.saturating_add(bytes)).any(|byte| register.overlaps(byte, 1) && differs(byte))
        });
        touched.into_iter().map(|register| register.name).collect()
    }
}

/// Bytes as one hexadecimal number; empty beyond the end.
fn little_endian(config: &[u8], offset: u16, bytes: u16) -> String {
    let bytes = config.iter().skip(offset.into()).take(bytes.into());
    bytes.fold(String::new(), |text, byte| format!("{byte:02x}{text}"))
}

/// What no configuration space has.
fn what_is_wrong(access: ConfigAccess) -> &'static str {
    match (access.size, access.offset) {
        (1 | 2 | 4, ..0) => "negative-offset",
        (1 | 2 | 4, 0x1000..) => "beyond-end",
        (1 | 2 | 4, _) => "misaligned",
        _ => "invalid-size",
    }
}

/// What sort of answer it is.
fn kind(answer: Answer) -> String {
    match answer {
        Answer::Value(_) => "value".to_owned(),
        Answer::Success => "success".to_owned(),
        Answer::Error(error) => error.name().map_or_else(|| error.to_string(), str::to_owned),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, place, operation, a, b } = self;
        write!(f, "{function} {place} {operation}: {a} | {b}")
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dump => "dump",
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::tests::e1000e;

    fn recording(change: impl FnOnce(&mut Vec<u8>), lines: &[&str]) -> Recording {
        let mut config = e1000e();
        change(&mut config);
        let space = ConfigText { address: Sbdf::from_devfn(0, 0, 0), config, refused: Vec::new() };
        Recording { spaces: vec![space], exchanges: lines.iter().map(|line| line.parse().unwrap()).collect() }
    }

    fn found(a: &[&str], b: &[&str]) -> Vec<String> {
        let differences = compare(&recording(|_| {}, a), &recording(|_| {}, b)).unwrap();
        differences.into_iter().map(|(difference, shown)| format!("{difference} x{}", shown.times)).collect()
    }

    #[test]
    fn equal_recordings_do_not_differ() {
        assert_eq!(found(&["R 00:00.0 4 0x4 -> 0x1"], &["R 00:00.0 4 0x4 -> 0x1"]), [""; 0]);
    }

    #[test]
    fn spaces_differ_by_register() {
        let changed = recording(
            |config| {
                config[0x05] ^= 1;
                config[0xcc] ^= 1;
                config[0x800] ^= 1;
            },
            &[],
        );
        let differences: Vec<_> = compare(&recording(|_| {}, &[]), &changed).unwrap().into_iter().collect();
        let shown: Vec<_> =
            differences.iter().map(|(difference, shown)| format!("{difference} {}", shown.first)).collect();
        assert_eq!(
            shown,
            [
                "00:00.0 0x800 dump: value | value at 0x800: 00000000 | 00000001",
                "00:00.0 command dump: value | value at 0x4: 0103 | 0003",
                "00:00.0 pm.pmcsr dump: value | value at 0xcc: 0000 | 0001",
            ]
        );
    }

    #[test]
    fn space_that_is_shorter_or_missing_is_a_difference() {
        let whole = recording(|_| {}, &[]);
        let half = recording(|config| config.truncate(256), &[]);
        let differences = compare(&whole, &half).unwrap();
        assert!(differences.keys().all(|difference| difference.b == "nothing"));
        assert!(differences.keys().any(|difference| difference.place == "aer.uncor_mask"));
        let differences = compare(&whole, &Recording::default()).unwrap();
        assert_eq!(
            differences.into_keys().map(|d| d.to_string()).collect::<Vec<_>>(),
            ["00:00.0 function dump: value | nothing"]
        );
    }

    #[test]
    fn values_differ_in_the_registers_whose_bytes_differ() {
        let a = ["R 00:00.0 4 0x4 -> 0x100003", "R 00:00.0 4 0xcc -> 0x100000", "R 00:00.0 4 0xcc -> 0x0"];
        let b = ["R 00:00.0 4 0x4 -> 0x100007", "R 00:00.0 4 0xcc -> 0x000001", "R 00:00.0 4 0xcc -> 0x1"];
        assert_eq!(
            found(&a, &b),
            [
                "00:00.0 command read: value | value x1",
                "00:00.0 pm.pmcsr read: value | value x2",
                "00:00.0 pm.pmcsr_bse read: value | value x1",
            ]
        );
    }

    #[test]
    fn errors_differ_in_all_registers_that_were_touched() {
        let a = ["W 00:00.0 4 0x4 0x0 -> success"];
        let b = ["W 00:00.0 4 0x4 0x0 -> access_denied (-3)"];
        assert_eq!(
            found(&a, &b),
            ["00:00.0 command write: success | access_denied x1", "00:00.0 status write: success | access_denied x1",]
        );
    }

    #[test]
    fn accesses_that_no_register_can_have_are_named_by_what_is_wrong() {
        let lines = [
            "R 00:00.0 3 0x4 ->",
            "R 00:00.0 4 0x5 ->",
            "R 00:00.0 4 0x1000 ->",
            "R 00:00.0 4 -0x4 ->",
            "R 00:1f.7 4 0x0 ->",
        ];
        let with = |answer: &str| lines.map(|line| format!("{line} {answer}"));
        let (a, b) = (with("invalid_offset (-2)"), with("error -22"));
        let found = found(&a.each_ref().map(String::as_str), &b.each_ref().map(String::as_str));
        let places: Vec<&str> = found.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(places, ["beyond-end", "invalid-size", "misaligned", "negative-offset", "absent-function"]);
    }

    #[test]
    fn recordings_of_other_requests_are_not_compared() {
        let a = recording(|_| {}, &["R 00:00.0 4 0x4 -> 0x1"]);
        let other = recording(|_| {}, &["R 00:00.0 4 0x8 -> 0x1"]);
        let error = compare(&a, &other).unwrap_err();
        assert!(error.starts_with("access 1 is \"R 00:00.0 4 0x4\""), "{error}");
        assert!(compare(&a, &recording(|_| {}, &[])).is_err());
    }
}
