//! The configuration of xenpcid: which devices belong to which domains, and what these may do with them.
//!
//! ```toml
//! [[device]]
//! serial = "00-11-22-ff-ff-33-44-55"   # or bdf, path, port, vendor, device, subsystem: whatever finds exactly one device
//! name = "uplink"
//! policy = "network"
//!
//! [[pool]]                             # virtual functions (SR-IOV)
//! name = "lan"
//! physical-function = { bdf = "0000:04:00.0" }
//! count = 4
//!
//! [[domain]]
//! name = "web1"                        # or "web*", or uuid = "..."
//! devices = ["uplink", "0000:01:00.0", { from = "lan", vlan = 7, slot = 3 }]
//! vectors = 16                         # most MSI-X vectors that each device shows
//! ```
//! What guests may do with the registers of their devices is in [`policy`] files.
//!
//! [`Config::load`] accepts a file and those of `conf.d` beside it as a whole or not at all, and says of each mistake where it
//! is and what to do. Only what the configuration itself can get wrong is a mistake: which device of this host is meant is
//! seen when it is looked for ([`Identity::find`]). `examples/xenpcid.toml` explains every key.
#![forbid(unsafe_code)]

mod device;
mod domain;
mod error;
mod folder;
mod identity;
mod nearest;
pub mod policy;
mod reading;
mod settings;
mod toml_table;

use std::path::{Path, PathBuf};

use xenpcid_address::Sbdf;

pub use device::{Device, Override, Pool, ResetRequirement, Start, UnknownWord};
pub use domain::{Domain, DomainDevice, DomainSelector, Source};
pub use error::{ConfigError, Problem};
pub use identity::{HostFunction, Identity, IdentityError, serial_text};
pub use policy::{ChoiceError, Policies};
pub use settings::Settings;
pub use uuid::Uuid;

use folder::{read, toml_files};
use reading::File;

/// Functions that fit on the virtual bus of one domain: it has this many slots.
pub const DEVICES_MAX: usize = 32;

/// MSI-X vectors that a guest can ask for at once, hence the most that a device shows.
pub const VECTORS_MAX: u16 = xenpcid_policy::MAX_MSIX_VECTORS;

/// The folder beside the configuration whose files are part of it.
pub const DROP_INS: &str = "conf.d";

/// What the operator declares. No device, no pool and no domain is in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How the daemon behaves.
    pub settings: Settings,
    /// Devices of the host: those that have a table of their own in the order of the files, then those that were written
    /// with a domain.
    pub devices: Vec<Device>,
    /// Virtual functions for any domain, in the order of the files.
    pub pools: Vec<Pool>,
    /// Domains in the order of the files.
    pub domains: Vec<Domain>,
}

impl Config {
    /// Reads and checks a file and, beside it, those of the folder [`DROP_INS`] whose names end in `.toml`, in the order of
    /// their names: together they are one configuration. It names none but `policies`; with `None` it is not looked whether
    /// there are those that it names.
    ///
    /// # Errors
    /// A file cannot be read, or together they are not a configuration.
    pub fn load<'p>(path: impl AsRef<Path>, policies: impl Into<Option<&'p Policies>>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let mut files = vec![path.to_owned()];
        files.extend(toml_files(&path.with_file_name(DROP_INS))?);
        let read = |path: PathBuf| Ok((path.display().to_string(), read(&path)?));
        Self::parse_files(files.into_iter().map(read).collect::<Result<Vec<_>, ConfigError>>()?, policies)
    }

    /// What is declared for a domain of this name, any bytes, and this UUID. Of several that fit, a name precedes a UUID, and
    /// that a glob; of globs the first.
    #[must_use]
    pub fn domain_for(&self, name: &[u8], uuid: &[u8; 16]) -> Option<&Domain> {
        let fitting = self.domains.iter().filter(|domain| domain.selector.matches(name, uuid));
        fitting.min_by_key(|domain| domain.selector.precedence())
    }

    /// By what the devices of the host are found that are declared: devices, and the physical functions of pools.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        let devices = self.devices.iter().map(|device| &device.identity);
        devices.chain(self.pools.iter().map(|pool| &pool.physical_function))
    }

    /// The device that is declared by this address, and the most MSI-X vectors that it shows its domain.
    #[must_use]
    pub fn device_at(&self, address: Sbdf) -> Option<(&Device, u16)> {
        let place = self.devices.iter().position(|device| device.identity.bdf == Some(address))?;
        let shown = self.domains.iter().find_map(|domain| {
            let device = domain.devices.iter().find(|device| device.source == Source::Device(place))?;
            Some(device.vectors.unwrap_or(domain.vectors))
        });
        Some((self.devices.get(place)?, shown.unwrap_or(VECTORS_MAX)))
    }

    /// Checks the text of a file, without looking whether there are the policies that it names; `file_name` is what errors
    /// call it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], with every mistake; of text that is not TOML, only why it is not.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        Self::parse_files([(file_name.to_owned(), text.to_owned())], None)
    }

    /// Checks the text of a file that names none but these policies; `file_name` is what errors call it.
    ///
    /// # Errors
    /// As [`Config::parse`]; also a policy that is not there.
    pub fn parse_with(text: &str, file_name: &str, policies: &Policies) -> Result<Self, ConfigError> {
        Self::parse_files([(file_name.to_owned(), text.to_owned())], policies)
    }

    /// Checks the text of several files, which together are one configuration: each is what errors call it, and its text.
    ///
    /// # Errors
    /// As [`Config::parse_with`], with the mistakes of all files, also what they say about the same thing.
    pub fn parse_files<'p>(
        files: impl IntoIterator<Item = (String, String)>,
        policies: impl Into<Option<&'p Policies>>,
    ) -> Result<Self, ConfigError> {
        let files: Vec<File> = files.into_iter().map(|(name, text)| File { name, text }).collect();
        reading::config(&files, policies.into()).map_err(|problems| ConfigError::Invalid { problems })
    }
}
