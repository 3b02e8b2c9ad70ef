//! What a session writes for the guest and for xl to read.

use xenpcid_address::Sbdf;
use xenstore_protocol::pci_nodes::{DeviceOptions, NewDevice, Root, clear_holder, holder, set_holder};
use xenstore_protocol::xenbus::{self, XenbusState};
use xenstore_protocol::{Error as XenstoreError, Store};

use super::{Placed, Session};

/// The one bus of a guest.
const ROOT: Root = Root { segment: 0, bus: 0 };

impl Session {
    /// Makes devices known to the guest, all at once; `true` if it has a bus already and is asked to look at it again.
    pub(super) async fn publish(&self, devices: &[Placed], options: &[DeviceOptions]) -> Result<bool, XenstoreError> {
        let nodes = &self.nodes;
        self.xenstore
            .transaction(async |transaction| {
                let backend = xenbus::read_state(transaction, &nodes.backend_state()).await?;
                if backend == XenbusState::Unknown {
                    nodes.create(transaction, &self.guest.name, &[]).await?;
                }
                for (device, options) in devices.iter().zip(options) {
                    let host = device.function;
                    // It is there already if the connection was lost just when this was done.
                    let index = match nodes.find_device(transaction, host).await? {
                        Some(found) => found.index,
                        None => nodes.add_device(transaction, &NewDevice { host, options: *options }).await?,
                    };
                    nodes.publish_device(transaction, index, device.address.to_sbdf()).await?;
                    nodes.set_device_state(transaction, index, XenbusState::Initialised).await?;
                    set_holder(transaction, host, self.guest.domain).await?;
                }
                nodes.publish_roots(transaction, &[ROOT]).await?;
                let frontend = nodes.read_frontend_state(transaction).await.unwrap_or(XenbusState::Unknown);
                let (state, connected) = match (backend, frontend) {
                    // It has scanned the bus, or is about to.
                    (XenbusState::Connected, XenbusState::Initialised | XenbusState::Connected) => {
                        (XenbusState::Reconfiguring, true)
                    }
                    (XenbusState::Unknown, _) => (XenbusState::Initialised, false),
                    (other, _) => (other, false),
                };
                xenbus::switch_state_in(transaction, &nodes.backend_state(), state).await?;
                Ok::<_, XenstoreError>(connected)
            })
            .await
    }

    /// Asks the guest to let go of devices.
    pub(super) async fn ask_to_let_go(&self, functions: &[Sbdf]) -> Result<(), XenstoreError> {
        let nodes = &self.nodes;
        self.xenstore
            .transaction(async |transaction| {
                for function in functions {
                    if let Some(found) = nodes.find_device(transaction, *function).await? {
                        nodes.set_device_state(transaction, found.index, XenbusState::Closing).await?;
                    }
                }
                if xenbus::read_state(transaction, &nodes.backend_state()).await? == XenbusState::Connected {
                    xenbus::switch_state_in(transaction, &nodes.backend_state(), XenbusState::Reconfiguring).await?;
                }
                Ok::<_, XenstoreError>(())
            })
            .await
    }

    /// Lets the guest keep devices that it did not let go of.
    pub(super) async fn keep(&self, functions: &[Sbdf]) -> Result<(), XenstoreError> {
        let nodes = &self.nodes;
        self.xenstore
            .transaction(async |transaction| {
                for function in functions {
                    if let Some(found) = nodes.find_device(transaction, *function).await? {
                        nodes.set_device_state(transaction, found.index, XenbusState::Initialised).await?;
                    }
                }
                if xenbus::read_state(transaction, &nodes.backend_state()).await? == XenbusState::Reconfiguring {
                    xenbus::switch_state_in(transaction, &nodes.backend_state(), XenbusState::Connected).await?;
                }
                Ok::<_, XenstoreError>(())
            })
            .await
    }

    /// Removes devices from the guest's bus, and sets the backend's state. Another toolstack removes the nodes itself that it
    /// asked about, and finds them by their numbers, so they stay as they are for it.
    pub(super) async fn unlist(
        &self,
        functions: &[Sbdf],
        by_toolstack: bool,
        state: Option<XenbusState>,
    ) -> Result<(), XenstoreError> {
        let nodes = &self.nodes;
        self.xenstore
            .transaction(async |transaction| {
                for function in functions {
                    if let Some(found) = nodes.find_device(transaction, *function).await? {
                        if by_toolstack {
                            nodes.set_device_state(transaction, found.index, XenbusState::Closed).await?;
                        } else {
                            nodes.remove_device(transaction, found.index).await?;
                        }
                    }
                    self.clear_holder(transaction, *function).await?;
                }
                if let Some(state) = state {
                    xenbus::switch_state_in(transaction, &nodes.backend_state(), state).await?;
                }
                Ok::<_, XenstoreError>(())
            })
            .await
    }

    /// Writes the backend's state, if there still is one.
    pub(super) async fn switch(&self, state: XenbusState) -> Result<(), XenstoreError> {
        xenbus::switch_state(&self.xenstore, &self.nodes.backend_state(), state).await.map(drop)
    }

    /// Tells the guest that nobody answers for its bus.
    pub(super) async fn close_backend(&mut self) {
        if let Err(error) = self.switch(XenbusState::Closing).await {
            self.complain(&error, "its backend state cannot be written");
        }
    }

    /// Removes everything, after the guest is gone.
    pub(super) async fn remove_nodes(&self, functions: &[Sbdf]) -> Result<(), XenstoreError> {
        let listed = self.nodes.read_backend(&self.xenstore).await.map(|backend| backend.devices).unwrap_or_default();
        // What fails keeps nothing else from being removed.
        let mut removed = Ok(());
        for function in functions.iter().copied().chain(listed.into_iter().map(|device| device.host)) {
            removed = removed.and(self.clear_holder(&self.xenstore, function).await);
        }
        removed.and(self.nodes.remove(&self.xenstore).await)
    }

    /// The device is not held by this guest any more; another one may hold it already.
    async fn clear_holder(&self, store: &Store, function: Sbdf) -> Result<(), XenstoreError> {
        match holder(store, function).await? {
            Some(domain) if domain == self.guest.domain => clear_holder(store, function).await,
            _ => Ok(()),
        }
    }
}
