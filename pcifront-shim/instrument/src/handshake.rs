//! The frontend's part of the handshake over xenstore (xen/include/public/io/xenbus.h, io/pciif.h).
//!
//! ```text
//!   frontend                            backend
//!   ────────                            ───────
//!   (what a frontend before us left:
//!    5 Closing, 6 Closed)               5 Closing, 6 Closed
//!   1 Initialising                      2 InitWait or 3 Initialised: xenpcid comes back to it, xen-pciback does not
//!   pci-op-ref, event-channel, magic
//!   3 Initialised                       maps the page, binds the port
//!                                       4 Connected; root_num, root-N
//!   4 Connected
//!        ·  requests  ·
//!   5 Closing                           5 Closing: the page is not used any more
//!   6 Closed                            6 Closed, or 3 Initialised: ready for the next one
//!   removes the three keys
//!   1 Initialising                      3 Initialised, if it can
//! ```
//! At the end the frontend is as the toolstack made it, so that the next one, the kernel's pcifront included, finds a bus
//! that is new.

use std::time::Duration;

use xenpcid_address::DomainId;
use xenstore_protocol::pci_nodes::{PciNodes, RingNodes, Root};
use xenstore_protocol::xenbus::{self, Switched, XenbusState};
use xenstore_protocol::{Client, Path};

use crate::{Error, Stop};

/// The bus that a guest has if the backend publishes none, as in Linux' pcifront.
const DEFAULT_ROOT: Root = Root { segment: 0, bus: 0 };

/// What a frontend publishes, seen from its domain's home directory.
const RING_KEYS: [Path; 3] = [
    Path::from_static("device/pci/0/pci-op-ref"),
    Path::from_static("device/pci/0/event-channel"),
    Path::from_static("device/pci/0/magic"),
];

/// One frontend's use of the xenstore nodes.
pub struct Handshake {
    client: Client,
    nodes: PciNodes,
    timeout: Duration,
    stop: Stop,
}

impl Handshake {
    /// A frontend of `guest`, which waits for the backend at most `timeout` at each step.
    #[must_use]
    pub fn new(client: Client, guest: DomainId, timeout: Duration, stop: Stop) -> Self {
        Self { client, nodes: PciNodes::new(guest), timeout, stop }
    }

    /// How long it waits for the backend.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When it ends early.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Connects, and gives the buses to look at.
    ///
    /// # Errors
    /// There is no bus or no backend, or it does not connect; the frontend is as before then, as far as can be.
    pub async fn connect(&mut self, ring: &RingNodes) -> Result<Vec<Root>, Error> {
        self.start_afresh().await?;
        let connected = self.publish_and_connect(ring).await;
        if connected.is_err() {
            // The first error says more than one of the way back.
            let _ = self.close().await;
        }
        connected
    }

    /// Closes, and leaves the bus to the next frontend. It is no error if the bus has gone.
    ///
    /// # Errors
    /// xenstore refuses, or the backend does not close in time; the frontend's nodes are as they should be all the same.
    pub async fn close(&mut self) -> Result<(), Error> {
        // Whoever interrupts has to wait for this: the time is bounded.
        let closed = self.close_down(Waiting::Uninterrupted).await;
        self.reset().await?;
        closed
    }

    /// Brings both sides to where a frontend begins, wherever another one left them.
    async fn start_afresh(&mut self) -> Result<(), Error> {
        let mine = xenbus::read_state(&self.client, &self.nodes.frontend_state()).await?;
        if mine == XenbusState::Unknown {
            return Err(Error::NoBus { frontend: self.nodes.frontend().to_string() });
        }
        let theirs = self.wait("there", Waiting::Interruptible, |state| state != XenbusState::Unknown).await?;
        if theirs == XenbusState::Connected {
            self.close_down(Waiting::Interruptible).await?;
        }
        if theirs == XenbusState::Connected || mine != XenbusState::Initialising {
            self.reset().await?;
        }
        let is_ready = |state| !matches!(state, XenbusState::Unknown | XenbusState::Closing | XenbusState::Closed);
        match self.wait("ready to connect", Waiting::Interruptible, is_ready).await {
            Err(Error::NoBackend { state: state @ (XenbusState::Closing | XenbusState::Closed), .. }) => {
                Err(Error::CannotReconnect { state })
            }
            other => other.map(drop),
        }
    }

