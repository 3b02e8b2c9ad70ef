//! `xenpci tree`: the host's buses, and beside them the buses that guests see.

use std::collections::BTreeMap;

use anstyle::Style;
use serde::Serialize;
use xenpcid_address::Sbdf;
use xenpcid_control::{BusDevice, Client, Domain, Function, ListDomains, ListFunctions};

use crate::arguments::{self, Places};
use crate::class;
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, FAINT, GOOD, HEADING, paint};

/// Columns between the two.
const GAP: usize = 3;

#[derive(Serialize)]
struct Everything {
    functions: Vec<Function>,
    domains: Vec<Domain>,
}

pub fn run(places: &Places, arguments: &arguments::Tree) -> Result<(), Failure> {
    let mut client = Client::connect(&places.socket)?;
    let functions = client.call(&ListFunctions {})?.functions;
    let domains = client.call(&ListDomains {})?.domains;
    if arguments.json {
        return screen::json(&Everything { functions, domains });
    }
    screen::print(&beside(&host(&functions, &domains), &guests(&domains), screen::width()))
}

/// A line, and how many columns it takes.
#[derive(Clone, Default)]
struct Line {
    text: String,
    columns: usize,
}

impl Line {
    fn of(text: &str, style: Style) -> Self {
        Self::default().and(text, style)
    }

    fn and(mut self, text: &str, style: Style) -> Self {
        let text = screen::harmless(text);
        self.columns += text.chars().count();
        self.text += &if style == Style::new() { text } else { paint(style, text) };
        self
    }
}

/// Two texts side by side if there is room for both, else one below the other.
fn beside(left: &[Line], right: &[Line], width: usize) -> String {
    let columns = |lines: &[Line]| lines.iter().map(|line| line.columns).max().unwrap_or_default();
    let start = columns(left) + GAP;
    if start + columns(right) > width {
        let blank = Line::default();
        return left.iter().chain([&blank]).chain(right).map(|line| line.text.clone() + "\n").collect();
    }
    let mut out = String::new();
    for n in 0..left.len().max(right.len()) {
        let left = left.get(n).cloned().unwrap_or_default();
        out += &left.text;
        if let Some(right) = right.get(n).filter(|line| line.columns > 0) {
            out += &" ".repeat(start - left.columns);
            out += &right.text;
        }
        out += "\n";
    }
    out
}

fn host(functions: &[Function], domains: &[Domain]) -> Vec<Line> {
    let owners: BTreeMap<Sbdf, &Domain> =
        domains.iter().flat_map(|domain| domain.bus.iter().map(move |device| (device.device, domain))).collect();
    let is_known = |address: &Sbdf| functions.iter().any(|function| function.address == *address);
    let mut children: BTreeMap<Option<Sbdf>, Vec<&Function>> = BTreeMap::new();
    for function in functions {
        children.entry(function.parent.filter(is_known)).or_default().push(function);
    }
    let mut lines = vec![Line::of("HOST", HEADING)];
    let mut roots: BTreeMap<(u16, u8), Vec<&Function>> = BTreeMap::new();
    for function in children.remove(&None).unwrap_or_default() {
        roots.entry((function.address.segment(), function.address.bus())).or_default().push(function);
    }
    for ((segment, bus), functions) in roots {
        lines.push(Line::of(&format!("{segment:04x}:{bus:02x}"), HEADING));
        below(&functions, "", &mut children, &owners, &mut lines);
    }
    lines
}

/// The functions of a bus, and what is below each.
fn below(
    functions: &[&Function],
    indent: &str,
    children: &mut BTreeMap<Option<Sbdf>, Vec<&Function>>,
    owners: &BTreeMap<Sbdf, &Domain>,
    lines: &mut Vec<Line>,
) {
    for (n, function) in functions.iter().enumerate() {
        let (branch, deeper) = branches(n + 1 == functions.len());
        // The segment is in the heading.
        let address = function.address.to_string();
        let address = address.split_once(':').map_or(address.as_str(), |(_, rest)| rest);
        let line = Line::of(&format!("{indent}{branch}"), FAINT).and(address, ADDRESS);
        let kind = format!(" {} [{:04x}:{:04x}]", class::name(function.class), function.vendor, function.device);
        let label = function.label.as_ref().map(|label| format!(" \"{label}\"")).unwrap_or_default();
        let line = line.and(&kind, Style::new()).and(&label, FAINT);
        lines.push(match (owners.get(&function.address), &function.driver) {
            (Some(domain), _) => line.and(&format!(" -> {}", title(domain)), GOOD),
            (None, Some(driver)) => line.and(&format!(" {driver}"), FAINT),
            (None, None) => line,
        });
        let own = children.remove(&Some(function.address)).unwrap_or_default();
        below(&own, &format!("{indent}{deeper}"), children, owners, lines);
    }
}

fn guests(domains: &[Domain]) -> Vec<Line> {
    let mut lines = vec![Line::of("GUESTS", HEADING)];
    for domain in domains.iter().filter(|domain| domain.held || !domain.bus.is_empty()) {
        let held = if domain.held { ", held" } else { "" };
        lines.push(Line::of(&title(domain), HEADING).and(held, FAINT));
        for (n, BusDevice { guest_address, device, name }) in domain.bus.iter().enumerate() {
            let (branch, _) = branches(n + 1 == domain.bus.len());
            let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let line = Line::of(branch, FAINT).and(guest_address.as_deref().unwrap_or("--.-"), ADDRESS);
            lines.push(line.and(&format!(" {device}"), Style::new()).and(&name, FAINT));
        }
    }
    if lines.len() == 1 {
        lines.push(Line::of("no guest has a device", FAINT));
    }
    lines
}

/// Before the last one or another one, and before what is below it.
const fn branches(is_last: bool) -> (&'static str, &'static str) {
    if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") }
}

fn title(domain: &Domain) -> String {
    format!("{} ({})", domain.name.as_deref().unwrap_or("without a name"), domain.id)
}
