//! One policy file, checked by itself.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use xenpcid_policy::AnyCapabilityId;
use xenpcid_policy::policy::{DeviceMatch, Layer, Origin, Otherwise, ReadAction, Visibility, WriteAction};

use super::{conflicts, device_match, rule};
use crate::error::{Mistake, line_of};
use crate::toml_table::{self, Table, Written};

/// Most rules of one file: more than any device has registers that matter, and few enough to compare each with each.
pub(super) const RULES_MAX: usize = 1024;
const NAME_HELP: &str = "name = \"...\", the name of the file without .toml";
const DESCRIPTION_HELP: &str = "description = \"...\": what the policy is for, in a sentence or more";
pub(super) const WHY_HELP: &str = "why = \"...\": the reason, for whoever asks why a device does not work, or is safe";

/// What a policy file says. What it extends is not looked up yet.
#[derive(Clone, Debug)]
pub(super) struct PolicyFile {
    pub(super) name: Written<Arc<str>>,
    pub(super) description: Arc<str>,
    pub(super) extends: Option<Written<String>>,
    pub(super) applies_to: DeviceMatch,
    pub(super) layer: Layer,
}

/// What the parts of a file have in common while it is read.
pub(super) struct Reading<'t> {
    text: &'t str,
    policy: Arc<str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        Origin { policy: self.policy.clone(), line: line_of(self.text, span) }
    }
}

impl PolicyFile {
    /// Reads `text`, the file of the policy that `stem`, the name of the file, names.
    pub(super) fn parse(text: &str, stem: &str) -> Result<Self, Vec<Mistake>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.into_iter().map(Mistake::from).collect());
        }
        let mut reading = Reading { text, policy: stem.into(), mistakes: Vec::new() };
        let mut top = Table::new(document.get_ref(), 0..0);
        let name = name(&mut top, stem, &mut reading.mistakes);
        let description = top
            .require("description", DESCRIPTION_HELP, &mut reading.mistakes)
            .and_then(|value| toml_table::prose(value, &mut reading.mistakes));
        let extends = top.get("extends").and_then(|value| toml_table::string(value, &mut reading.mistakes));
        let applies_to = top.get("match").map(|value| device_match::read(value, &mut reading.mistakes));
        let otherwise = top.get("otherwise").and_then(|value| otherwise(value, &mut reading));
        let mut rules = toml_table::tables("rule", top.get("rule"), &mut reading.mistakes);
        if let Some(surplus) = rules.get(RULES_MAX) {
            let message = format!("the policy has {} rules, and at most {RULES_MAX} are possible", rules.len());
            reading.mistakes.push(Mistake::new(surplus.span.clone(), message).help("remove some"));
            rules.truncate(RULES_MAX);
        }
        let rules: Vec<_> = rules.into_iter().filter_map(|table| rule::read(table, &mut reading)).collect();
        let mut visibility = visibility("hide", true, top.get("hide"), &mut reading);
        visibility.extend(self::visibility("show", false, top.get("show"), &mut reading));
        top.finish(&mut reading.mistakes);
        let applies_to = applies_to.unwrap_or_default();
        conflicts::find(&applies_to, &rules, &visibility, text, &mut reading.mistakes);
        match (name, description) {
            (Some(name), Some(description)) if reading.mistakes.is_empty() => Ok(Self {
                name: Written { value: name.value.into(), span: name.span },
                description: description.value.into(),
                extends,
                applies_to,
                layer: Layer {
                    otherwise,
                    rules: rules.into_iter().map(|rule| rule.value).collect(),
                    visibility: visibility.into_iter().map(|visibility| visibility.value).collect(),
                },
            }),
            _ => Err(reading.mistakes),
        }
    }
}

fn name(top: &mut Table<'_>, stem: &str, mistakes: &mut Vec<Mistake>) -> Option<Written<String>> {
    let name = top.require("name", NAME_HELP, mistakes).and_then(|value| toml_table::string(value, mistakes))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let wrong = if name.value.is_empty() || !name.value.chars().all(is_plain) {
        Mistake::new(name.span.clone(), format!("\"{}\" is not a name", name.value.escape_debug()))
            .help("a name has letters, digits, \"-\", \"_\" and \".\"")
    } else if name.value != stem {
        Mistake::new(name.span.clone(), format!("the policy {} is in the file {stem}.toml", name.value))
            .help(format!("rename the file to {}.toml, or write name = \"{stem}\"", name.value))
    } else {
        return Some(name);
    };
    mistakes.push(wrong);
    None
}

fn otherwise<'t>(value: &'t Spanned<DeValue<'t>>, reading: &mut Reading<'_>) -> Option<Otherwise> {
    let mut table = toml_table::table(value, &mut reading.mistakes)?;
    let actions = rule::Actions::read(&mut table, &mut reading.mistakes);
    let why = rule::why(&mut table, &mut reading.mistakes);
    let origin = reading.origin(&table.span);
    table.finish(&mut reading.mistakes);
    let actions = actions?;
    let (fault, help) = match (actions.read, actions.write) {
        (ReadAction::Deny, _) => (
            "reads that no rule names cannot all be refused: a guest could not even find its device",
            "read = \"pass\", or read = \"emulate\" for the value at the time of the claim",
        ),
        (ReadAction::Emulate, WriteAction::Pass) => (
            "writes reach the device but reads do not, so the guest would never see what it wrote",
            "read = \"pass\", or write = \"emulate\"",
        ),
        (ReadAction::Pass, WriteAction::Emulate) => (
            "writes are kept but reads are not emulated, so the guest would never see what it wrote",
            "read = \"emulate\", or write = \"discard\"",
        ),
        (read, write) => return Some(Otherwise { read, write, why: why?, origin }),
    };
    let span = match actions.read {
        ReadAction::Deny => actions.read_span,
        _ => actions.write_span,
    };
    reading.mistakes.push(Mistake::new(span.unwrap_or(value.span()), fault).help(help));
    None
}

fn visibility<'t>(
    key: &'static str,
    hidden: bool,
    value: Option<&'t Spanned<DeValue<'t>>>,
    reading: &mut Reading<'_>,
) -> Vec<Written<Visibility>> {
    let tables = toml_table::tables(key, value, &mut reading.mistakes);
    tables
        .into_iter()
        .filter_map(|mut table| {
            let capability = table
                .require("capability", "capability = \"...\": its name, or its number", &mut reading.mistakes)
                .and_then(|value| self::capability(value, &mut reading.mistakes));
            let why = rule::why(&mut table, &mut reading.mistakes);
            let origin = reading.origin(&table.span);
            table.finish(&mut reading.mistakes);
            let Written { value: capability, span } = capability?;
            Some(Written { value: Visibility { capability, hidden, why: why?, origin }, span })
        })
        .collect()
}

/// The name or number of a capability.
pub(super) fn capability(
    value: &Spanned<DeValue<'_>>,
    mistakes: &mut Vec<Mistake>,
) -> Option<Written<AnyCapabilityId>> {
    let name = toml_table::string(value, mistakes)?;
    match AnyCapabilityId::named(&name.value) {
        Ok(value) => Some(Written { value, span: name.span }),
        Err(error) => {
            let help =
                "\"0x09\" is a conventional capability by its number, \"0x0023\" with four digits an extended one";
            mistakes.push(Mistake::new(name.span, error.to_string()).help(help));
            None
        }
    }
}
