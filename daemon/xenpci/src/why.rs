//! `xenpci why`: whether a device would be attached, and if not, every reason.

use serde::Serialize;
use xenpcid_control::{Client, Examine, Finding};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, FAINT, GOOD, WRONG, hanging, paint};

#[derive(Serialize)]
struct Answer {
    would_attach: bool,
    findings: Vec<Finding>,
}

pub fn run(places: &Places, arguments: arguments::Why) -> Result<(), Failure> {
    let arguments::Why { device, domain, json } = arguments;
    let mut client = Client::connect(&places.socket)?;
    let findings = client.call(&Examine { device: device.clone(), domain: domain.clone() })?.findings;
    let would_attach = findings.iter().all(|finding| finding.allowed);
    if json {
        screen::json(&Answer { would_attach, findings })?;
    } else {
        let verdict =
            if would_attach { paint(GOOD, "would be attached") } else { paint(WRONG, "would not be attached") };
        let domain = domain.map_or_else(|| "a guest".to_owned(), |domain| screen::harmless(&domain));
        let width = screen::width();
        let reasons: String = findings.iter().map(|finding| reason(finding, width)).collect();
        let device = paint(ADDRESS, screen::harmless(&device));
        screen::print(&format!("{device} {verdict} to {domain}\n{reasons}"))?;
    }
    if would_attach { Ok(()) } else { Err(Failure::Reported) }
}

/// The reason with its remedy, and the key that overrides it.
fn reason(finding: &Finding, width: usize) -> String {
    let Finding { check, message, key, allowed } = finding;
    let (check, message) = (screen::harmless(check), screen::harmless(message));
    let (style, columns) = (if *allowed { FAINT } else { WRONG }, check.chars().count() + 4);
    let over = match key {
        Some(key) if *allowed => format!("allowed by {key}"),
        Some(key) => format!("or override it: --allow {key}, or allow = [\"{key}\"] in its entry of the configuration"),
        None if *allowed => "does not keep it from being attached".to_owned(),
        None => "cannot be overridden".to_owned(),
    };
    hanging(&format!("  {}: ", paint(style, &check)), columns, &message, width)
        + &hanging(&" ".repeat(columns), columns, &paint(FAINT, screen::harmless(&over)), width)
}
