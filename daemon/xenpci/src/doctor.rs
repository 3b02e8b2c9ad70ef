//! `xenpci doctor`: everything that would keep passthrough from working on this host.
//!
//! First what can be seen without anybody's help ([`host`]), then the files ([`files`]), and then what the running xenpcid
//! says ([`daemon`]); if none is, what can be told of the declared devices without it ([`devices`]).

mod daemon;
mod devices;
mod files;
mod host;

use serde::Serialize;
use xenpcid_control::Client;

use crate::arguments::{self, Places};
use crate::failure::{self, Failure};
use crate::screen::{self, FAINT, GOOD, WRONG, hanging, paint};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It cannot be told, or it matters only sometimes.
    Note,
    /// It keeps passthrough from working.
    Problem,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn good(text: impl Into<String>) -> Self {
        Self { level: Level::Good, text: text.into(), remedy: None }
    }

    fn note(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn problem(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Problem, text: text.into(), remedy: Some(remedy.into()) }
    }

    /// One whose text has its remedy in it.
    fn complaint(text: impl Into<String>) -> Self {
        Self { level: Level::Problem, text: text.into(), remedy: None }
    }
}

#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
}

pub fn run(places: &Places, arguments: &arguments::Doctor) -> Result<(), Failure> {
    let facts = host::Facts::read(&arguments.root);
    let (of_files, config) = files::judge(places);
    let mut findings = host::judge(&facts);
    findings.extend(of_files);
    match Client::connect(&places.socket) {
        Ok(client) => findings.extend(daemon::judge(client)),
        Err(error) => {
            // Elsewhere it cannot run, and that is said already.
            let is_missed = facts.is_control_domain();
            findings.extend(is_missed.then(|| Finding::complaint(failure::chain(&error))));
            findings.extend(devices::judge(&arguments.root, &config));
        }
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    if arguments.json {
        screen::json(&Report { findings })?;
    } else {
        let width = screen::width();
        let verdict = match problems {
            0 => "Nothing is wrong.\n".to_owned(),
            1 => "1 problem.\n".to_owned(),
            several => format!("{several} problems.\n"),
        };
        screen::print(&(findings.iter().map(|finding| text(finding, width)).collect::<String>() + &verdict))?;
    }
    if problems == 0 { Ok(()) } else { Err(Failure::Reported) }
}

fn text(finding: &Finding, width: usize) -> String {
    const COLUMNS: usize = 9;
    let (word, style) = match finding.level {
        Level::Good => ("good", GOOD),
        Level::Note => ("note", FAINT),
        Level::Problem => ("problem", WRONG),
    };
    let first = paint(style, format_args!("{word:<COLUMNS$}"));
    let remedy = finding.remedy.as_ref().map(|remedy| {
        let arrow = " ".repeat(COLUMNS) + "-> ";
        hanging(&arrow, arrow.len(), &screen::harmless(remedy), width)
    });
    // Mistakes in files show the lines that they are in.
    let lines: Vec<String> = finding.text.lines().map(screen::harmless).collect();
    hanging(&first, COLUMNS, &lines.join("\n"), width) + &remedy.unwrap_or_default()
}
