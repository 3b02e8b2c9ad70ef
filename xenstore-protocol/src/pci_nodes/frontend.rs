//! What the guest publishes.

use super::PciNodes;
use crate::number::decimal;
use crate::xenbus::{XenbusState, read_state};
use crate::{Error, Path, Store};

/// `XEN_PCI_MAGIC`: version of the protocol.
pub const MAGIC: &str = "7";

/// What the backend needs to reach the guest's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNodes {
    /// Grant reference of the shared page.
    pub grant_reference: u32,
    /// Port of the event channel in the guest.
    pub event_channel: u32,
}

/// The frontend directory. `ring` is there once the guest has published all three of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendView {
    /// `state`; [`XenbusState::Unknown`] if the directory is gone.
    pub state: XenbusState,
    /// `pci-op-ref` and `event-channel`.
    pub ring: Option<RingNodes>,
}

impl PciNodes {
    fn in_frontend(&self, key: &str) -> Path {
        Path::trusted(format!("{}/{key}", self.frontend()))
    }

    /// The guest's state alone.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is no number.
    pub async fn read_frontend_state(&self, store: &Store) -> Result<XenbusState, Error> {
        read_state(store, &self.frontend_state()).await
    }

    /// Reads the frontend directory. For a consistent view, `store` should be a transaction.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a key holds something else than its number, or `magic` is not [`MAGIC`].
    pub async fn read_frontend(&self, store: &Store) -> Result<FrontendView, Error> {
        let state = self.read_frontend_state(store).await?;
        let grant_reference = self.frontend_number(store, "pci-op-ref", "a grant reference").await?;
        let event_channel = self.frontend_number(store, "event-channel", "an event channel").await?;
        let path = self.in_frontend("magic");
        let magic = store.read_if_present(&path).await?;
        if let Some(magic) = magic.as_ref().filter(|magic| magic.as_slice() != MAGIC.as_bytes()) {
            return Err(Error::malformed(&path, magic, "\"7\", the only version of the protocol"));
        }
        let ring = match (grant_reference, event_channel, magic) {
            (Some(grant_reference), Some(event_channel), Some(_)) => Some(RingNodes { grant_reference, event_channel }),
            _ => None,
        };
        Ok(FrontendView { state, ring })
    }

    async fn frontend_number(&self, store: &Store, key: &str, what: &'static str) -> Result<Option<u32>, Error> {
        let path = self.in_frontend(key);
        let Some(value) = store.read_if_present(&path).await? else {
            return Ok(None);
        };
        decimal(&value).map(Some).ok_or_else(|| Error::malformed(&path, &value, what))
    }

    /// Publishes a page, as a frontend does: the three keys and nothing else. For the guest's side, in a transaction.
    ///
    /// # Errors
    /// A node cannot be written.
    pub async fn publish_ring(&self, store: &Store, ring: &RingNodes) -> Result<(), Error> {
        store.write(&self.in_frontend("pci-op-ref"), ring.grant_reference.to_string()).await?;
        store.write(&self.in_frontend("event-channel"), ring.event_channel.to_string()).await?;
        store.write(&self.in_frontend("magic"), MAGIC).await
    }
}