    async fn publish_and_connect(&mut self, ring: &RingNodes) -> Result<Vec<Root>, Error> {
        let nodes = &self.nodes;
        let published = self
            .client
            .transaction(async |transaction| {
                nodes.publish_ring(transaction, ring).await?;
                xenbus::switch_state_in(transaction, &nodes.frontend_state(), XenbusState::Initialised).await
            })
            .await?;
        if published == Switched::Gone {
            return Err(Error::NoBus { frontend: nodes.frontend().to_string() });
        }
        let is_decided =
            |state| !matches!(state, XenbusState::Initialising | XenbusState::InitWait | XenbusState::Initialised);
        match self.wait("4 (Connected)", Waiting::Interruptible, is_decided).await? {
            XenbusState::Connected => {}
            state => return Err(Error::BackendRefuses { state }),
        }
        let mut roots = self.nodes.read_roots(&self.client).await?;
        if roots.is_empty() {
            roots.push(DEFAULT_ROOT);
        }
        self.switch(XenbusState::Connected).await?;
        Ok(roots)
    }

    async fn close_down(&mut self, waiting: Waiting) -> Result<(), Error> {
        self.switch(XenbusState::Closing).await?;
        let is_closing = |state| matches!(state, XenbusState::Unknown | XenbusState::Closing | XenbusState::Closed);
        self.wait("5 (Closing)", waiting, is_closing).await?;
        self.switch(XenbusState::Closed).await?;
        // xenpcid is ready for the next frontend as soon as this one is closed.
        let is_closed = |state| matches!(state, XenbusState::Unknown | XenbusState::Closed | XenbusState::Initialised);
        self.wait("6 (Closed)", waiting, is_closed).await?;
        Ok(())
    }

    /// The frontend's directory as the toolstack made it, if it is still there.
    async fn reset(&self) -> Result<(), Error> {
        let nodes = &self.nodes;
        self.client
            .transaction(async |transaction| {
                let state = &nodes.frontend_state();
                if xenbus::switch_state_in(transaction, state, XenbusState::Initialising).await? != Switched::Gone {
                    for key in RING_KEYS {
                        transaction.rm_if_present(&key).await?;
                    }
                }
                Ok::<_, xenstore_protocol::Error>(())
            })
            .await?;
        Ok(())
    }

    async fn switch(&self, state: XenbusState) -> Result<(), Error> {
        xenbus::switch_state(&self.client, &self.nodes.frontend_state(), state).await?;
        Ok(())
    }

    /// Waits until the backend's state is as `wanted`, and gives it.
    async fn wait(
        &mut self,
        name: &'static str,
        waiting: Waiting,
        wanted: impl Fn(XenbusState) -> bool,
    ) -> Result<XenbusState, Error> {
        let path: Path = self.nodes.backend_state();
        let mut state = XenbusState::Unknown;
        let follow = async {
            let mut watch = self.client.watch(&path).await?;
            loop {
                state = xenbus::read_state(&self.client, &path).await?;
                if wanted(state) {
                    return Ok(state);
                }
                watch.changed().await?;
            }
        };
        let mut stop = self.stop.clone();
        let interrupted = async {
            match waiting {
                Waiting::Interruptible => stop.wanted().await,
                Waiting::Uninterrupted => std::future::pending().await,
            }
        };
        tokio::select! {
            followed = follow => return followed,
            () = interrupted => return Err(Error::Interrupted),
            () = tokio::time::sleep(self.timeout) => {}
        }
        Err(Error::NoBackend { state, wanted: name, after: self.timeout })
    }
}

/// Whether a wait ends when the user wants the run to end.
#[derive(Clone, Copy)]
enum Waiting {
    Interruptible,
    Uninterrupted,
}
