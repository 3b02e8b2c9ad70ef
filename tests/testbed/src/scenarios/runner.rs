//! Runs scenarios: one boot for many, a clean machine for each.
//!
//! ```text
//!            ┌──────────── boot ◄────────────┐
//!            │                               │ FAIL: a machine in an unknown state is not used again;
//!            ▼                               │ AGAIN: and the same scenario is run, if what failed is not ours
//!   ┌──► scenario ──► look at Xen's log ──► clean up, compare with the state after the boot
//!   │                                        │
//!   └──────────────── PASS ◄─────────────────┘
//! ```

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use crate::Options;
use crate::error::{Error, Result, expect};
use crate::interrupt;
use crate::machine::devices::{Found, Layout};
use crate::machine::{Machine, xen_log};
use crate::process::tail;
use crate::scenarios::Scenario;
use crate::testbed::Testbed;
use crate::workspace::Program;

/// Lines of each log that a failure shows.
const LOG_LINES: usize = 30;

/// How often a scenario is run before what is not ours ([`Error::is_not_ours`]) fails it.
const ATTEMPTS: u32 = 3;

/// How many scenarios passed and failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
}

impl Tally {
    /// Counts both together.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs scenarios and prints a line `PASS name seconds` or `FAIL name reason` for each.
///
/// # Errors
/// [`Error::Interrupted`]; anything else is a failure of the scenario.
pub fn run(testbed: &Rc<Testbed>, scenarios: &[&Scenario], options: &Options) -> Result<Tally> {
    let mut programs = Vec::new();
    for program in [Program::Daemon, Program::CommandLine, Program::Instrument] {
        if scenarios.iter().any(|scenario| scenario.needs.programs.contains(&program)) {
            // Without it the other scenarios still have something to say.
            programs.push((program, options.program(program, testbed).map_err(|error| error.to_string())));
        }
    }
    let mut tally = Tally::default();
    let mut stage = Stage { testbed, options, programs, booted: None };
    for scenario in scenarios {
        let begun = Instant::now();
        let mut outcome = stage.perform(scenario);
        for _ in 1..ATTEMPTS {
            let Some(error) = outcome.as_ref().err().filter(|error| error.is_not_ours()) else { break };
            println!("AGAIN {} {}", scenario.name, first_line(error));
            stage.discard();
            outcome = stage.perform(scenario);
        }
        interrupt::check()?;
        match outcome {
            Ok(()) => {
                tally.passed += 1;
                println!("PASS {} {:.1}", scenario.name, begun.elapsed().as_secs_f64());
            }
            Err(error) => {
                tally.failed += 1;
                stage.discard();
                eprintln!("--- {}: {error}", scenario.name);
                println!("FAIL {} {}", scenario.name, first_line(&error));
            }
        }
    }
    Ok(tally)
}

fn first_line(error: &Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The machine that the scenarios run on, while there is one.
struct Stage<'a> {
    testbed: &'a Rc<Testbed>,
    options: &'a Options,
    /// The programs that some scenario needs, or why there is none.
    programs: Vec<(Program, std::result::Result<PathBuf, String>)>,
    booted: Option<Booted>,
}

/// A machine, and what it looked like before anybody used it.
struct Booted {
    machine: Machine,
    functions: Vec<Found>,
    modules: Vec<String>,
    is_used: bool,
}

impl Stage<'_> {
    /// Runs one scenario and everything that has to hold after it.
    fn perform(&mut self, scenario: &Scenario) -> Result<()> {
        for (program, built) in &self.programs {
            if let (true, Err(reason)) = (scenario.needs.programs.contains(program), built) {
                return Err(Error::Unsuitable(reason.clone()));
            }
        }
        if scenario.needs.is_unused && self.booted.as_ref().is_some_and(|booted| booted.is_used) {
            self.discard();
        }
        let is_verbose = self.options.verbose;
        let progress = self.testbed.progress.clone();
        let booted = self.boot()?;
        let step = progress.step(scenario.name);
        booted.is_used = true;
        let log_begin = booted.machine.xen_log()?.len();
        let mut outcome = (scenario.run)(&mut booted.machine);
        // A machine that was booted with other devices is not what the next scenario expects.
        let is_usual = booted.machine.layout() == Layout::Usual;
        if outcome.is_ok() && is_usual {
            outcome = booted.clean_up();
        }
        let log = booted.machine.xen_log()?;
        let log = log.get(log_begin..).unwrap_or(&log);
        outcome = outcome.and_then(|()| check_log(log)).map_err(|error| booted.machine.explain(error));
        drop(step);
        interrupt::check()?;
        let says_something = !matches!(outcome, Err(Error::LostInterrupt { .. }));
        if says_something && (outcome.is_err() || is_verbose) {
            show_logs(&booted.machine, log);
        }
        if !is_usual {
            self.discard();
        }
        outcome
    }

