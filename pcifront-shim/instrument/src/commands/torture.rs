//! `torture`: requests that no honest guest makes.
//!
//! Configuration is written by valid, unchanged requests only, which spare what the list has and the Command register; so a
//! backend that does what it is asked for breaks no device. Everything else is a read, an interrupt operation, or wrong.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use pcifront_shim::abi::{ErrorCode, FLAG_FRONTEND_ACTIVE, Operation};
use pcifront_shim::trace::Direction;
use pcifront_shim::{Connection, FrontendEnd, MsixEntries, Request, RequestError, Width};
use serde::Serialize;
use xenpcid_address::Sbdf;

use super::random::Sequence;
use super::{dump, write_report};
use crate::Error;
use crate::bus::Bus;
use crate::cli::Torture;
use crate::exchange::Answer;
use crate::registers::Layout;
use crate::rng::Rng;
use crate::spare::{Spare, SpareList};

/// What is done, and how often of 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// A configuration access, mostly valid.
    Config,
    /// An operation that does not exist, or that only a backend sends.
    WrongOperation,
    /// Offsets and sizes that are no numbers of bytes, addresses that are no addresses; reads only.
    WrongNumbers,
    /// MSI and MSI-X on and off, with any number of any entries.
    Interrupts,
    /// A read, whose words are written over while the backend looks at it.
    ChangedUnderWay,
    /// The active bit goes off and on again.
    ActiveToggled,
    /// Many notifications for nothing.
    Flood,
}

const ATTACKS: [(u32, Attack); 7] = [
    (30, Attack::Config),
    (10, Attack::WrongOperation),
    (20, Attack::WrongNumbers),
    (15, Attack::Interrupts),
    (12, Attack::ChangedUnderWay),
    (8, Attack::ActiveToggled),
    (5, Attack::Flood),
];

/// Numbers at which arithmetic goes wrong.
const EDGES: [u32; 14] =
    [0, 1, 2, 3, 4, 5, 0xff, 0x100, 0xfff, 0x1000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff];

/// How often a word of the page is written while a request is outstanding.
const CHANGES: u32 = 64;
/// Notifications in a flood.
const FLOOD: u32 = 200;
/// Bytes of Command, which is never written.
const COMMAND: std::ops::Range<u16> = 0x04..0x06;
/// How often an honest read may get what was meant for an earlier request.
const HONEST_READS: u32 = 3;

#[derive(Serialize)]
struct Report {
    seed: u64,
    requests: u64,
    answers: BTreeMap<String, u64>,
}

/// Attacks, and then sees whether the backend is still there.
pub(super) fn run<C: Connection>(arguments: &Torture, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let functions = bus.functions(&arguments.function)?;
    let list = SpareList::read(arguments.spare.as_deref())?;
    let mut spare = Spare::default();
    let mut identities = Vec::new();
    for address in &functions {
        let space = dump::record(bus, *address)?;
        spare.add(&list, *address, &Layout::of(&space.config));
        identities.push((*address, bus.frontend.config_read(*address, 0, Width::Dword)?));
    }
    let mut torture = Torturer {
        rng: Rng::new(arguments.seed),
        sequence: Sequence::new(arguments.seed, functions.clone(), spare),
        functions,
        timeout: arguments.patience,
        answers: BTreeMap::new(),
    };
    let end = arguments.seconds.map(|time| Instant::now() + time);
    let mut requests = 0;
    let bar = ProgressBar::new(arguments.count.unwrap_or(0));
    let attacked = loop {
        if arguments.count.is_some_and(|count| requests >= count) || end.is_some_and(|end| Instant::now() >= end) {
            break Ok(());
        }
        if let Err(error) = bus.stop.check().and_then(|()| torture.attack(bus)) {
            break Err(error);
        }
        requests += 1;
        bar.set_position(requests);
    };
    bar.finish_and_clear();
    // Also after an interruption: nothing is left on.
    let settled = settle(bus, &identities);
    let report = Report { seed: arguments.seed, requests, answers: torture.answers };
    write_report(arguments.output.as_deref(), out, arguments.json, &report, |out| report.show(out))?;
    attacked.and(settled)
}

struct Torturer {
    rng: Rng,
    sequence: Sequence,
    functions: Vec<Sbdf>,
    timeout: Duration,
    answers: BTreeMap<String, u64>,
}

