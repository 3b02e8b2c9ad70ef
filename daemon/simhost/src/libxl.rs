//! What libxl does of its own accord to a PCI backend directory when `xl destroy` runs: it treats our nodes as its own.
//!
//! Its order is hostile. Permissions, INTx, reset and DMA are taken away while the guest's driver still runs, and only then
//! is the guest asked to let go, through the backend.

use std::time::Duration;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::Pirq;
use xenstore_protocol::pci_nodes::PciNodes;
use xenstore_protocol::xenbus::read_state;
use xenstore_protocol::{Client, Error, XenbusState};

use crate::World;
use crate::toolstack::committed;
use crate::world::State;

/// How long libxl waits for a backend to be connected.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// `xl destroy`: libxl removes each PCI device in its own way, then the domain. Gives the devices for which the backend did
    /// not answer for so long that libxl went on without.
    ///
    /// # Errors
    /// xenstore refuses, or holds what libxl could not read.
    pub async fn xl_destroy(&self, domain: DomainId) -> Result<Vec<Sbdf>, Error> {
        let store = self.xenstore().client(DomainId::DOM0).await?;
        let nodes = PciNodes::new(domain);
        let mut unanswered = Vec::new();
        for device in nodes.read_backend(&store).await?.devices {
            self.lock().take_away(domain, device.host);
            if !remove(&store, &nodes, device.host).await? {
                unanswered.push(device.host);
            }
        }
        self.destroy_domain(domain).await?;
        Ok(unanswered)
    }
}

impl State {
    fn take_away(&mut self, domain: DomainId, address: Sbdf) {
        let Some(function) = self.functions.get_mut(&address) else { return };
        if let Some(guest) = self.domains.get_mut(&domain) {
            for resource in function.resources.iter().filter(|resource| resource.is_present()) {
                guest.forbid(resource);
            }
            if let Some(pirq) = function.gsi.map(Pirq) {
                guest.pirqs.remove(&pirq);
                guest.interrupts.remove(&pirq);
            }
        }
        if function.responding && !function.reset_methods.is_empty() {
            function.reset_and_restore();
        }
        if function.owner == domain {
            function.owner = DomainId::IO;
        }
    }
}

/// The handshake by which the guest lets go of one device. A backend or guest that does not answer in time leaves its nodes
/// behind, and libxl goes on: `false`.
async fn remove(store: &Client, nodes: &PciNodes, device: Sbdf) -> Result<bool, Error> {
    if !connected(store, nodes).await? {
        return Ok(false);
    }
    loop {
        let transaction = store.begin().await?;
        let Some(found) = nodes.find_device(&transaction, device).await? else { return Ok(true) };
        nodes.set_device_state(&transaction, found.index, XenbusState::Closing).await?;
        transaction.write(&nodes.backend_state(), XenbusState::Reconfiguring.number().to_string()).await?;
        if committed(transaction).await? {
            break;
        }
    }
    if !connected(store, nodes).await? {
        return Ok(false);
    }
    loop {
        let transaction = store.begin().await?;
        let Some(found) = nodes.find_device(&transaction, device).await? else { return Ok(true) };
        if nodes.read_backend(&transaction).await?.devices.len() == 1 {
            nodes.remove(&transaction).await?;
        } else {
            nodes.remove_device(&transaction, found.index).await?;
        }
        if committed(transaction).await? {
            return Ok(true);
        }
    }
}

/// Waits until the backend is connected, or its directory gone; `false` if that takes too long.
async fn connected(store: &Client, nodes: &PciNodes) -> Result<bool, Error> {
    let path = nodes.backend_state();
    let mut watch = store.watch(&path).await?;
    let wait = async {
        while !matches!(read_state(store, &path).await?, XenbusState::Connected | XenbusState::Unknown) {
            watch.changed().await?;
        }
        Ok(true)
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or(Ok(false))
}
