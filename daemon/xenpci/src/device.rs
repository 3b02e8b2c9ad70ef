//! Where a device's registers come from: a recording, the running daemon, or this host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xenpcid_address::Sbdf;
use xenpcid_config::{Config, ConfigError, Policies, VECTORS_MAX};
use xenpcid_control::{Client, ClientError, DescribeDevice, Refusal};
use xenpcid_host::{HostError, PciHost, Sysfs};
use xenpcid_policy::policy::DeviceIdentity;
use xenpcid_policy::{CompileError, Plan, Policy, Recording, RecordingError, Snapshot, Terms};

use crate::arguments::Places;
use crate::failure::Failure;
use crate::policies;

/// A device, and what is known of how a guest would get it.
#[derive(Debug)]
pub struct Subject {
    /// Its address; none if a recording has none.
    pub address: Option<Sbdf>,
    /// What the operator calls it.
    pub name: Option<String>,
    /// The policy that its entry in the configuration names.
    pub policy: Option<String>,
    /// Most MSI-X vectors that a guest is shown.
    pub vectors: u16,
    pub snapshot: Snapshot,
    pub source: Source,
}

/// Where it comes from.
#[derive(Debug)]
pub enum Source {
    /// A file; whether it has the sizes of BARs.
    Recording { file: PathBuf, has_sizes: bool },
    /// The daemon, which has claimed it.
    Daemon,
    /// Linux, as it is now.
    Host,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recording { file, has_sizes: true } => write!(f, "values are those of {}", file.display()),
            Self::Recording { file, has_sizes: false } => {
                write!(f, "values are those of {}, which has no sizes of BARs: they are guessed", file.display())
            }
            Self::Daemon => f.write_str("values are those of its claim by the running xenpcid"),
            Self::Host => f.write_str("values are those of this moment; the running xenpcid has not claimed it"),
        }
    }
}

impl Subject {
    /// From a recording of one device, or of several of which `device` names one.
    pub fn recorded(file: &Path, device: Option<Sbdf>) -> Result<Self, Failure> {
        let read = |source| Failure::Read { path: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(read)?;
        let wrong = |source| Failure::Recording { path: file.to_owned(), source };
        let (recording, has_sizes) = match devices(&text) {
            // Not even one: rows of bytes and nothing else.
            found if found.is_empty() => (Recording::rows(&text).map_err(wrong)?, true),
            found => {
                let text = chosen(&found, file, device)?;
                match Recording::lspci(text) {
                    Err(RecordingError::NoSize { .. }) => (Recording::lspci_without_sizes(text).map_err(wrong)?, false),
                    other => (other.map_err(wrong)?, true),
                }
            }
        };
        Ok(Self {
            address: recording.function.or(device),
            name: None,
            policy: None,
            vectors: VECTORS_MAX,
            snapshot: recording.snapshot(),
            source: Source::Recording { file: file.to_owned(), has_sizes },
        })
    }

    /// From the running daemon if it has claimed the device, else from this host.
    pub fn present(places: &Places, device: Sbdf) -> Result<Self, Failure> {
        match Client::connect(&places.socket).and_then(|mut client| client.call(&DescribeDevice { device })) {
            Ok(reply) => {
                let description = reply.description;
                Ok(Self {
                    address: Some(device),
                    snapshot: description.snapshot()?,
                    name: description.name,
                    policy: Some(description.policy),
                    vectors: description.vectors,
                    source: Source::Daemon,
                })
            }
            Err(ClientError::Refused(Refusal::DeviceNotFound { .. } | Refusal::DeviceNotClaimed { .. })) => {
                Self::of_host(places, device)
            }
            Err(error) if error.is_unreachable() => Self::of_host(places, device),
            Err(error) => Err(error.into()),
        }
    }

    fn of_host(places: &Places, device: Sbdf) -> Result<Self, Failure> {
        let snapshot = snapshot(&Sysfs::new(&places.sysfs), device)?;
        let config = match Config::load(&places.config, None) {
            // The device is none that is declared, then.
            Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Config::default(),
            other => other?,
        };
        let (name, policy, vectors) = match config.device_at(device) {
            Some((entry, vectors)) => (entry.name.clone(), entry.policy.clone(), vectors),
            None => (None, None, VECTORS_MAX),
        };
        Ok(Self { address: Some(device), name, policy, vectors, snapshot, source: Source::Host })
    }

    /// The policy that a guest would get it under: `explicit`, by name or file, or its own.
    pub fn policy(&self, places: &Places, explicit: Option<&str>) -> Result<Arc<Policy>, Failure> {
        let (policies, name) = match explicit {
            Some(file) if is_file(file) => {
                let (policies, name) = policies::with_file(&places.policies, Path::new(file))?;
                (policies, Some(name))
            }
            _ => (Policies::load(&places.policies)?, explicit.or(self.policy.as_deref()).map(str::to_owned)),
        };
        Ok(policies.for_device(name.as_deref(), &self.identity())?)
    }

    /// The policy applied to it.
    pub fn plan(&self, policy: &Policy) -> Result<Plan, Failure> {
        Plan::new(&self.snapshot, &self.terms(policy)).map_err(|source| self.misfit(policy, source))
    }

    /// On what terms a guest would get it under this policy.
    pub fn terms<'a>(&'a self, policy: &'a Policy) -> Terms<'a> {
        Terms { policy, name: self.name.as_deref(), vectors: self.vectors }
    }

    /// That the policy cannot be applied to it.
    pub fn misfit(&self, policy: &Policy, source: CompileError) -> Failure {
        Failure::Compile { device: self.title(), policy: policy.name.to_string(), source: Box::new(source) }
    }

    /// What it is called in messages.
    pub fn title(&self) -> String {
        self.address.map_or_else(|| "the recorded device".to_owned(), |address| address.to_string())
    }

    /// By what policies know it.
    pub fn identity(&self) -> DeviceIdentity {
        DeviceIdentity::new(&self.snapshot, self.name.as_deref())
    }
}

/// Whether a policy is given by its file.
fn is_file(policy: &str) -> bool {
    policy.contains('/') || policy.ends_with(".toml")
}

/// The parts of what `lspci` printed that are about one device each, with their addresses.
fn devices(text: &str) -> Vec<(Sbdf, &str)> {
    let is_device = |block: &&str| block.split_whitespace().next().is_some_and(|word| word.parse::<Sbdf>().is_ok());
    let with_address = |block: &'_ str| block.split_whitespace().next().and_then(|word| word.parse().ok());
    text.split("\n\n").filter(is_device).filter_map(|block| Some((with_address(block)?, block))).collect()
}

fn chosen<'t>(found: &[(Sbdf, &'t str)], file: &Path, device: Option<Sbdf>) -> Result<&'t str, Failure> {
    let present = || found.iter().map(|(address, _)| address.to_string()).collect();
    match (found, device) {
        (_, Some(device)) => found
            .iter()
            .find(|(address, _)| *address == device)
            .map(|(_, text)| *text)
            .ok_or_else(|| Failure::NotRecorded { path: file.to_owned(), device, present: present() }),
        ([(_, text)], None) => Ok(text),
        (_, None) => Err(Failure::SeveralRecorded { path: file.to_owned(), present: present() }),
    }
}

/// A device of this host as it is now.
fn snapshot(host: &Sysfs, device: Sbdf) -> Result<Snapshot, HostError> {
    host.describe(device)?.snapshot(host.open_config(device)?.as_ref())
}
