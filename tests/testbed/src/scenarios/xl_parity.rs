//! The same commands to xl with xen-pciback and to xenpci with xenpcid, one after the other on the same host.

use std::rc::Rc;

use xenpcid_testbed_agent::Ending;

use crate::error::{Error, Result};
use crate::machine::channel::Outcome;
use crate::machine::devices::{E1000E, NVME};
use crate::machine::{DEADLINE, Guest, GuestConfiguration, Machine};

const NAME: &str = "parity";

/// Each line is an invocation; where the standard output or the exit status may differ, a tab and the reason follow. `{id}` is
/// the number of the domain `parity`, `{nvme}` and the others are devices.
const INVOCATIONS: &str = include_str!("xl-parity.tsv");

/// What may stand for something else in an invocation, and in what is printed.
type Names = Vec<(&'static str, String)>;

/// Standard output and exit status are equal but where the table says why not, and there they differ.
pub fn xl_parity(machine: &mut Machine) -> Result<()> {
    let names = |machine: &Machine, domid: u32| -> Result<Names> {
        let multi = machine.find(E1000E, 2)?.trim_end_matches('0').to_owned();
        Ok(vec![
            ("{id}", domid.to_string()),
            ("{nvme}", machine.find(NVME, 0)?),
            ("{card}", machine.find(E1000E, 0)?),
            ("{other}", machine.find(E1000E, 1)?),
            ("{multi}", multi),
        ])
    };
    let theirs = machine.with_pciback(&[], |machine| {
        let guest = start_guest(machine)?;
        let theirs = outcomes(machine, "xl", &names(machine, guest.domid)?)?;
        machine.destroy_guest(&guest)?;
        Ok(theirs)
    })?;

    machine.start_daemon("")?;
    let guest = start_guest(machine)?;
    let ours = outcomes(machine, "xenpci", &names(machine, guest.domid)?)?;

    let wrong: Vec<String> =
        invocations().zip(theirs.iter().zip(&ours)).filter_map(|(line, pair)| compare(line, pair.0, pair.1)).collect();
    machine.report(&format!("{} invocations, {} with a difference that is listed", invocations().count(), {
        invocations().filter(|(_, reason)| reason.is_some()).count()
    }));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Expectation {
        expected: "the same from xl and xenpci, but for what is listed".to_owned(),
        found: wrong.join("\n"),
    })
}

/// A guest without drivers for its devices: xl takes devices away under them, which they do not always survive.
fn start_guest(machine: &mut Machine) -> Result<Rc<Guest>> {
    let guest = machine.start_guest(&GuestConfiguration::new(NAME))?;
    guest.channel().sh("rmmod e1000e && rmmod nvme")?;
    Ok(guest)
}

/// The invocations, each with the reason why its outcomes differ, if they do.
fn invocations() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    let lines = INVOCATIONS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('\t').map_or((line, None), |(words, reason)| (words, Some(reason))))
}

fn outcomes(machine: &Machine, program: &str, names: &Names) -> Result<Vec<Outcome>> {
    let run = |(line, _): (&str, _)| {
        let command = names.iter().fold(line.to_owned(), |line, (name, value)| line.replace(name, value));
        let run = || machine.dom0().run(&format!("{program} {command} 2> /dev/null"), DEADLINE);
        let mut outcome = run()?;
        if program == "xl" && matches!(outcome.ending, Ending::Signal(_)) {
            // Seen now and then, of any command: it is not what xl means to answer.
            machine.report(&format!("`xl {command}` died: {:?}", outcome.ending));
            outcome = run()?;
        }
        if outcome.ending == Ending::Deadline {
            return Err(Error::Deadline { what: format!("{program} {command}"), deadline: DEADLINE });
        }
        Ok(outcome)
    };
    invocations().map(run).collect()
}

/// How the reason of an invocation begins that xl may die of. Whether it does is no fixed thing (it died in every run but one,
/// on the same packages): it may also answer, but then as xenpci does.
const CRASH: &str = "crash:";

/// What is wrong with a pair of outcomes.
fn compare((line, reason): (&str, Option<&str>), theirs: &Outcome, ours: &Outcome) -> Option<String> {
    let is_equal = theirs.ending == ours.ending && theirs.text == ours.text;
    let what = match (is_equal, reason) {
        (_, Some(reason)) if reason.starts_with(CRASH) => {
            let has_answered = matches!(ours.ending, Ending::Exit(_));
            if has_answered && (is_equal || matches!(theirs.ending, Ending::Signal(_))) {
                return None;
            }
            format!("is another difference than the one listed ({reason})")
        }
        (true, None) | (false, Some(_)) => return None,
        (true, Some(reason)) => format!("no longer differs ({reason})"),
        (false, None) => "differs".to_owned(),
    };
    let told = |outcome: &Outcome| format!("{:?} {:?}", outcome.ending, outcome.text);
    Some(format!("`{line}` {what}: xl {}, xenpci {}", told(theirs), told(ours)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_60_invocations_or_more_and_each_difference_has_a_reason() {
        assert!(invocations().count() >= 60, "{}", invocations().count());
        assert!(invocations().all(|(_, reason)| reason.is_none_or(|reason| !reason.trim().is_empty())));
    }

    #[test]
    fn a_difference_is_wrong_unless_it_is_listed_and_a_listed_one_has_to_be_there() {
        let (one, other) = (
            Outcome { ending: Ending::Exit(0), text: "a\n".into() },
            Outcome { ending: Ending::Exit(0), text: "a \n".into() },
        );
        assert!(compare(("x", None), &one, &other).unwrap().contains("differs"));
        assert!(compare(("x", Some("why")), &one, &one).unwrap().contains("no longer"));
        assert_eq!(compare(("x", None), &one, &one), None);
        assert_eq!(compare(("x", Some("why")), &one, &other), None);
    }

    #[test]
    fn where_xl_may_die_it_dies_or_answers_as_xenpci_does() {
        let answer = |status| Outcome { ending: Ending::Exit(status), text: String::new() };
        let death = Outcome { ending: Ending::Signal(11), text: String::new() };
        let line = ("x", Some("crash: xl may die"));
        assert_eq!(compare(line, &death, &answer(2)), None);
        assert_eq!(compare(line, &answer(2), &answer(2)), None);
        assert!(compare(line, &answer(0), &answer(2)).unwrap().contains("another difference"));
        assert!(compare(line, &answer(2), &death).unwrap().contains("another difference"));
        assert!(compare(line, &death, &death).unwrap().contains("another difference"));
    }
}