impl Torturer {
    fn attack<C: Connection>(&mut self, bus: &mut Bus<C>) -> Result<(), Error> {
        let mut choice = self.rng.below(100);
        let attack = ATTACKS.iter().find(|(share, _)| {
            let is_chosen = choice < *share;
            choice = choice.saturating_sub(*share);
            is_chosen
        });
        match attack.map_or(Attack::Config, |(_, attack)| *attack) {
            Attack::Config => self.config(bus),
            Attack::WrongOperation => {
                let request = self.wrong_operation();
                self.send(bus, &request)
            }
            Attack::WrongNumbers => {
                let request = self.wrong_numbers();
                self.send(bus, &request)
            }
            Attack::Interrupts => {
                let request = self.interrupts();
                self.send(bus, &request)
            }
            Attack::ChangedUnderWay => self.change_under_way(bus),
            Attack::ActiveToggled => self.toggle_active(bus),
            Attack::Flood => self.flood(bus),
        }
    }

    fn count(&mut self, what: String) {
        *self.answers.entry(what).or_default() += 1;
    }

    fn send<C: Connection>(&mut self, bus: &mut Bus<C>, request: &Request) -> Result<(), Error> {
        let completed = bus.frontend.request(request)?;
        let operation = request.operation.name().unwrap_or("unknown operation");
        self.count(format!("{operation}: {}", completed.error));
        Ok(())
    }

    fn config<C: Connection>(&mut self, bus: &mut Bus<C>) -> Result<(), Error> {
        let Some(access) = self.sequence.find(|access| {
            let is_command = access.valid().is_some_and(|(offset, width)| {
                offset < COMMAND.end && COMMAND.start < offset + u16::from(width.bytes())
            });
            access.direction == Direction::Read || !is_command
        }) else {
            return Ok(());
        };
        let error = match access.make(bus)?.answer {
            Answer::Error(error) => error,
            _ => ErrorCode::SUCCESS,
        };
        let operation = match access.direction {
            Direction::Read => Operation::CONFIG_READ,
            Direction::Write => Operation::CONFIG_WRITE,
        };
        self.count(format!("{operation}: {error}"));
        Ok(())
    }

    fn function(&mut self) -> Sbdf {
        self.rng.pick(&self.functions).unwrap_or(Sbdf::from_devfn(0, 0, 0))
    }

    fn edge(&mut self) -> u32 {
        let (edge, any) = (self.rng.pick(&EDGES).unwrap_or(0), self.rng.next_u32());
        if self.rng.chance(70) { edge } else { any }
    }

    fn wrong_operation(&mut self) -> Request {
        let number = self.edge();
        // Those that do something have attacks of their own.
        let operation = Operation(if number <= Operation::DISABLE_MSIX.0 { number + 6 } else { number });
        Request { value: self.edge(), ..Request::new(operation, self.function()) }
    }

    fn wrong_numbers(&mut self) -> Request {
        let mut request = Request::new(Operation::CONFIG_READ, self.function());
        (request.offset, request.size, request.value) = (signed(self.edge()), signed(self.edge()), self.edge());
        match self.rng.below(4) {
            0 => request.domain = self.edge(),
            1 => request.bus = self.edge(),
            2 => request.devfn = self.edge(),
            _ => {}
        }
        request
    }

    fn interrupts(&mut self) -> Request {
        const OPERATIONS: [Operation; 5] = [
            Operation::ENABLE_MSI,
            Operation::DISABLE_MSI,
            Operation::ENABLE_MSIX,
            Operation::ENABLE_MSIX,
            Operation::DISABLE_MSIX,
        ];
        let operation = self.rng.pick(&OPERATIONS).unwrap_or(Operation::DISABLE_MSI);
        let mut request = Request::new(operation, self.function());
        if operation == Operation::ENABLE_MSIX {
            let count = self.rng.below(130);
            request.value = if self.rng.chance(30) { self.edge() } else { self.rng.below(6) };
            // In order, the same again and again, or anything.
            let kind = self.rng.below(3);
            request.entries = (0..count)
                .map(|index| match kind {
                    0 => low_half(index),
                    1 => 0,
                    _ => low_half(self.rng.next_u32()),
                })
                .collect::<MsixEntries>();
        }
        request
    }

    /// Writes over a read that is under way. Its operation only ever becomes one that writes nothing.
    fn change_under_way<C: Connection>(&mut self, bus: &mut Bus<C>) -> Result<(), Error> {
        const OPERATION: usize = 1;
        const HARMLESS: [u32; 4] = [0, 3, 5, 11];
        let request = Request::config_read(self.function(), low_half(self.rng.below(64)) * 4, Width::Dword);
        let connection = bus.frontend.connection();
        let page = connection.page();
        FrontendEnd::new(page).post(&request);
        connection.ring().map_err(|source| event_channel(&request, source))?;
        for _ in 0..CHANGES {
            // After the flags: operation, error, domain, bus, devfn, offset, size, value, info, entries.
            let index = usize::try_from(self.rng.below(24)).unwrap_or_default() + OPERATION;
            let number = self.edge();
            let number = if index == OPERATION { self.rng.pick(&HARMLESS).unwrap_or(0) } else { number };
            if let Some(word) = page.words().nth(index) {
                word.store(number, Ordering::Relaxed);
            }
        }
        // A backend that saw two halves has looked away, and needs to be told.
        connection.ring().map_err(|source| event_channel(&request, source))?;
        self.wait_for_answer(bus, &request, "changed under way")
    }

