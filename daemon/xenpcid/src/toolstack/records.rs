//! What xl and libvirt read about devices below `/libxl/pci`, so that they agree with us about who owns what: the driver that a
//! device was taken from and its name here; the domain that has it, where its session writes.

use xenpcid_address::Sbdf;
use xenstore_protocol::Error as XenstoreError;
use xenstore_protocol::pci_nodes::{forget_assignable, record_assignable};

use super::Toolstack;
use crate::claim::Claimed;

impl Toolstack {
    /// Records that a device is assignable.
    pub(super) async fn record_claim(&self, function: Sbdf, claimed: &Claimed) -> Result<(), XenstoreError> {
        let driver = claimed.driver_path().map(|path| path.to_string_lossy().into_owned());
        let name = claimed.facts().name.clone();
        record_assignable(&self.xenstore, function, driver.as_deref(), name.as_deref()).await
    }

    /// Records that a device is dom0's again; the driver it had is forgotten when it has it again.
    pub(super) async fn forget_claim(&self, function: Sbdf, rebound: bool) -> Result<(), XenstoreError> {
        forget_assignable(&self.xenstore, function, rebound).await
    }
}
