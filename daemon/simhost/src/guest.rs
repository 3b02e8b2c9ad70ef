//! A simulated PV guest: what Linux' pcifront does on xenbus, and on its virtual bus.
//!
//! # State of the frontend
//! ```text
//!              directory with        ring published        backend 4: scan
//!   Unknown ──────────────────► (1) ───────────────► 3 ───────────────────► 4 ◄──────────────┐
//!      ▲         state 1                             │                      │                │ backend 8: scan
//!      │                                             │  backend 7: drop     ▼                │
//!      │                                             └─ what state-N 5 says ─► 7 ────────────┘
//!      │ directory gone                                   │
//!      └─────────────────── 6 ◄───────────────────────────┴── backend 5 or 6, or SimGuest::close, from any state
//! ```
//! Like Linux, it publishes without waiting for the backend, and does not connect again from 6: only when it has seen its
//! directory gone does a new directory make a new frontend. A rescan reads known functions again, which Linux does not.

mod bus;

use std::sync::Arc;

use pcifront_shim::guest::{DiscoveredFunction, DriverError};
use pcifront_shim::{Frontend, FrontendEnd, RequestError, SharedPage};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use xenpcid_address::{DomainId, Sbdf};
use xenstore_protocol::pci_nodes::{PciNodes, RingNodes};
use xenstore_protocol::xenbus::{Switched, read_state, switch_state_in};
use xenstore_protocol::{Client, Error, Watch, XenbusState};

use bus::Bus;
pub use bus::DriverInterrupts;

use crate::toolstack::committed;
use crate::{GuestRing, World};

/// Where a guest's pcifront stands.
#[derive(Clone, Debug)]
pub struct GuestStatus {
    /// The frontend's state; [`XenbusState::Unknown`] without a directory.
    pub state: XenbusState,
    /// The functions that the last scan found.
    pub functions: Vec<DiscoveredFunction>,
    /// What ended the frontend, if something did.
    pub failure: Option<String>,
}

/// Why a guest could not do something.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// xenstore refused, or the domain is gone.
    #[error(transparent)]
    Store(#[from] Error),
    /// The backend did not do it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A driver did not get what it wanted.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The frontend ended.
    #[error("the guest's pcifront ended: {0}")]
    Ended(String),
    /// There is no bus now.
    #[error("the guest has no PCI bus: its frontend has published no page")]
    NoBus,
    /// No scan has found this function.
    #[error("the guest has no function {0}")]
    NoFunction(Sbdf),
}

/// A guest with a pcifront that runs on its own. Dropped, it vanishes as a guest that crashes.
pub struct SimGuest {
    frontend: Pcifront,
    status: watch::Receiver<GuestStatus>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Pcifront {
    world: World,
    nodes: PciNodes,
    client: Client,
    bus: Arc<Bus>,
    status: Arc<watch::Sender<GuestStatus>>,
}

impl SimGuest {
    /// Boots the guest: it waits for its `device/pci/0` and goes through the handshake by itself.
    ///
    /// Must be called on a tokio runtime.
    #[must_use]
    pub fn start(world: &World, domain: DomainId) -> Self {
        let none = GuestStatus { state: XenbusState::Unknown, functions: Vec::new(), failure: None };
        let (sender, status) = watch::channel(none);
        let frontend = Pcifront {
            world: world.clone(),
            nodes: PciNodes::new(domain),
            // It ends with the domain, so it is not one that connects again.
            client: Client::over(world.xenstore().connect(domain)),
            bus: Arc::new(Bus::default()),
            status: Arc::new(sender),
        };
        let task = tokio::spawn(frontend.clone().run());
        Self { frontend, status, task }
    }

    /// Another frontend in a domain whose former one is gone, as after its module was loaded again: it does not care for the
    /// state that it finds its own directory in.
    ///
    /// # Errors
    /// xenstore refused.
    pub async fn start_again(world: &World, domain: DomainId) -> Result<Self, GuestError> {
        let client = Client::over(world.xenstore().connect(domain));
        let nodes = PciNodes::new(domain);
        client.write(&nodes.frontend_state(), XenbusState::Initialising.number().to_string()).await?;
        Ok(Self::start(world, domain))
    }

