use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;
use xenpcid_policy::Snapshot;

/// A domain of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guest {
    /// Xen's number of it.
    pub id: u16,
    /// Its name when the devices were given to it.
    pub name: String,
}

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// In dom0; the claim has not been tried yet, or failed, and the log says why.
    Unclaimed,
    /// Claimed, reset, and ready for a guest; its DMA reaches nothing.
    Quarantined,
    /// A guest has it.
    Assigned,
    /// In quarantine, and not to be given to a guest until the daemon starts again; the log says why.
    Broken,
}

/// A device that is declared in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its address on the host.
    pub address: Sbdf,
    /// What the operator calls it.
    pub name: Option<String>,
    /// The name of the policy that says what a guest may do with its registers; `None` if that is not known before the
    /// device is claimed.
    pub policy: Option<String>,
    /// Where it is.
    pub state: DeviceState,
    /// The guest that has it, if one has.
    pub guest: Option<Guest>,
}

/// What a guest tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// To read a register.
    Read,
    /// To write one.
    Write,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guest was told that it succeeded, and nothing was done.
    Discarded,
    /// The guest was told that access is denied.
    Denied,
}

/// Accesses that did not do what the guest wanted, counted for one register, one operation and one outcome since the
/// device was given to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// The device's address on the host.
    pub device: Sbdf,
    /// The guest that tried.
    pub guest: Guest,
    /// Where the register is in the configuration space, in bytes.
    pub offset: u16,
    /// How many bytes it has: 1, 2 or 4.
    pub width: u16,
    /// The register's name, if one is known.
    pub register: Option<String>,
    /// The name of its capability; `None` for the header and where none is known.
    pub capability: Option<String>,
    /// Whether the policy hides that capability.
    pub hidden: bool,
    /// What was tried.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// All bits of the register that the guest did not get, in the register's position.
    pub bits: u32,
    /// How many accesses.
    pub count: u64,
    /// What the last one was to write, in the register's position; 0 for reads.
    pub last_value: u32,
    /// When the last one was: milliseconds since 1970-01-01 00:00 UTC.
    pub last_time: u64,
}

/// An address range behind a BAR or the expansion ROM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// First address.
    pub start: u64,
    /// Last address, inclusive.
    pub end: u64,
    /// Linux' `IORESOURCE_*`.
    pub flags: u64,
}

/// All that a guest's view of a device is made from, as it was when the device was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDescription {
    /// Its address on the host.
    pub address: Sbdf,
    /// What the operator calls it.
    pub name: Option<String>,
    /// The name of its policy.
    pub policy: String,
    /// Most MSI-X vectors that the guest is shown.
    pub vectors: u16,
    /// As [`Snapshot::vendor`].
    pub vendor: u16,
    /// As [`Snapshot::device`].
    pub device: u16,
    /// As [`Snapshot::interrupt_line`].
    pub interrupt_line: u8,
    /// As [`Snapshot::is_virtual_function`].
    pub is_virtual_function: bool,
    /// BAR 0 to 5, then the expansion ROM.
    pub resources: Vec<Resource>,
    /// The configuration space.
    #[serde(with = "base64_bytes")]
    pub config: Vec<u8>,
}

/// What the daemon is and since when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of Xen, such as 4.17; `None` on a simulated host.
    pub xen: Option<String>,
    /// When it started: milliseconds since 1970-01-01 00:00 UTC.
    pub started: u64,
    /// The configuration file it was started with.
    pub configuration: Option<String>,
}

/// A [`DeviceDescription`] that no snapshot can be made from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the daemon describes {address} with {count} address ranges instead of 7; do xenpci and xenpcid have the same version?"
)]
pub struct WrongDescription {
    address: Sbdf,
    count: usize,
}

impl DeviceDescription {
    /// What a daemon tells of a device that it claimed.
    #[must_use]
    pub fn new(address: Sbdf, name: Option<String>, policy: String, vectors: u16, snapshot: &Snapshot) -> Self {
        let resource = |&xenpcid_policy::Resource { start, end, flags }| Resource { start, end, flags };
        Self {
            address,
            name,
            policy,
            vectors,
            vendor: snapshot.vendor,
            device: snapshot.device,
            interrupt_line: snapshot.interrupt_line,
            is_virtual_function: snapshot.is_virtual_function,
            resources: snapshot.resources.iter().map(resource).collect(),
            config: snapshot.config.clone(),
        }
    }

    /// What it was made from.
    ///
    /// # Errors
    /// [`WrongDescription`] unless there are seven resources.
    pub fn snapshot(&self) -> Result<Snapshot, WrongDescription> {
        let resource = |&Resource { start, end, flags }| xenpcid_policy::Resource { start, end, flags };
        let resources: Vec<_> = self.resources.iter().map(resource).collect();
        let count = resources.len();
        Ok(Snapshot {
            config: self.config.clone(),
            resources: resources.try_into().map_err(|_| WrongDescription { address: self.address, count })?,
            vendor: self.vendor,
            device: self.device,
            interrupt_line: self.interrupt_line,
            is_virtual_function: self.is_virtual_function,
        })
    }
}

/// Bytes as varlink services write them: a string in base64 (RFC 4648 section 4).
mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
