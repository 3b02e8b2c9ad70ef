//! Every test of the project: those that cargo runs, then the scenarios on real Xen.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::scenarios::Tally;
use crate::testbed::Testbed;
use crate::{Options, interrupt, scenarios, workspace};

/// One run of `cargo test`.
struct CargoRun {
    title: &'static str,
    arguments: &'static [&'static str],
    /// Compiled with `--cfg loom`, into a folder of its own: it would otherwise throw away what the other runs compiled.
    is_loom: bool,
}

const CARGO_RUNS: &[CargoRun] = &[
    CargoRun {
        title: "unit, integration and documentation tests of the workspace",
        arguments: &["test", "--workspace", "--no-fail-fast"],
        is_loom: false,
    },
    CargoRun {
        title: "the shared page's protocol in every order of memory accesses (loom)",
        arguments: &["test", "--package", "pcifront-shim", "--release", "--test", "loom"],
        is_loom: true,
    },
];

/// Runs all; the last line on standard output is `N passed, N failed`. True if nothing failed.
///
/// # Errors
/// If the testbed cannot be set up, or on Ctrl-C. What does not compile counts as a failed test.
pub fn run(options: &Options) -> Result<bool> {
    let testbed = Testbed::set_up(false)?;
    let mut total = Tally::default();
    for cargo_run in CARGO_RUNS {
        println!("== {}", cargo_run.title);
        total.add(cargo_run.perform()?);
        interrupt::check()?;
    }
    println!("== scenarios on real Xen");
    total.add(scenarios::run(&testbed, &scenarios::choose(&[])?, options)?);
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

impl CargoRun {
    fn perform(&self) -> Result<Tally> {
        let mut command = workspace::cargo();
        command.args(self.arguments).stdout(Stdio::piped());
        if self.is_loom {
            add_loom(&mut command)?;
        }
        let mut child = command.spawn().map_err(Error::io("run", "cargo"))?;
        let mut tally = Tally::default();
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
                println!("{line}");
                tally.add(result_line(&line).unwrap_or_default());
            }
        }
        let status = child.wait().map_err(Error::io("wait for", "cargo"))?;
        if !status.success() && tally.failed == 0 {
            println!("cargo {}: {status}, and no test has run that failed", self.arguments.join(" "));
            tally.failed += 1;
        }
        Ok(tally)
    }
}

fn add_loom(command: &mut Command) -> Result<()> {
    let mut flags = std::env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(OsString::from(" --cfg loom"));
    command.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", workspace::target_folder()?.join("loom"));
    Ok(())
}

/// Reads `test result: ok. 12 passed; 0 failed; ...`.
fn result_line(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split(';') {
        let mut words = part.split_whitespace();
        match (words.next()?.parse(), words.next()) {
            (Ok(count), Some("passed")) => tally.passed = count,
            (Ok(count), Some("failed")) => tally.failed = count,
            _ => {}
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.50s";
        assert_eq!(result_line(line), Some(Tally { passed: 12, failed: 3 }));
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(result_line("test tests::result: ok. 5 passed"), None);
        assert_eq!(result_line("running 5 tests"), None);
    }
}
