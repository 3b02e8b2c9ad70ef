//! The configuration of xenpcid: which devices belong to which domains, and what these may do with them.
//!
//! ```toml
//! [[domain]]
//! name = "web1"            # or uuid = "..."
//! devices = ["0000:01:00.0", { bdf = "0000:03:00.0", name = "uplink", policy = "network", reset = "best-effort" }]
//! vectors = 16             # most MSI-X vectors that each device shows
//! ```
//! What guests may do with the registers of their devices is in [`policy`] files.
//!
//! [`Config::parse`] accepts a file as a whole or not at all, and says of each mistake where it is and what to do.
//! `examples/xenpcid.toml` explains every key.
#![forbid(unsafe_code)]

mod error;
pub mod policy;
mod schema;
mod toml_table;
mod validate;

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use xenpcid_address::Sbdf;

pub use error::{ConfigError, Problem};
pub use policy::{ChoiceError, Policies};
pub use uuid::Uuid;

/// Functions that fit on the virtual bus of one domain: it has this many slots.
pub const DEVICES_MAX: usize = 32;

/// MSI-X vectors that a guest can ask for at once, hence the most that a device shows.
pub const VECTORS_MAX: u16 = xenpcid_policy::MAX_MSIX_VECTORS;

/// What the operator declares. No device and no domain is in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Domains in the order of the file.
    pub domains: Vec<Domain>,
}

/// A domain and the devices that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// How the domain is found.
    pub selector: DomainSelector,
    /// Most MSI-X vectors that each of its devices shows it: 1 to [`VECTORS_MAX`], which it is unless declared.
    pub vectors: u16,
    /// Its devices in the order of the file, at most [`DEVICES_MAX`].
    pub devices: Vec<Device>,
}

/// By what a domain is found among those that run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainSelector {
    /// Its name, not empty.
    Name(String),
    /// Its UUID.
    Uuid(Uuid),
}

/// A device of the host that a domain gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Address on the host.
    pub sbdf: Sbdf,
    /// What the operator calls it, for policies that match by name. No other device has it.
    pub name: Option<String>,
    /// The policy it is given; `None` leaves the choice to [`Policies::for_device`].
    pub policy: Option<String>,
    /// What to do if it cannot be reset.
    pub reset: ResetRequirement,
}

/// Whether a device has to be reset between two owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetRequirement {
    /// A device that cannot be reset is refused.
    #[default]
    Required,
    /// A device that cannot be reset is handed on as it is.
    BestEffort,
}

impl Device {
    /// A device with nothing declared but its address.
    #[must_use]
    pub fn new(sbdf: Sbdf) -> Self {
        Self { sbdf, name: None, policy: None, reset: ResetRequirement::default() }
    }
}

impl Config {
    /// Reads and checks a file, without looking whether there are the policies that it names.
    ///
    /// # Errors
    /// The file cannot be read, or is not a configuration.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        Self::check(&read(path)?, &path.display().to_string(), None)
    }

    /// Reads and checks a file that names none but these policies.
    ///
    /// # Errors
    /// As [`Config::load`]; also a policy that is not there.
    pub fn load_with(path: impl AsRef<Path>, policies: &Policies) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        Self::check(&read(path)?, &path.display().to_string(), Some(policies))
    }

    /// Checks the text of a file; `file_name` is what errors call it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], with every mistake; text that is not TOML, or has unknown keys or wrong types, gives
    /// only the first one.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        Self::check(text, file_name, None)
    }

    /// Checks the text of a file that names none but these policies; `file_name` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::parse`]; also a policy that is not there.
    pub fn parse_with(text: &str, file_name: &str, policies: &Policies) -> Result<Self, ConfigError> {
        Self::check(text, file_name, Some(policies))
    }

    fn check(text: &str, file_name: &str, policies: Option<&Policies>) -> Result<Self, ConfigError> {
        let mistakes = match toml::from_str(text) {
            Ok(file) => match validate::config(file, text, policies) {
                Ok(config) => return Ok(config),
                Err(mistakes) => mistakes,
            },
            Err(error) => vec![error.into()],
        };
        Err(ConfigError::Invalid { problems: error::locate(mistakes, text, file_name) })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

impl fmt::Display for DomainSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}
