//! `xenpci denied`: what guests tried and did not get.

use std::time::{Duration, UNIX_EPOCH};

use xenpcid_control::{Client, Denied, ListDenied, Operation, Outcome};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, DENIED, HEADING, paint};

const COLUMNS: [&str; 9] = ["DEVICE", "GUEST", "AT", "REGISTER", "BITS", "OUTCOME", "COUNT", "LAST VALUE", "LAST TIME"];

pub fn run(places: &Places, arguments: &arguments::Denied) -> Result<(), Failure> {
    let mut client = Client::connect(&places.socket)?;
    let reply = client.call(&ListDenied { device: arguments.device })?;
    if arguments.json {
        return screen::print(&(serde_json::to_string_pretty(&reply)? + "\n"));
    }
    let mut text = match reply.denied.as_slice() {
        [] => "Guests got all that they tried.\n".to_owned(),
        denied => table(denied),
    };
    if reply.uncounted > 0 {
        text.push_str(&format!("And {} accesses to more registers than are counted.\n", reply.uncounted));
    }
    screen::print(&text)
}

/// Columns as wide as what is in them.
fn table(denied: &[Denied]) -> String {
    let rows: Vec<[String; 9]> = denied.iter().map(row).collect();
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let heading: String = COLUMNS.iter().zip(widths).map(|(name, width)| format!("{name:<width$}  ")).collect();
    let mut out = paint(HEADING, heading.trim_end()) + "\n";
    for (entry, row) in denied.iter().zip(&rows) {
        let mut line = String::new();
        for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = if COLUMNS[n] == "COUNT" { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&match COLUMNS[n] {
                "DEVICE" => paint(ADDRESS, cell),
                "OUTCOME" if entry.outcome == Outcome::Denied => paint(DENIED, cell),
                _ => cell,
            });
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn row(entry: &Denied) -> [String; 9] {
    let digits = usize::from(entry.width) * 2;
    let hexadecimal = |value: u32| format!("{value:0digits$x}");
    let operation = match entry.operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let outcome = match entry.outcome {
        Outcome::Discarded => "discarded",
        Outcome::Denied => "denied",
    };
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(entry.last_time));
    [
        entry.device.to_string(),
        format!("{} ({})", screen::harmless(&entry.guest.name), entry.guest.id),
        format!("{:03x}", entry.offset),
        register(entry),
        hexadecimal(entry.bits),
        format!("{operation} {outcome}"),
        entry.count.to_string(),
        if entry.operation == Operation::Write { hexadecimal(entry.last_value) } else { "-".to_owned() },
        time.map_or_else(|| "?".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string()),
    ]
}

/// Its name, and that of a capability that its name does not tell.
fn register(entry: &Denied) -> String {
    let capability =
        entry.capability.as_deref().map(|name| if entry.hidden { format!("{name}, hidden") } else { name.to_owned() });
    let text = match (entry.register.as_deref(), capability) {
        (Some(name), Some(capability)) if entry.hidden => format!("{name} ({capability})"),
        (Some(name), _) => name.to_owned(),
        (None, Some(capability)) => format!("in {capability}"),
        (None, None) => "-".to_owned(),
    };
    screen::harmless(&text)
}
