//! `[[rule]]`: what becomes of accesses to some bits of a register.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;
use xenpcid_policy::policy::{DeviceMatch, Place, PlaceError, ReadAction, Rule, RuleFault, WriteAction};

use super::device_match;
use super::file::{self, Reading, WHY_HELP};
use crate::error::Mistake;
use crate::toml_table::{self, Table, Written};

const PLACE_HELP: &str = "write register = \"...\"; or capability = \"...\", offset = ..., width = ...; \
                          or offset = ..., width = ... from the start of the configuration space";

/// What a table says of reads and writes, and where.
pub(super) struct Actions {
    pub(super) read: ReadAction,
    pub(super) write: WriteAction,
    pub(super) read_span: Option<Range<usize>>,
    pub(super) write_span: Option<Range<usize>>,
}

/// Reads the table. The span of the result is that of the key which says where the register is.
pub(super) fn read(mut table: Table<'_>, reading: &mut Reading<'_>) -> Option<Written<Rule>> {
    let mistakes = &mut reading.mistakes;
    let place = place(&mut table, mistakes);
    let mask = table.get("mask").map(|value| toml_table::number(value, u32::MAX, mistakes));
    let actions = Actions::read(&mut table, mistakes);
    let reset_value = table.get("reset_value").map(|value| toml_table::number(value, u32::MAX, mistakes));
    let undo = table.get("undo");
    let when = table.get("match").map_or_else(DeviceMatch::default, |value| device_match::read(value, mistakes));
    let why = why(&mut table, mistakes);
    let origin = reading.origin(&table.span);
    table.finish(&mut reading.mistakes);

    let Written { value: place, span } = place?;
    let (mask, mask_span) = given(mask)?;
    let (reset_value, reset_span) = given(reset_value)?;
    let Actions { read, write, read_span, write_span } = actions?;
    let undo = match undo {
        None => true,
        Some(value) => self::undo(value, write, &mut reading.mistakes)?,
    };
    let mask = mask.unwrap_or(place.width().mask());
    let rule = Rule { place, mask, read, write, reset_value, undo, when, why: why?, origin };
    if let Err(fault) = rule.check() {
        let pair_is_wrong = Rule { reset_value: None, ..rule.clone() }.check() == Err(fault.clone());
        let at = match fault {
            RuleFault::MaskTooWide { .. } | RuleFault::MaskEmpty => mask_span,
            RuleFault::ResetValueTooWide { .. } => reset_span,
            RuleFault::Contradiction(_) if !pair_is_wrong => reset_span,
            RuleFault::Contradiction(_) | RuleFault::Forbidden { .. } => write_span,
            RuleFault::Fixed { .. } => read_span.or(write_span),
        };
        let mistake = Mistake::new(at.unwrap_or(span), fault.to_string());
        reading.mistakes.push(match remedy(&rule, &fault) {
            Some(remedy) => mistake.help(remedy),
            None => mistake,
        });
        return None;
    }
    Some(Written { value: rule, span })
}

/// `undo`, which is about writes that pass.
fn undo(value: &Spanned<DeValue<'_>>, write: WriteAction, mistakes: &mut Vec<Mistake>) -> Option<bool> {
    let mistake = match value.get_ref() {
        DeValue::Boolean(undo) if write == WriteAction::Pass => return Some(*undo),
        DeValue::Boolean(_) => Mistake::new(value.span(), "undo is about writes that pass, and these do not")
            .help("remove it, or write write = \"pass\""),
        _ => Mistake::new(value.span(), "undo is true or false").help(
            "false leaves the next guest what this one wrote, where writing the old value would do something; true is what \
             happens if nothing is said",
        ),
    };
    mistakes.push(mistake);
    None
}

/// What is not there is no mistake; what is there and wrong is (`None`), and was reported.
#[expect(clippy::option_option, reason = "absent, wrong and right are three things")]
fn given(number: Option<Option<Written<u32>>>) -> Option<(Option<u32>, Option<Range<usize>>)> {
    match number {
        None => Some((None, None)),
        Some(number) => number.map(|number| (Some(number.value), Some(number.span))),
    }
}

