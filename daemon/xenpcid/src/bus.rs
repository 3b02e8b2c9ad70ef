//! A guest's devices, and who answers for them.
//!
//! ```text
//!          serve                    stop                     the thread has ended
//!   Idle ─────────► Served ───────────────────► Stopping ──────────────────────────► Idle
//! ```
//! Each step can be abandoned at any moment and taken up again: where the devices are is never known only to a future.

use std::fmt;

use tokio::task::JoinHandle;
use xenpcid_address::DomainId;
use xenpcid_host::{Host, HostError};
use xenstore_protocol::pci_nodes::RingNodes;

use crate::ring::{GuestBus, RingServer};

/// Why a guest's frontend is not answered.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The guest's page or port could not be had.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No thread for the ring.
    #[error("no thread for the guest's ring: {0}")]
    Thread(std::io::Error),
}

/// Where a guest's devices are.
pub enum Bus {
    /// Nobody answers for them.
    Idle(Box<GuestBus>),
    /// The ring's thread does, on the page and the port that the guest published.
    Served(RingServer, RingNodes),
    /// The ring's thread is ending.
    Stopping(JoinHandle<Box<GuestBus>>),
    /// Lost with a thread that panicked.
    Lost,
}

impl Bus {
    /// Maps the guest's page, binds its port, and answers what is asked there; `false` if that is done already.
    ///
    /// # Errors
    /// What the guest published cannot be mapped or bound. The devices are as before.
    pub async fn serve(&mut self, host: &Host, domain: DomainId, nodes: RingNodes) -> Result<bool, ConnectError> {
        if matches!(self, Self::Served(_, served) if *served == nodes) {
            return Ok(false);
        }
        self.stop().await;
        let page = host.grants.map(domain, nodes.grant_reference)?;
        let port = host.events.bind(domain, nodes.event_channel)?;
        match std::mem::replace(self, Self::Lost) {
            Self::Idle(bus) => match RingServer::start(bus, page, port) {
                Ok(ring) => *self = Self::Served(ring, nodes),
                Err((bus, error)) => {
                    *self = Self::Idle(bus);
                    return Err(ConnectError::Thread(error));
                }
            },
            other => *self = other,
        }
        Ok(true)
    }

    /// Stops to answer; `false` if nobody did.
    pub async fn stop(&mut self) -> bool {
        match std::mem::replace(self, Self::Lost) {
            Self::Served(ring, _) => *self = Self::Stopping(tokio::task::spawn_blocking(move || ring.stop())),
            other => *self = other,
        }
        let Self::Stopping(ending) = self else { return false };
        *self = match ending.await {
            Ok(bus) => Self::Idle(bus),
            Err(error) => {
                tracing::error!(%error, "a guest's devices are lost to this daemon; this is a defect, please report it");
                Self::Lost
            }
        };
        true
    }

    /// Resolves when nobody answers any more although somebody should.
    pub async fn broken(&mut self) -> HostError {
        match self {
            Self::Served(ring, _) => ring.ended().await,
            Self::Idle(_) | Self::Stopping(_) | Self::Lost => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Served(..) => "Served",
            Self::Stopping(_) => "Stopping",
            Self::Lost => "Lost",
        })
    }
}
