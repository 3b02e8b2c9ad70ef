//! Policies: what guests may do with the registers of their devices.
//!
//! A policy is a TOML file; `name` in it is the name of the file without `.toml`:
//!
//! ```toml
//! name = "uplink"
//! description = "The network cards towards the provider."
//! extends = "network"                      # what is not said here is said there; without it, nothing is
//!
//! [match]                                  # the devices that the policy is for; a value or a list of values each
//! vendor = 0x8086
//! class = "0200"                           # 2, 4 or 6 digits: base class, sub-class, programming interface
//! name = "uplink*"                         # the `name` of the device in xenpcid.toml
//!
//! [otherwise]                              # bits that no rule names: read "pass" and write "discard" unless said here
//! write = "pass"
//! why = "The driver writes registers of its own."
//!
//! [[rule]]
//! register = "pcie.devctl"                 # or capability = "vendor", offset = 4, width = 2; or offset = 0xe8, width = 2
//! mask = 0x7810                            # all bits of the register unless said
//! read = "pass"                            # pass, emulate, deny
//! write = "pass"                           # pass, emulate, discard (if nothing is said), deny
//! why = "Drivers tune the size of their requests."
//!
//! [[rule]]
//! offset = 0xe8
//! width = 4
//! write = "pass"
//! undo = false                             # otherwise the next guest finds what the device had at the claim
//! why = "The register behind an index: it is not known which one a write would reach."
//!
//! [[rule]]
//! register = "latency_timer"
//! write = "emulate"                        # the guest reads what it wrote, the device keeps what it has
//! reset_value = 0x40                       # at first; without it, what the device had at the claim
//! match = { revision = [1, 2] }            # only on these devices
//! why = "The guest's tuning of a bus that is not its own."
//!
//! [[hide]]                                 # a capability that guests do not find; [[show]] takes it back
//! capability = "vpd"                       # its name, or its number: "0x03", "0x0023" with four digits if extended
//! why = "The serial number is the host's."
//! ```
//! Nothing depends on the order in a file: two rules for one bit are a mistake. A rule of the extending policy overrides
//! those that it extends, bit by bit. What no guest may ever write is [guarded](xenpcid_policy::Kind::Guarded) by the
//! tables of registers, and a rule that lets it pass is a mistake.

mod conflicts;
mod device_match;
mod extension;
mod file;
mod page;
mod rule;
mod shipped;
mod suggest;
mod wrap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xenpcid_policy::Policy;
use xenpcid_policy::policy::DeviceIdentity;

use crate::ConfigError;
use crate::folder::{read, toml_files};
use extension::Source;
pub use page::guarded_page;
pub use suggest::{Missed, Operation, suggest};
use wrap::wrap;

/// The policy of devices that nobody chose one for.
pub const DEFAULT: &str = "default";

/// All policies that devices can have: those that come with xenpcid, and the operator's.
#[derive(Clone, Debug)]
pub struct Policies {
    entries: BTreeMap<Arc<str>, Entry>,
}

/// A policy, with all that it extends, and where it is from.
#[derive(Clone, Debug)]
struct Entry {
    policy: Arc<Policy>,
    extends: Option<Arc<str>>,
    /// `None` if it comes with xenpcid.
    path: Option<PathBuf>,
}

/// Why no policy can be chosen for a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Its entry names one that is not there.
    #[error("there is no policy {name}; there are {}", .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// Several of the operator's policies are for it.
    #[error(
        "the policies {} are all for {vendor:04x}:{device:04x}: write policy = \"{}\" or another in its entry of \
         xenpcid.toml, or let all but one [match] name other devices", .names.join(", "), .names.first().map_or("", String::as_str)
    )]
    Ambiguous {
        /// The policies, at least two.
        names: Vec<String>,
        /// The device's vendor ID.
        vendor: u16,
        /// Its device ID.
        device: u16,
    },
}

impl Policies {
    /// Those that come with xenpcid.
    ///
    /// # Errors
    /// None: a test reads them.
    pub fn shipped() -> Result<Self, ConfigError> {
        extension::resolve(shipped_sources())
    }

    /// Those that come with xenpcid and those of `folder`, every file there whose name ends in `.toml` and does not start
    /// with a dot. Without that folder, there are only the former.
    ///
    /// # Errors
    /// The folder or one of its files cannot be read, or is not a policy; all mistakes of all files.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let read = |path: PathBuf| read(&path).map(|text| (path, text));
        Self::with(toml_files(folder.as_ref())?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?)
    }

    /// Those that come with xenpcid, and the operator's from the text of files, whose names are looked at and which need
    /// not be there.
    ///
    /// # Errors
    /// All mistakes of all files.
    pub fn with(files: impl IntoIterator<Item = (PathBuf, String)>) -> Result<Self, ConfigError> {
        let mut sources = shipped_sources();
        sources.extend(files.into_iter().map(|(path, text)| Source {
            stem: stem(&path),
            label: path.display().to_string(),
            text,
            path: Some(path),
        }));
        extension::resolve(sources)
    }

    /// The policy of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Policy>> {
        self.entries.get(name).map(|entry| &entry.policy)
    }

    /// Their names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }

    /// The name of the policy that this one extends.
    #[must_use]
    pub fn extended_by(&self, name: &str) -> Option<&str> {
        self.entries.get(name)?.extends.as_deref()
    }

    /// The file of an operator's policy; `None` for those that come with xenpcid.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.entries.get(name)?.path.as_deref()
    }

    /// The policy of a device: the one that its entry in xenpcid.toml names; else the operator's whose `[match]` is not
    /// empty and fits; else [`DEFAULT`].
    ///
    /// Whether a policy that was named is for the device is not looked at; [`Plan::new`](xenpcid_policy::Plan::new) does.
    ///
    /// # Errors
    /// No policy has that name; more than one of the operator's fits.
    pub fn for_device(&self, explicit: Option<&str>, device: &DeviceIdentity) -> Result<Arc<Policy>, ChoiceError> {
        let unknown = |name: &str| ChoiceError::Unknown {
            name: name.to_owned(),
            known: self.names().map(str::to_owned).collect(),
        };
        if let Some(name) = explicit {
            return self.get(name).cloned().ok_or_else(|| unknown(name));
        }
        let is_for_it = |policy: &Policy| !policy.applies_to.is_any() && policy.applies_to.matches(device);
        let mine = self.entries.values().filter(|entry| entry.path.is_some()).map(|entry| &entry.policy);
        let fitting: Vec<_> = mine.filter(|policy| is_for_it(policy)).collect();
        match fitting.as_slice() {
            [] => self.get(DEFAULT).cloned().ok_or_else(|| unknown(DEFAULT)),
            [policy] => Ok(Arc::clone(policy)),
            several => Err(ChoiceError::Ambiguous {
                names: several.iter().map(|policy| policy.name.as_ref().to_owned()).collect(),
                vendor: device.vendor,
                device: device.device,
            }),
        }
    }
}

fn shipped_sources() -> Vec<Source> {
    let source = |(stem, text): &(&str, &str)| Source {
        stem: (*stem).to_owned(),
        label: format!("{stem}.toml"),
        text: (*text).to_owned(),
        path: None,
    };
    shipped::FILES.iter().map(source).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
