//! Policies as pages of Markdown, for people.

use std::fmt::Write;

use xenpcid_policy::policy::{DeviceMatch, Layer, Place, Rule};
use xenpcid_policy::registers;
use xenpcid_policy::{InterruptMode, Kind, Policy, Register, Shown, Width};

use super::Policies;

const GENERATED: &str = "<!-- Generated from the policy and the tables of registers. -->\n";

impl Policies {
    /// A policy as a page of Markdown: what it is for, what guests do not find, what becomes of accesses to each register,
    /// and why. What it inherits is named, not repeated.
    #[must_use]
    pub fn page(&self, name: &str) -> Option<String> {
        let policy = self.get(name)?;
        let own = policy.layers.last()?;
        let mut page = format!("{GENERATED}# Policy `{name}`\n\n{}\n\n", policy.description);
        let _ = writeln!(page, "**For** {}.\n", devices(&policy.applies_to));
        if let Some(extended) = self.extended_by(name) {
            let _ = writeln!(page, "**Extends** [`{extended}`]({extended}.md): what is not said here is said there.\n");
        }
        page.push_str("What no guest may ever write, whatever its policy, is in [guarded registers](guarded.md).\n");
        hidden(&mut page, policy, own);
        rules(&mut page, &own.rules);
        otherwise(&mut page, policy, own);
        Some(page)
    }
}

/// What no guest may ever write in hardware, as a page of Markdown.
#[must_use]
pub fn guarded_page() -> String {
    let mut page = format!(
        "{GENERATED}# Guarded registers\n\nWhat no guest may ever write in a device, whatever its policy. A policy can say \
         how some of these bits are read, and refuse writes to them; one that lets a write pass is a mistake.\n\n\
         | register | bits | what a guest finds | why | specification |\n|---|---|---|---|---|\n"
    );
    let in_capabilities = registers::CAPABILITIES.iter().flat_map(registers::CapabilityKind::registers);
    // What the same is true of has one row.
    let mut rows: Vec<(Vec<&str>, String)> = Vec::new();
    for register in registers::HEADER.iter().chain(in_capabilities) {
        for field in register.fields {
            let Kind::Guarded { shown, why } = field.kind else { continue };
            let bits = bits(field.mask & register.width.mask(), register.width, Some(register));
            let row = format!("| {bits} | {} | {why} | {} |", found(shown), register.spec);
            match rows.iter_mut().find(|(_, same)| *same == row) {
                Some((names, _)) if names.contains(&register.name) => {}
                Some((names, _)) => names.push(register.name),
                None => rows.push((vec![register.name], row)),
            }
        }
    }
    for (names, row) in rows {
        let _ = writeln!(page, "| `{}` {row}", names.join("`, `"));
    }
    page
}

fn hidden(page: &mut String, policy: &Policy, own: &Layer) {
    page.push_str("\n## Capabilities\n\n");
    let mut mentioned = Vec::new();
    let mut inherited = Vec::new();
    for visibility in policy.layers.iter().rev().flat_map(|layer| &layer.visibility) {
        let is_first = !mentioned.contains(&visibility.capability);
        mentioned.push(visibility.capability);
        if is_first && visibility.hidden && !own.visibility.contains(visibility) {
            inherited.push(format!("`{}`", visibility.capability));
        }
    }
    if mentioned.is_empty() {
        page.push_str("None is hidden.\n");
    }
    if !inherited.is_empty() {
        let _ = writeln!(page, "Hidden, as the extended policy says: {}.", inherited.join(", "));
    }
    if !own.visibility.is_empty() {
        let gap = if inherited.is_empty() { "" } else { "\n" };
        let _ = writeln!(page, "{gap}| capability | name | | why |\n|---|---|---|---|");
    }
    for visibility in &own.visibility {
        let title = registers::capability(visibility.capability).map_or("", |kind| kind.title);
        let what = if visibility.hidden { "hidden" } else { "shown" };
        let _ = writeln!(page, "| `{}` | {title} | {what} | {} |", visibility.capability, cell(&visibility.why));
    }
}

