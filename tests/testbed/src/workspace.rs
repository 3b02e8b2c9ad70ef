//! The workspace that this belongs to, and what cargo builds from it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::process;

/// A program of the project that is put into the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// xenpcid, in dom0.
    Daemon,
    /// xenpci, in dom0.
    CommandLine,
    /// pcifront-shim, in guests.
    Instrument,
}

impl Program {
    /// Its file's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "xenpcid",
            Self::CommandLine => "xenpci",
            Self::Instrument => "pcifront-shim",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Daemon => "xenpcid",
            Self::CommandLine => "xenpci",
            Self::Instrument => "pcifront-shim-instrument",
        }
    }

    /// Builds it, optimised, and returns where it is.
    ///
    /// # Errors
    /// As [`build`].
    pub fn build(self) -> Result<PathBuf> {
        build(self.package(), self.name())
    }
}

/// The folder with the workspace's Cargo.toml.
#[must_use]
pub fn folder() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let package = Path::new(&package);
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

/// cargo, in the workspace: the one that runs us, if one does.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder());
    command
}

/// One of cargo's messages, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// As far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// Builds a package's program, optimised, and returns where it is.
///
/// # Errors
/// [`Error::Program`] if it does not compile; the compiler's messages are on standard error.
pub fn build(package: &str, program: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--release", "--message-format=json-render-diagnostics"]);
    command.args(["--package", package, "--bin", program]).stderr(Stdio::inherit());
    let messages = process::run(&mut command)?;
    executable(&String::from_utf8_lossy(&messages)).ok_or_else(|| Error::Malformed {
        object: format!("cargo build --package {package}"),
        problem: "names no executable".to_owned(),
    })
}

/// Where cargo puts what it builds.
///
/// # Errors
/// If cargo does not say.
pub fn target_folder() -> Result<PathBuf> {
    let metadata = process::run(cargo().args(["metadata", "--format-version=1", "--no-deps", "--quiet"]))?;
    let metadata: Metadata = serde_json::from_slice(&metadata)
        .map_err(|error| Error::Malformed { object: "cargo metadata".to_owned(), problem: error.to_string() })?;
    Ok(metadata.target_directory)
}

fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages.filter_map(|message| message.executable).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"agent"},"executable":"/t/release/agent","fresh":true}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/agent")));
    }

    #[test]
    fn the_folder_is_the_workspace() {
        let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }
}
