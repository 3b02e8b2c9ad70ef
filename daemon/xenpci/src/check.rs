//! `xenpci check`: files that xenpcid would read, or is to read.

use std::path::Path;

use xenpcid_config::{Config, ConfigError, Policies};

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
        let config = match &present {
            Ok(present) => Config::load_with(&places.config, present),
            Err(_) => Config::load(&places.config),
        };
        judge(folder, present.map(drop))?;
        judge(places.config.display().to_string(), config.map(drop))?;
    } else {
        for file in &arguments.files {
            judge(file.display().to_string(), check(file, places))?;
        }
    }
    if is_good { Ok(()) } else { Err(Failure::Reported) }
}

/// Checks a file as what it is: only a configuration has domains.
fn check(file: &Path, places: &Places) -> Result<(), ConfigError> {
    let read = |source| ConfigError::Read { path: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(read)?;
    let is_domain = |line: &str| line.starts_with("[domain") || line.starts_with("[[domain");
    if text.lines().any(|line| is_domain(line.trim_start())) {
        Config::load_with(file, &Policies::load(&places.policies)?).map(drop)
    } else {
        policies::with_file(&places.policies, file).map(drop)
    }
}