    fn toggle_active<C: Connection>(&mut self, bus: &mut Bus<C>) -> Result<(), Error> {
        let request = Request::config_read(self.function(), 0, Width::Dword);
        let connection = bus.frontend.connection();
        let end = FrontendEnd::new(connection.page());
        end.post(&request);
        let flags = connection.page().words().next();
        for _ in 0..self.rng.below(8) {
            connection.ring().map_err(|source| event_channel(&request, source))?;
            if let Some(flags) = flags {
                flags.fetch_xor(FLAG_FRONTEND_ACTIVE, Ordering::SeqCst);
            }
        }
        end.post(&request);
        connection.ring().map_err(|source| event_channel(&request, source))?;
        self.wait_for_answer(bus, &request, "active bit toggled")
    }

    fn flood<C: Connection>(&mut self, bus: &mut Bus<C>) -> Result<(), Error> {
        let request = Request::config_read(self.function(), 0, Width::Dword);
        for _ in 0..FLOOD {
            bus.frontend.connection().ring().map_err(|source| event_channel(&request, source))?;
        }
        let completed = bus.frontend.request(&request)?;
        self.count(format!("after a flood of notifications: {}", completed.error));
        Ok(())
    }

    /// Waits until the active bit is off. That it stays on can be the attack's own doing, and is counted.
    fn wait_for_answer<C: Connection>(
        &mut self,
        bus: &mut Bus<C>,
        request: &Request,
        attack: &str,
    ) -> Result<(), Error> {
        let connection = bus.frontend.connection();
        let end = FrontendEnd::new(connection.page());
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(completed) = end.poll() {
                // The attack may have written over the error code as well.
                let answer = completed.error.name().unwrap_or("something else");
                self.count(format!("{attack}: {answer}"));
                return Ok(());
            }
            if Instant::now() >= deadline {
                end.give_up();
                self.count(format!("{attack}: no answer"));
                return Ok(());
            }
            connection.wait(deadline).map_err(|source| event_channel(request, source))?;
        }
    }
}

/// Switches interrupts off and reads each function's identity, as an honest guest does.
fn settle<C: Connection>(bus: &mut Bus<C>, identities: &[(Sbdf, u32)]) -> Result<(), Error> {
    for (address, identity) in identities {
        let mut answer = None;
        for _ in 0..HONEST_READS {
            answer = match bus.frontend.config_read(*address, 0, Width::Dword) {
                Err(RequestError::Refused { .. }) => None,
                other => Some(other?),
            };
            if answer == Some(*identity) {
                break;
            }
        }
        if answer != Some(*identity) {
            return Err(Error::Failed(format!(
                "{address} was {identity:08x} before and reads {answer:08x?} now: the backend, or the device, took harm"
            )));
        }
        for operation in [Operation::DISABLE_MSIX, Operation::DISABLE_MSI] {
            bus.frontend.request(&Request::new(operation, *address))?;
        }
    }
    Ok(())
}

fn event_channel(request: &Request, source: io::Error) -> RequestError {
    RequestError::EventChannel { request: Box::new(request.clone()), source }
}

fn low_half(bits: u32) -> u16 {
    let [low, high, ..] = bits.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn signed(bits: u32) -> i32 {
    i32::from_ne_bytes(bits.to_ne_bytes())
}

impl Report {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { seed, requests, answers } = self;
        writeln!(out, "{requests} requests of seed {seed}")?;
        answers.iter().try_for_each(|(answer, count)| writeln!(out, "{count:>10} {answer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_attacks_are_a_hundred() {
        assert_eq!(ATTACKS.iter().map(|(share, _)| share).sum::<u32>(), 100);
    }

    #[test]
    fn requests_that_are_not_accesses_write_no_configuration() {
        let functions = vec![Sbdf::from_devfn(0, 0, 0)];
        let mut torture = Torturer {
            rng: Rng::new(1),
            sequence: Sequence::new(1, functions.clone(), Spare::default()),
            functions,
            timeout: Duration::ZERO,
            answers: BTreeMap::new(),
        };
        for _ in 0..10_000 {
            for request in [torture.wrong_operation(), torture.wrong_numbers(), torture.interrupts()] {
                assert_ne!(request.operation, Operation::CONFIG_WRITE, "{request}");
            }
        }
    }
}
