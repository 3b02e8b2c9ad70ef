//! From the text of files to a configuration.
//!
//! First each file by itself becomes [`Tables`], whose values are right but may name what is not there; then [`resolve`] puts
//! those of all files together. Either finds all mistakes that it can.

mod device;
mod domain;
mod resolve;
mod settings;
mod value;

use toml::de::DeTable;

use crate::error::{Mistake, Problem, locate};
use crate::toml_table::{Table, tables};
use crate::{Config, Policies};

/// A file and what is in it.
pub(crate) struct File {
    /// What mistakes call it.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// What one file declares.
#[derive(Default)]
struct Tables {
    settings: settings::SettingsTable,
    devices: Vec<device::DeviceTable>,
    pools: Vec<device::PoolTable>,
    domains: Vec<domain::DomainTable>,
    /// The text is not even TOML, so nobody knows what it declares.
    unread: bool,
}

/// The files as one configuration, or every mistake in them.
pub(crate) fn config(files: &[File], policies: Option<&Policies>) -> Result<Config, Vec<Problem>> {
    let mut mistakes: Vec<Vec<Mistake>> = files.iter().map(|_| Vec::new()).collect();
    let read = |(file, mistakes): (&File, &mut Vec<Mistake>)| Tables::read(&file.text, policies, mistakes);
    let all = files.iter().zip(&mut mistakes).map(read).collect();
    let config = resolve::config(files, all, &mut mistakes);
    let located = files.iter().zip(mistakes).map(|(file, mistakes)| locate(mistakes, &file.text, &file.name));
    let problems: Vec<Problem> = located.flatten().collect();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

impl Tables {
    fn read(text: &str, policies: Option<&Policies>, mistakes: &mut Vec<Mistake>) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            mistakes.extend(errors.into_iter().map(Mistake::from));
            return Self { unread: true, ..Self::default() };
        }
        let mut top = Table::new(document.get_ref(), 0..0);
        let settings = top.get("daemon").map(|value| settings::read(value, mistakes)).unwrap_or_default();
        let devices = tables("device", top.get("device"), mistakes);
        let devices = devices.into_iter().map(|table| device::device(table, policies, mistakes)).collect();
        let pools = tables("pool", top.get("pool"), mistakes);
        let pools = pools.into_iter().map(|table| device::pool(table, policies, mistakes)).collect();
        let domains = tables("domain", top.get("domain"), mistakes);
        let domains = domains.into_iter().map(|table| domain::read(table, policies, mistakes)).collect();
        top.finish(mistakes);
        Self { settings, devices, pools, domains, unread: false }
    }
}
