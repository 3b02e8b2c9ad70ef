//! `xenpci check`: files that xenpcid would read, or is to read.

use std::path::Path;

use xenpcid_config::{Config, ConfigError, DROP_INS, Policies};

use crate::arguments::{self, Places};
use crate::failure::Failure;
use crate::policies;
use crate::screen;

pub fn run(places: &Places, arguments: &arguments::Check) -> Result<(), Failure> {
    let mut is_good = true;
    let mut judge = |what: String, outcome: Result<(), ConfigError>| match outcome {
        Ok(()) => screen::print(&format!("{what}: good\n")),
        Err(error) => {
            is_good = false;
            Failure::from(error).report();
            Ok(())
        }
    };
    if arguments.files.is_empty() {
        let present = Policies::load(&places.policies);
        let folder = format!("policies, with those of {}", places.policies.display());
        let config = Config::load(&places.config, present.as_ref().ok());
        judge(folder, present.map(drop))?;
        judge(places.config.display().to_string(), config.map(drop))?;
    } else {
        for file in &arguments.files {
            judge(file.display().to_string(), check(file, places))?;
        }
    }
    if is_good { Ok(()) } else { Err(Failure::Reported) }
}

/// The tables of a configuration; policies have none of them.
const OF_CONFIGURATION: [&str; 4] = ["daemon", "device", "pool", "domain"];

/// Checks a file as what it is.
fn check(file: &Path, places: &Places) -> Result<(), ConfigError> {
    let read = |source| ConfigError::Read { path: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(read)?;
    let is_of_configuration = |line: &str| {
        let name = line.trim_start_matches('[').trim_start();
        name.len() < line.len() && OF_CONFIGURATION.iter().any(|table| name.starts_with(table))
    };
    if text.lines().any(|line| is_of_configuration(line.trim())) {
        // What one file of the configuration names may be in another.
        let whole = if is_drop_in(file, &places.config) { &places.config } else { file };
        Config::load(whole, &Policies::load(&places.policies)?).map(drop)
    } else {
        policies::with_file(&places.policies, file).map(drop)
    }
}

/// Whether a file is one of those beside the configuration that are part of it.
fn is_drop_in(file: &Path, config: &Path) -> bool {
    let folder = file.canonicalize().ok().and_then(|file| Some(file.parent()?.to_owned()));
    folder.is_some() && folder == config.with_file_name(DROP_INS).canonicalize().ok()
}