    /// The guest's domain.
    #[must_use]
    pub fn domain(&self) -> DomainId {
        self.frontend.nodes.guest()
    }

    /// The guest's own connection to xenstore, with its rights.
    #[must_use]
    pub fn xenstore(&self) -> &Client {
        &self.frontend.client
    }

    /// The page and the port that the frontend uses now.
    #[must_use]
    pub fn ring(&self) -> Option<GuestRing> {
        self.frontend.bus.ring()
    }

    /// Where the frontend stands.
    #[must_use]
    pub fn status(&self) -> GuestStatus {
        self.status.borrow().clone()
    }

    /// Waits until the frontend's status is as wanted.
    ///
    /// # Errors
    /// [`GuestError::Ended`] if the frontend ends first.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&GuestStatus) -> bool) -> Result<GuestStatus, GuestError> {
        let mut status = self.status.clone();
        let found = status.wait_for(|status| status.failure.is_some() || wanted(status)).await;
        let found = found.map_err(|_| GuestError::Ended("the guest is gone".to_owned()))?.clone();
        match found.failure {
            Some(failure) => Err(GuestError::Ended(failure)),
            None => Ok(found),
        }
    }

    /// Waits until the frontend is connected, and gives what it found on its bus.
    ///
    /// # Errors
    /// [`GuestError::Ended`] if the frontend ends first.
    pub async fn connected(&self) -> Result<Vec<DiscoveredFunction>, GuestError> {
        Ok(self.wait_for(|status| status.state == XenbusState::Connected).await?.functions)
    }

    /// Waits until the frontend is closed, or its directory gone.
    ///
    /// # Errors
    /// [`GuestError::Ended`] if the frontend ends first.
    pub async fn closed(&self) -> Result<(), GuestError> {
        self.wait_for(|status| matches!(status.state, XenbusState::Closed | XenbusState::Unknown)).await.map(drop)
    }

    /// Uses the frontend for requests of the test's own. Waits on a thread of its own.
    ///
    /// # Errors
    /// [`GuestError::NoBus`].
    pub async fn with_frontend<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Frontend<GuestRing>) -> T + Send + 'static,
    ) -> Result<T, GuestError> {
        self.frontend.runs().await;
        self.frontend.bus.clone().with_frontend(act).await
    }

    /// Starts a driver on a function that was found, as Linux does: D0 and decoding, DMA, and then up to `vectors` MSI-X
    /// vectors; without that capability one of MSI; without that INTx.
    ///
    /// # Errors
    /// The backend refused, or does not answer.
    pub async fn start_driver(&self, function: Sbdf, vectors: u16) -> Result<DriverInterrupts, GuestError> {
        self.frontend.runs().await;
        self.frontend.bus.clone().start_driver(function, vectors).await
    }

    /// Stops it: DMA off, interrupts given back.
    ///
    /// # Errors
    /// The backend refused, or does not answer.
    pub async fn stop_driver(&self, function: Sbdf) -> Result<(), GuestError> {
        self.frontend.runs().await;
        self.frontend.bus.clone().stop_driver(function).await
    }

    /// The guest closes its frontend, as when its module is unloaded.
    ///
    /// # Errors
    /// xenstore refused.
    pub async fn close(&self) -> Result<(), GuestError> {
        self.frontend.runs().await;
        self.frontend.close().await
    }
}

impl Drop for SimGuest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pcifront {
    async fn run(self) {
        if let Err(error) = self.serve().await {
            self.status.send_modify(|status| {
                status.state = XenbusState::Unknown;
                status.failure = Some(error.to_string());
            });
        }
    }

    /// Waits while the domain is paused. One that is gone does not wait: its next request fails.
    async fn runs(&self) {
        let pauses = self.world.lock().domains.get(&self.nodes.guest()).map(|domain| domain.pauses());
        if let Some(mut pauses) = pauses {
            // An error is the domain's end.
            let _ = pauses.wait_for(|pauses| *pauses == 0).await.map(drop);
        }
    }

