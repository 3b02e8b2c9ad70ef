use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;
use xenpcid_policy::Snapshot;

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
