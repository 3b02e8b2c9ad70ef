//! `xenpci policies`: what there is to choose from.

use std::path::Path;

use serde::Serialize;
use xenpcid_config::{ChoiceError, ConfigError, Policies};
use xenpcid_policy::Policy;
use xenpcid_policy::policy::DeviceMatch;

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::screen::{self, ADDRESS, FAINT, hanging, paint};

pub fn run(places: &Places, arguments: &arguments::Policies) -> Result<(), Failure> {
    let policies = Policies::load(&places.policies)?;
    if let Some(name) = &arguments.name {
        let known = || policies.names().map(str::to_owned).collect();
        let page = policies.page(name).ok_or_else(|| ChoiceError::Unknown { name: name.clone(), known: known() })?;
        return screen::print(page.trim_start_matches(|c| c != '#'));
    }
    let entries = || policies.names().filter_map(|name| Entry::new(&policies, name));
    if arguments.json {
        return screen::print(&(serde_json::to_string_pretty(&entries().collect::<Vec<_>>())? + "\n"));
    }
    screen::print(&entries().map(|entry| entry.text(screen::width())).collect::<String>())
}

/// The policies that there are with one more file, which takes the place of the operator's of the same name; and its name.
pub fn with_file(folder: &Path, file: &Path) -> Result<(Policies, String), ConfigError> {
    let read = |path: &Path| {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        std::fs::read_to_string(path).map(|text| (path.to_owned(), text)).map_err(failed)
    };
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let present = Policies::load(folder)?;
    let others = present.names().filter(|other| *other != name).filter_map(|other| present.file(other));
    let files: Vec<_> = others.chain([file]).map(read).collect::<Result<_, _>>()?;
    Ok((Policies::with(files)?, name))
}

#[derive(Serialize)]
struct Entry<'p> {
    name: &'p str,
    description: &'p str,
    extends: Option<&'p str>,
    /// The operator's file; none for those that come with xenpcid.
    file: Option<&'p Path>,
    /// The devices that it is for.
    devices: String,
}

impl<'p> Entry<'p> {
    fn new(policies: &'p Policies, name: &'p str) -> Option<Self> {
        let policy: &Policy = policies.get(name)?;
        Some(Self {
            name: &policy.name,
            description: policy.description.trim(),
            extends: policies.extended_by(name),
            file: policies.file(name),
            devices: devices(&policy.applies_to),
        })
    }

    fn text(&self, width: usize) -> String {
        const INDENT: usize = 16;
        let description = self.description.split_whitespace().collect::<Vec<_>>().join(" ");
        let sentence = description.split_once(". ").map_or(description.as_str(), |(first, _)| first);
        let origin = match self.file {
            Some(file) => screen::harmless(&file.display().to_string()),
            None => "comes with xenpcid".to_owned(),
        };
        let extends = self.extends.map(|name| format!("extends {name}; ")).unwrap_or_default();
        let name = format!("{:<INDENT$}", self.name);
        let about = format!("{extends}for {}; {origin}", self.devices);
        let indent = " ".repeat(INDENT);
        hanging(&paint(ADDRESS, &name), name.len(), sentence.trim_end_matches('.'), width)
            + &hanging(&indent, INDENT, &paint(FAINT, about), width)
    }
}

fn devices(applies_to: &DeviceMatch) -> String {
    if applies_to.is_any() { "any device".to_owned() } else { screen::harmless(&applies_to.to_string()) }
}