    /// One frontend after the other, each as long as its directory.
    async fn serve(&self) -> Result<(), GuestError> {
        self.runs().await;
        let mut directory = self.client.watch(self.nodes.frontend()).await?;
        loop {
            while self.nodes.read_frontend_state(&self.client).await? != XenbusState::Initialising {
                directory.changed().await?;
                self.runs().await;
            }
            let mut backend = self.client.watch(&self.nodes.backend_state()).await?;
            self.publish().await?;
            self.follow(&mut directory, &mut backend).await?;
            self.bus.remove(&self.world, self.nodes.guest());
            self.set_status(XenbusState::Unknown, Vec::new());
        }
    }

    async fn publish(&self) -> Result<(), GuestError> {
        let page = Arc::new(SharedPage::zeroed());
        FrontendEnd::new(&page).announce_aer_handler();
        let ring = self.world.open_ring(self.nodes.guest(), page).ok_or(GuestError::NoBus)?;
        let keys = RingNodes { grant_reference: ring.reference, event_channel: ring.port };
        self.bus.set_ring(ring);
        loop {
            let transaction = self.client.begin().await?;
            self.nodes.publish_ring(&transaction, &keys).await?;
            if committed(transaction).await? {
                break;
            }
        }
        self.switch(XenbusState::Initialised).await
    }

    /// Follows the backend until the directory is gone.
    async fn follow(&self, directory: &mut Watch, backend: &mut Watch) -> Result<(), GuestError> {
        loop {
            if self.nodes.read_frontend_state(&self.client).await? == XenbusState::Unknown {
                return Ok(());
            }
            let theirs = read_state(&self.client, &self.nodes.backend_state()).await?;
            let mine = self.status.borrow().state;
            match (mine, theirs) {
                (_, XenbusState::Closing | XenbusState::Closed) => self.close().await?,
                (XenbusState::Initialised, XenbusState::Connected)
                | (XenbusState::Reconfiguring, XenbusState::Reconfigured) => {
                    self.scan().await?;
                    self.switch(XenbusState::Connected).await?;
                }
                // Also from Initialised: the backend's Connected was missed.
                (XenbusState::Initialised | XenbusState::Connected, XenbusState::Reconfiguring) => {
                    self.let_go().await?;
                    self.switch(XenbusState::Reconfiguring).await?;
                }
                _ => {}
            }
            tokio::select! {
                changes = directory.changed() => changes?,
                changes = backend.changed() => changes?,
            };
            self.runs().await;
        }
    }

    /// Looks at every function of every published bus; of bus 0000:00 if none is published.
    async fn scan(&self) -> Result<(), GuestError> {
        let roots = self.nodes.read_roots(&self.client).await?;
        let mut buses: Vec<(u16, u8)> = roots.iter().map(|root| (root.segment, root.bus)).collect();
        if buses.is_empty() {
            buses.push((0, 0));
        }
        let functions = self.bus.clone().scan(buses).await?;
        let state = self.status.borrow().state;
        self.set_status(state, functions);
        Ok(())
    }

    /// Stops the drivers of the devices that are to go, and forgets them.
    async fn let_go(&self) -> Result<(), GuestError> {
        let backend = self.nodes.read_backend(&self.client).await?;
        for device in backend.devices.iter().filter(|device| device.state == XenbusState::Closing) {
            let Some(address) = device.guest else { continue };
            self.bus.clone().forget(address).await?;
            self.status.send_modify(|status| status.functions.retain(|function| function.address != address));
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), GuestError> {
        // The backend may be gone already, and a driver that cannot give back its interrupts is gone all the same.
        let _ = self.bus.clone().stop_all().await;
        self.bus.remove(&self.world, self.nodes.guest());
        self.status.send_modify(|status| status.functions.clear());
        self.switch(XenbusState::Closed).await
    }

    /// Writes the state, unless the directory is gone.
    async fn switch(&self, state: XenbusState) -> Result<(), GuestError> {
        loop {
            let transaction = self.client.begin().await?;
            match switch_state_in(&transaction, &self.nodes.frontend_state(), state).await? {
                Switched::Gone => return Ok(()),
                Switched::Written | Switched::Unchanged => {}
            }
            if committed(transaction).await? {
                self.status.send_modify(|status| status.state = state);
                return Ok(());
            }
        }
    }

    fn set_status(&self, state: XenbusState, functions: Vec<DiscoveredFunction>) {
        self.status.send_modify(|status| {
            status.state = state;
            status.functions = functions;
        });
    }
}
