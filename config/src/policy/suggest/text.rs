//! The suggested policy as text.

use std::fmt::Write;

use xenpcid_policy::{Policy, Snapshot};

use super::{Missed, Operation, Rank, Wish};
use crate::policy::wrap;

/// Begins each line of what is commented out.
const MARK: &str = "#! ";

pub(super) fn policy(policy: &Policy, snapshot: &Snapshot, wishes: &[Wish], missed: &[Missed]) -> String {
    let ids = format!("{:04x}-{:04x}", snapshot.vendor, snapshot.device);
    let name = name(&policy.name, &ids);
    let mut text = Text(String::new());
    text.comment(&format!(
        "What guests tried with {:04x}:{:04x} under the policy {} and did not get, the most dangerous first. What is \
         dangerous is commented out: read the reason, and remove \"#! \" from all lines of a rule to let it pass.",
        snapshot.vendor, snapshot.device, policy.name,
    ));
    text.comment(&format!("Save it as /etc/xenpcid/policies/{name}.toml."));
    if !policy.applies_to.is_any() {
        text.comment(&format!(
            "The policy {} is for this device too: write policy = \"{name}\" in the device's entry of xenpcid.toml.",
            policy.name
        ));
    }
    text.line(&format!("name = \"{name}\""));
    text.line(&format!(
        "description = \"The policy {}, and what {:04x}:{:04x} was seen to need beside it.\"",
        policy.name, snapshot.vendor, snapshot.device
    ));
    text.line(&format!("extends = \"{}\"", policy.name));
    text.line("");
    text.line("[match]");
    text.line(&format!("vendor = {:#06x}", snapshot.vendor));
    text.line(&format!("device = {:#06x}", snapshot.device));
    let mut shown = None;
    for wish in wishes {
        text.line("");
        text.comment(&describe(wish, missed));
        match &wish.group.rank {
            Rank::Guarded(why) => text.comment(&format!("No policy can let it pass: {why}.")),
            Rank::Hidden(capability, why) => {
                text.comment(&format!("DANGEROUS: the policy hides the capability {capability}. {why}"));
                // The capability is shown once, with the first rule for it, which the others need too.
                if shown != Some(*capability) {
                    shown = Some(*capability);
                    let why = format!("The guest wrote to it, and it was hidden by {}.", policy.name);
                    text.table("[[show]]", &[format!("capability = \"{capability}\"")], &why, MARK);
                } else {
                    text.comment("Show the capability, too, above.");
                }
                text.rule(wish, missed, MARK);
            }
            Rank::Dangerous(why) => {
                text.comment(&format!("DANGEROUS: {why}."));
                text.rule(wish, missed, MARK);
            }
            Rank::Unknown => {
                text.comment("DANGEROUS: nobody knows what this register does: ask the device's datasheet.");
                text.rule(wish, missed, MARK);
            }
            Rank::Harmless => text.rule(wish, missed, ""),
        }
    }
    if wishes.is_empty() {
        text.line("");
        text.comment("Nothing was missed that this policy could give.");
    }
    text.0
}

/// A name of its own, even if the policy is a suggested one.
fn name(extended: &str, ids: &str) -> String {
    let Some((base, rest)) = extended.rsplit_once(ids) else { return format!("{extended}-{ids}") };
    match rest.strip_prefix('-').map(str::parse::<u32>) {
        None if rest.is_empty() => format!("{base}{ids}-2"),
        Some(Ok(number)) => format!("{base}{ids}-{}", number.saturating_add(1)),
        _ => format!("{extended}-{ids}"),
    }
}

/// What was tried with which bits, and what happens to them now.
fn describe(wish: &Wish, missed: &[Missed]) -> String {
    let group = &wish.group;
    let place = group.name.clone().unwrap_or_else(|| format!("{:#05x}", group.register.offset()));
    let mut text = format!("{place}, bits {}: {}.", hexadecimal(wish, wish.mask), tried(wish, missed));
    if !matches!(group.rank, Rank::Guarded(_) | Rank::Hidden(..)) {
        let now = if group.is_refused { "Refused" } else { "Discarded" };
        let why = &group.why;
        let origin = group.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
        let end = if why.ends_with('.') { "" } else { "." };
        let _ = write!(text, " {now} now{origin}: {why}{end}");
    }
    text
}

/// `written 3 times, last 0x1000; read once`.
fn tried(wish: &Wish, missed: &[Missed]) -> String {
    let times = |count: u64| match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    };
    let entries = wish.wanted_by.iter().filter_map(|index| missed.get(*index));
    let tried: Vec<String> = entries
        .map(|missed| match missed.operation {
            Operation::Write => format!("written {}, last {:#x}", times(missed.count), missed.last_value),
            Operation::Read => format!("read {}", times(missed.count)),
        })
        .collect();
    tried.join("; ")
}

fn hexadecimal(wish: &Wish, value: u32) -> String {
    let digits = usize::from(wish.group.register.width().bytes()) * 2 + 2;
    format!("{value:#0digits$x}")
}

struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn comment(&mut self, text: &str) {
        // TOML has no control characters in comments.
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        for line in wrap(&plain, 116) {
            self.line(&format!("# {line}"));
        }
    }

    fn rule(&mut self, wish: &Wish, missed: &[Missed], mark: &str) {
        let group = &wish.group;
        if group.passes {
            return;
        }
        let width = group.register.width().bytes();
        let offset = group.register.offset();
        let mut keys = match (&group.name, group.capability) {
            (Some(name), _) => vec![format!("register = \"{name}\"")],
            (None, Some((id, start))) if start <= offset => {
                vec![
                    format!("capability = \"{id}\""),
                    format!("offset = {:#x}", offset - start),
                    format!("width = {width}"),
                ]
            }
            (None, _) => vec![format!("offset = {offset:#x}"), format!("width = {width}")],
        };
        keys.push(format!("mask = {}", hexadecimal(wish, wish.mask)));
        keys.push(format!("read = \"{}\"", group.read));
        keys.push(format!("write = \"{}\"", group.write));
        self.table("[[rule]]", &keys, &format!("Suggested: {}.", tried(wish, missed)), mark);
    }

    fn table(&mut self, header: &str, keys: &[String], why: &str, mark: &str) {
        let why = format!("why = \"{why}\"");
        for line in std::iter::once(header).chain(keys.iter().map(String::as_str)).chain([why.as_str()]) {
            self.line(&format!("{mark}{line}"));
        }
    }
}
