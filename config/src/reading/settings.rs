//! `[daemon]`.

use std::time::Duration;

use super::value::{Value, deadline, hold, parsed};
use crate::Settings;
use crate::error::Mistake;
use crate::toml_table;

/// What one file says; what it leaves out is left to the others.
#[derive(Default)]
pub(super) struct SettingsTable {
    hold: Option<Option<Duration>>,
    detach_timeout: Option<Duration>,
    read_only_group: Option<String>,
}

impl SettingsTable {
    /// Overrides what files before this one said.
    pub(super) fn apply(self, settings: &mut Settings) {
        settings.hold = self.hold.unwrap_or(settings.hold);
        settings.detach_timeout = self.detach_timeout.unwrap_or(settings.detach_timeout);
        settings.read_only_group = self.read_only_group.or(settings.read_only_group.take());
    }
}

/// Reads the table.
pub(super) fn read<'t>(value: &'t Value<'t>, mistakes: &mut Vec<Mistake>) -> SettingsTable {
    let Some(mut table) = toml_table::table(value, mistakes) else { return SettingsTable::default() };
    let settings = SettingsTable {
        hold: table.get("hold").and_then(|value| hold(value, mistakes)),
        detach_timeout: table.get("detach-timeout").and_then(|value| deadline(value, mistakes)),
        read_only_group: table.get("read-only-group").and_then(|value| group(value, mistakes)),
    };
    table.finish(mistakes);
    settings
}

fn group(value: &Value<'_>, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let help = "write the name of a group of dom0, as `getent group` lists them";
    let group = parsed(value, "a name of a group", help, mistakes, |text| {
        // What separates the fields of /etc/group and their lists cannot be in a name.
        let is_name = !text.is_empty() && !text.contains([':', ',']) && !text.contains(char::is_whitespace);
        is_name.then(|| text.to_owned())
    });
    group.map(|group| group.value)
}
