//! `compare`: two recordings, and the reviewed list of their differences.

use std::fs;
use std::io::{self, Write};

use serde::Serialize;

use super::write_report;
use crate::Error;
use crate::cli::Compare;
use crate::compare::{Difference, Expected, Shown, compare};
use crate::recording::Recording;

#[derive(Serialize)]
struct Report<'a> {
    accesses: usize,
    differences: Vec<Entry<'a>>,
    unused: Vec<String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    difference: &'a Difference,
    #[serde(flatten)]
    shown: &'a Shown,
    /// Why it is right; without it the difference is not listed.
    reason: Option<&'a str>,
}

/// Compares, and shows each difference.
///
/// # Errors
/// A difference is not on the list; a file cannot be read, or the recordings are not of the same accesses.
pub fn run(arguments: &Compare, out: &mut dyn Write) -> Result<(), Error> {
    let (a, b) = (Recording::read(&arguments.a)?, Recording::read(&arguments.b)?);
    let expected = match &arguments.expect {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
            Expected::parse(&text).map_err(|problem| Error::malformed(path, problem))?
        }
        None => Expected::default(),
    };
    let differences = compare(&a, &b).map_err(Error::Failed)?;

    let mut used = Vec::new();
    let entry = |(difference, shown)| {
        let entries: Vec<_> = expected.matching(difference).collect();
        used.extend(entries.iter().map(|(position, _)| *position));
        Entry { difference, shown, reason: entries.first().map(|(_, entry)| entry.reason.as_str()) }
    };
    let differences: Vec<Entry<'_>> = differences.iter().map(entry).collect();
    let unused = expected.unused(&used).into_iter().map(|entry| entry.describe()).collect();
    let report = Report { accesses: a.exchanges.len(), differences, unused };
    write_report(arguments.output.as_deref(), out, arguments.json, &report, |out| report.show(out))?;
    match report.unlisted() {
        0 => Ok(()),
        count => Err(Error::Failed(format!("{count} of {} differences are not listed", report.differences.len()))),
    }
}

impl Report<'_> {
    fn unlisted(&self) -> usize {
        self.differences.iter().filter(|entry| entry.reason.is_none()).count()
    }

    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { accesses, differences, unused } = self;
        for Entry { difference, shown: Shown { times, first }, reason } in differences {
            writeln!(out, "{difference}  ({times} times; first: {first})")?;
            match reason {
                Some(reason) => writeln!(out, "\tlisted: {reason}")?,
                None => writeln!(out, "\tNOT LISTED")?,
            }
        }
        for entry in unused {
            writeln!(out, "unused entry of the list: {entry}")?;
        }
        let unlisted = self.unlisted();
        writeln!(
            out,
            "{accesses} accesses; {} differences, {} of them listed, {unlisted} not; {} unused entries",
            differences.len(),
            differences.len() - unlisted,
            unused.len(),
        )
    }
}