fn rules(page: &mut String, rules: &[Rule]) {
    page.push_str("\n## Registers\n");
    if rules.is_empty() {
        page.push_str("\nNo rules.\n");
    }
    let mut whens: Vec<&DeviceMatch> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.when.is_any()).chain(rules) {
        if !whens.contains(&&rule.when) {
            whens.push(&rule.when);
        }
    }
    for when in whens {
        if !when.is_any() {
            let _ = writeln!(page, "\nOnly on {}:", devices(when));
        }
        page.push_str("\n| register | bits | read | write | why | specification |\n|---|---|---|---|---|---|\n");
        rules.iter().filter(|rule| rule.when == *when).for_each(|rule| row(page, rule));
    }
}

fn row(page: &mut String, rule: &Rule) {
    let Rule { place, mask, read, write, reset_value, undo, .. } = *rule;
    let (name, register) = match place {
        Place::Named { name, .. } => (format!("`{name}`"), registers::named(name).next().map(|(_, register)| register)),
        place => (place.to_string(), None),
    };
    let at_first = match reset_value {
        Some(value) => format!(", at first {}", hexadecimal(value, place.width())),
        None => String::new(),
    };
    let for_good = if undo { "" } else { ", not undone" };
    let bits = bits(mask, place.width(), register);
    let spec = register.map_or("", |register| register.spec);
    let _ = writeln!(page, "| {name} | {bits} | {read}{at_first} | {write}{for_good} | {} | {spec} |", cell(&rule.why));
}

fn otherwise(page: &mut String, policy: &Policy, own: &Layer) {
    page.push_str("\n## Everything else\n\n");
    let _ = match (&own.otherwise, policy.layers.len()) {
        (Some(otherwise), _) => {
            writeln!(page, "Read: {}. Write: {}. {}", otherwise.read, otherwise.write, otherwise.why)
        }
        (None, 1) => writeln!(page, "Read: pass. Write: discard."),
        (None, _) => writeln!(page, "As the extended policy says."),
    };
}

/// The bits, and what the specification calls them.
fn bits(mask: u32, width: Width, register: Option<&Register>) -> String {
    let names: Vec<&str> = register
        .into_iter()
        .flat_map(|register| register.fields_in(mask))
        .map(|field| field.name)
        .filter(|name| !name.is_empty())
        .collect();
    let bits = if mask == width.mask() { "all".to_owned() } else { hexadecimal(mask, width) };
    if names.is_empty() { bits } else { format!("{bits}: {}", names.join(", ")) }
}

fn hexadecimal(value: u32, width: Width) -> String {
    let digits = usize::from(width.bytes()) * 2 + 2;
    format!("{value:#0digits$x}")
}

/// What a guest finds in guarded bits.
fn found(shown: Shown) -> String {
    match shown {
        Shown::Hardware | Shown::Trigger => "what the device has".to_owned(),
        Shown::Zero => "zero".to_owned(),
        Shown::Claimed => "what was there at the claim".to_owned(),
        Shown::Listed => "what was there at the claim, without hidden capabilities".to_owned(),
        Shown::Kept(value) => format!("what it last wrote, at first {value:#x}"),
        Shown::Vendor | Shown::Device => "what the host's kernel knows".to_owned(),
        Shown::InterruptLine => "the INTx pirq; 0 if there is none".to_owned(),
        Shown::InterruptPin => "what was there at the claim; 0 without an INTx pirq".to_owned(),
        Shown::MsixTableSize => "the size of the table, at most the domain's budget of vectors".to_owned(),
        Shown::Enabled(InterruptMode::Msi) => "1 while it has MSI".to_owned(),
        Shown::Enabled(InterruptMode::Msix) => "1 while it has MSI-X".to_owned(),
        Shown::Enabled(InterruptMode::None) => "1 while it has neither MSI nor MSI-X".to_owned(),
        Shown::PowerState => "the state that it last entered".to_owned(),
        Shown::BaseAddress(_) => "the address; the size after it wrote a dword of ones".to_owned(),
        Shown::FunctionReset { .. } => "zero; a 1 has the daemon reset the function".to_owned(),
    }
}

/// `devices of vendor 8086, class 0200`, or `every device`.
fn devices(when: &DeviceMatch) -> String {
    if when.is_any() { "every device".to_owned() } else { cell(&format!("devices of {when}")) }
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
