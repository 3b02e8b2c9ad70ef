//! `xenpci learn` and `xenpci suggest`: a policy that would have let through what guests tried.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use xenpcid_address::Sbdf;
use xenpcid_config::policy::{self, Missed};
use xenpcid_control::{Client, Denied, ListDenied, Operation};
use xenpcid_policy::{Access, ConfigSize};

use crate::arguments::{Learn, Places, Suggest};
use crate::device::Subject;
use crate::failure::Failure;
use crate::screen;

/// How often the progress is drawn.
const TICK: Duration = Duration::from_millis(200);
/// Exit status of a command that a signal ended, as shells count it.
const INTERRUPTED: i32 = 130;

pub fn learn(places: &Places, arguments: &Learn) -> Result<(), Failure> {
    let (interrupted, interrupt) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Once the wait is over nobody listens: whoever presses it then wants no policy either.
        if interrupted.send(()).is_err() {
            std::process::exit(INTERRUPTED);
        }
    })?;
    let mut client = Client::connect(&places.socket)?;
    let device = arguments.device;
    let before = client.call(&ListDenied { device: Some(device) })?.denied;
    wait(device, arguments.time, interrupt);
    // Another connection: the daemon closes those that are silent for long.
    let after = Client::connect(&places.socket)?.call(&ListDenied { device: Some(device) })?.denied;
    print(places, device, &since(&before, after))
}

pub fn all(places: &Places, arguments: &Suggest) -> Result<(), Failure> {
    let device = arguments.device;
    let denied = Client::connect(&places.socket)?.call(&ListDenied { device: Some(device) })?.denied;
    print(places, device, &denied)
}

/// Prints the policy that would have let these pass, on top of the one that the device has.
fn print(places: &Places, device: Sbdf, denied: &[Denied]) -> Result<(), Failure> {
    let subject = Subject::present(places, device)?;
    let own = subject.policy(places, None)?;
    let space = subject.snapshot.size().map_err(|error| subject.misfit(&own, error.into()))?;
    let missed: Vec<Missed> = denied.iter().filter_map(|entry| missed(entry, space)).collect();
    let suggested = policy::suggest(&subject.snapshot, &subject.terms(&own), &missed);
    screen::print(&suggested.map_err(|error| subject.misfit(&own, error))?)
}

/// Nothing for a register that the device cannot have.
fn missed(entry: &Denied, space: ConfigSize) -> Option<Missed> {
    Some(Missed {
        register: Access::new(entry.offset.into(), entry.width.into(), space).ok()?,
        operation: match entry.operation {
            Operation::Read => policy::Operation::Read,
            Operation::Write => policy::Operation::Write,
        },
        bits: entry.bits,
        count: entry.count,
        last_value: entry.last_value,
    })
}

/// Waits for that long or for Ctrl-C, and shows on a terminal how long it is still. Drops the receiver, so that the handler
/// knows that nobody waits any more.
fn wait(device: Sbdf, time: Duration, interrupt: mpsc::Receiver<()>) {
    let started = Instant::now();
    let bar = ProgressBar::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {eta} left, Ctrl-C ends it") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(format!("watching {device}"));
    loop {
        let elapsed = started.elapsed();
        let left = time.saturating_sub(elapsed);
        if left.is_zero() {
            break;
        }
        bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        match interrupt.recv_timeout(left.min(TICK)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    bar.finish_and_clear();
}

/// What was counted after `before`. Of a register that was tried before and again, all bits are told, since they are not
/// counted one by one.
fn since(before: &[Denied], after: Vec<Denied>) -> Vec<Denied> {
    let is_same = |a: &Denied, b: &Denied| {
        let place = |entry: &Denied| (entry.device, entry.offset, entry.width, entry.operation, entry.outcome);
        place(a) == place(b) && a.guest == b.guest
    };
    let count = |entry: &Denied| {
        let earlier = before.iter().find(|earlier| is_same(earlier, entry)).map_or(0, |earlier| earlier.count);
        // Fewer than before: the count began again, with a new life of the guest or of the daemon.
        if earlier > entry.count { entry.count } else { entry.count - earlier }
    };
    let counted = after.into_iter().map(|entry| Denied { count: count(&entry), ..entry });
    counted.filter(|entry| entry.count > 0).collect()
}

#[cfg(test)]
mod tests {
    use xenpcid_control::{Guest, Outcome};

    use super::*;

    fn entry(offset: u16, bits: u32, count: u64) -> Denied {
        Denied {
            device: Sbdf::from_devfn(0, 3, 0),
            guest: Guest { id: 1, name: "web1".to_owned() },
            offset,
            width: 2,
            register: None,
            capability: None,
            hidden: false,
            operation: Operation::Write,
            outcome: Outcome::Discarded,
            bits,
            count,
            last_value: 0,
            last_time: 0,
        }
    }

    #[test]
    fn what_was_not_tried_again_is_left_out_and_what_was_is_counted_from_then_on() {
        let before = [entry(0x04, 1, 5), entry(0x06, 1, 5)];
        let after = vec![entry(0x04, 1, 5), entry(0x06, 3, 7), entry(0x08, 1, 1)];
        assert_eq!(since(&before, after), [entry(0x06, 3, 2), entry(0x08, 1, 1)]);
    }

    #[test]
    fn count_that_began_again_is_taken_whole_as_is_that_of_another_guest() {
        let other = Denied { guest: Guest { id: 2, name: "web1".to_owned() }, ..entry(0x04, 1, 9) };
        let before = [entry(0x04, 1, 5), entry(0x06, 1, 5)];
        assert_eq!(since(&before, vec![entry(0x06, 1, 2), other.clone()]), [entry(0x06, 1, 2), other]);
    }
}