/// `why`, which has to be there.
pub(super) fn why(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Arc<str>> {
    let value = table.require("why", WHY_HELP, mistakes)?;
    toml_table::prose(value, mistakes).map(|why| why.value.into())
}

/// The register, by its name, by its place in a capability, or by its place in the space.
fn place(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Written<Place>> {
    let header = table.span.clone();
    let [register, capability, offset, width] = ["register", "capability", "offset", "width"].map(|key| table.get(key));
    if let (Some(register), Some(surplus)) = (register, capability.or(offset).or(width)) {
        let message = "the rule names a register and also says where it is";
        mistakes.push(Mistake::new(surplus.span(), message).help("remove one of the two"));
        return named(register, mistakes).and(None);
    }
    if let Some(register) = register {
        return named(register, mistakes);
    }
    let capability = capability.map(|value| file::capability(value, mistakes));
    let (Some(offset), Some(width)) = (offset, width) else {
        mistakes.push(Mistake::new(header, "the rule does not say which register it is for").help(PLACE_HELP));
        return None;
    };
    let (at, bytes) = (toml_table::number(offset, 0xfff, mistakes), toml_table::number(width, 4, mistakes));
    let (at, bytes) = (i64::from(at?.value), i64::from(bytes?.value));
    let (place, span) = match capability {
        None => (Place::at(at, bytes), offset.span()),
        Some(capability) => (Place::in_capability(capability?.value, at, bytes), offset.span()),
    };
    found(place, span, mistakes)
}

fn named(register: &Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Option<Written<Place>> {
    let name = toml_table::string(register, mistakes)?;
    found(Place::named(&name.value), name.span, mistakes)
}

fn found(place: Result<Place, PlaceError>, span: Range<usize>, mistakes: &mut Vec<Mistake>) -> Option<Written<Place>> {
    match place {
        Ok(value) => Some(Written { value, span }),
        Err(error) => {
            mistakes.push(Mistake::new(span, error.to_string()));
            None
        }
    }
}

impl Actions {
    /// Reads `read` and `write`.
    pub(super) fn read(table: &mut Table<'_>, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let write = table.get("write").map(|value| (write_action(value, mistakes), value.span()));
        let read = table.get("read").map(|value| (read_action(value, mistakes), value.span()));
        let (write, write_span) = match write {
            None => (WriteAction::Discard, None),
            Some((action, span)) => (action?, Some(span)),
        };
        let (read, read_span) = match read {
            None if write == WriteAction::Emulate => (ReadAction::Emulate, None),
            None => (ReadAction::Pass, None),
            Some((action, span)) => (action?, Some(span)),
        };
        Some(Self { read, write, read_span, write_span })
    }
}

fn read_action(value: &Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Option<ReadAction> {
    let word = toml_table::string(value, mistakes)?;
    let mistake = match word.value.as_str() {
        "pass" => return Some(ReadAction::Pass),
        "emulate" => return Some(ReadAction::Emulate),
        "deny" => return Some(ReadAction::Deny),
        "discard" => Mistake::new(word.span, "a read cannot be discarded, since the guest gets some value")
            .help("for zero: read = \"emulate\" with reset_value = 0; to refuse the read: read = \"deny\""),
        other => Mistake::new(word.span, format!("reads are not treated with \"{}\"", other.escape_debug()))
            .help("write \"pass\", \"emulate\" or \"deny\""),
    };
    mistakes.push(mistake);
    None
}

fn write_action(value: &Spanned<DeValue<'_>>, mistakes: &mut Vec<Mistake>) -> Option<WriteAction> {
    let word = toml_table::string(value, mistakes)?;
    match word.value.as_str() {
        "pass" => Some(WriteAction::Pass),
        "emulate" => Some(WriteAction::Emulate),
        "discard" => Some(WriteAction::Discard),
        "deny" => Some(WriteAction::Deny),
        other => {
            let message = format!("writes are not treated with \"{}\"", other.escape_debug());
            mistakes
                .push(Mistake::new(word.span, message).help("write \"pass\", \"emulate\", \"discard\" or \"deny\""));
            None
        }
    }
}

/// What to write instead of a rule for bits that a policy does not give away.
fn remedy(rule: &Rule, fault: &RuleFault) -> Option<String> {
    if !matches!(fault, RuleFault::Forbidden { .. } | RuleFault::Fixed { .. }) {
        return None;
    }
    let is_wrong = |bit: &u32| {
        Rule { mask: *bit, reset_value: rule.reset_value.map(|v| v & bit), ..rule.clone() }.check().is_err()
    };
    let bits = (0..32).map(|n| 1_u32 << n).filter(|bit| rule.mask & bit != 0);
    let wrong = bits.filter(is_wrong).fold(0, |all, bit| all | bit);
    let left = rule.mask & !wrong;
    let digits = usize::from(rule.place.width().bytes()) * 2 + 2;
    let mut remedy = if left == 0 {
        "remove the rule".to_owned()
    } else {
        format!("leave out bits {wrong:#0digits$x}: mask = {left:#0digits$x}")
    };
    let emulated = Rule { read: ReadAction::Emulate, reset_value: None, ..rule.clone() };
    if matches!(fault, RuleFault::Fixed { .. }) && emulated.check().is_ok() {
        remedy.push_str("; or write read = \"emulate\" without a reset_value");
    }
    Some(remedy)
}
