//! Text for people: as wide as their terminal, in colour if it has any.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use terminal_size::{Width, terminal_size};
use xenpcid_control::Guest;

use crate::failure::Failure;

/// Columns where there is no terminal.
const WIDTH: usize = 100;
/// Narrower ones get lines that they have to break themselves.
const NARROWEST: usize = 60;
/// Longer lines are hard to read.
const WIDEST: usize = 140;

pub const HEADING: Style = Style::new().bold();
pub const ADDRESS: Style = AnsiColor::Cyan.on_default();
pub const FAINT: Style = Style::new().dimmed();
pub const REACHES_DEVICE: Style = AnsiColor::Red.on_default().bold();
pub const EMULATED: Style = AnsiColor::Yellow.on_default();
pub const GUARDED: Style = AnsiColor::Blue.on_default();
pub const DENIED: Style = AnsiColor::Magenta.on_default().bold();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WRONG: Style = AnsiColor::Red.on_default().bold();
pub const READ_ONLY: Style = AnsiColor::Green.on_default();

/// Columns of a line.
pub fn width() -> usize {
    let width = terminal_size().map_or(WIDTH, |(Width(columns), _)| usize::from(columns));
    width.clamp(NARROWEST, WIDEST)
}

/// `text` in `style`. What prints it takes the colours out where there are none.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// `text` in lines of `width` columns, the first one beginning with `first` and the others below the end of it. `columns`
/// is how many `first` takes, which may have colours.
pub fn hanging(first: &str, columns: usize, text: &str, width: usize) -> String {
    let indent = " ".repeat(columns);
    let room = width.saturating_sub(columns).max(20);
    let lines = textwrap::wrap(text, textwrap::Options::new(room).break_words(false));
    let mut out = first.to_owned();
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            out.push('\n');
            out.push_str(&indent);
        }
        out.push_str(line);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Text of others, without what would move the cursor.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A time in milliseconds since 1970-01-01 00:00 UTC.
pub fn time(milliseconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
    time.map_or_else(|| "?".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// A domain, as `xl list` has it.
pub fn guest(guest: &Guest) -> String {
    format!("{} ({})", harmless(&guest.name), guest.id)
}

/// Prints to standard output as JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Prints to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