    fn boot(&mut self) -> Result<&mut Booted> {
        if self.booted.is_none() {
            let mut machine = Machine::boot(self.testbed, self.options.verbose)?;
            if self.options.keep {
                eprintln!("run folder: {}", machine.keep().display());
            }
            for (program, built) in &self.programs {
                match (program, built) {
                    (Program::Instrument, Ok(path)) => machine.install_instrument(&self.testbed.root, path)?,
                    (program, Ok(path)) => machine.install(*program, path)?,
                    (_, Err(_)) => {}
                }
            }
            let functions = machine.functions()?;
            let modules = loaded_modules(&machine)?;
            self.booted = Some(Booted { machine, functions, modules, is_used: false });
        }
        self.booted.as_mut().ok_or(Error::Interrupted)
    }

    /// The next scenario boots a new machine.
    fn discard(&mut self) {
        self.booted = None;
    }
}

impl Booted {
    /// Ends the guests and the daemon, unloads what was loaded, and compares with the state after the boot.
    fn clean_up(&mut self) -> Result<()> {
        self.machine.destroy_guests()?;
        self.machine.stop_daemons()?;
        let loaded = loaded_modules(&self.machine)?;
        let added: Vec<&str> = loaded.iter().filter(|name| !self.modules.contains(name)).map(String::as_str).collect();
        if !added.is_empty() {
            // Virtual functions go with their physical function's driver.
            self.machine.dom0().sh("for count in /sys/bus/pci/devices/*/sriov_numvfs; do echo 0 > $count; done")?;
            self.machine.dom0().sh(&format!("modprobe -r {}", added.join(" ")))?;
        }
        let domains = self.machine.dom0().sh("xl list | tail -n +3")?;
        expect(domains.is_empty(), "no domain left but dom0", domains)?;
        let functions = self.machine.functions()?;
        for was in &self.functions {
            let is = functions.iter().find(|is| is.sbdf == was.sbdf);
            expect(is == Some(was), format!("after the scenario, {was:?}"), format!("{is:?}"))?;
        }
        expect(
            functions.len() == self.functions.len(),
            format!("{} PCI functions after the scenario", self.functions.len()),
            functions.len().to_string(),
        )
    }
}

fn loaded_modules(machine: &Machine) -> Result<Vec<String>> {
    let text = machine.dom0().sh("cut -d ' ' -f 1 /proc/modules")?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn check_log(log: &str) -> Result<()> {
    let faults = xen_log::faults(log);
    expect(faults.is_empty(), "no fault in Xen's log", faults.join("; "))
}

/// What somebody who has to find the cause wants to see.
fn show_logs(machine: &Machine, xen: &str) {
    let text = |answer: Result<String>| answer.unwrap_or_else(|error| error.to_string());
    let mut sections = vec![
        ("Xen, since the scenario began".to_owned(), xen.to_owned()),
        ("QEMU's CPUs".to_owned(), text(machine.processors())),
        ("dom0's kernel".to_owned(), text(machine.dom0().sh("dmesg"))),
    ];
    for guest in machine.guests() {
        sections.push((format!("guest {}", guest.name), text(machine.console_log(guest))));
    }
    sections.extend(machine.daemon_logs());
    for (title, text) in sections {
        eprintln!("--- {title}\n{}", tail(&text, LOG_LINES));
    }
}
