//! One guest being served, from the grant of its devices to their return.
//!
//! The handshake follows xenbus (xen/include/public/io/xenbus.h); the frontend is Linux' pcifront or another.
//!
//! ```text
//!   backend                        frontend
//!   ───────                        ────────
//!   assign devices, publish all
//!   3 Initialised                  1 Initialising
//!                                  writes pci-op-ref, event-channel, magic
//!                                  3 Initialised
//!   map the page, bind the port
//!   4 Connected                    scans the bus
//!                                  4 Connected
//!        ·  configuration accesses, interrupts: ring.rs  ·
//!                                  5 Closing      (driver unbound, guest powers off)
//!   5 Closing
//!                                  6 Closed
//!   6 Closed
//!        ·  the domain is gone  ·
//!   unmap, take devices back, remove both directories
//! ```
//! * The guest publishes numbers that cannot be mapped or bound, or another magic: 5 Closing; the devices stay with the guest
//!   until it is gone, since it may use them already.
//! * The domain is gone at any moment: everything is taken back from wherever it stands.
//! * A device cannot be assigned: all are taken back and the guest gets none, so that it never runs with half of what it was
//!   promised.

use std::collections::BTreeSet;
use std::fmt;

use tokio::sync::oneshot;
use xenpcid_address::DomainId;
use xenpcid_host::{Host, HostError};
use xenpcid_policy::{BusFull, VirtualBus};
use xenstore_protocol::pci_nodes::{DeviceOptions, NewDevice, PciNodes, RingNodes, Root};
use xenstore_protocol::xenbus::{self, XenbusState};
use xenstore_protocol::{Client, Error as XenstoreError, Watch};

use crate::assignment::Assigned;
use crate::claim::{ClaimError, Claimed};
use crate::rate_limit::RateLimit;
use crate::ring::{GuestBus, RingServer};

/// The one bus of a guest.
const ROOT: Root = Root { segment: 0, bus: 0 };

/// A domain that is served.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its number, which is new each time it starts.
    pub domain: DomainId,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (domain {})", self.name, self.domain)
    }
}

/// Why a guest gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A device could not be given to it.
    #[error(transparent)]
    Assign(#[from] ClaimError),
    /// More devices than its bus has room for.
    #[error(transparent)]
    BusFull(#[from] BusFull),
    /// Its nodes could not be published.
    #[error(transparent)]
    Xenstore(#[from] XenstoreError),
    /// A task panicked.
    #[error("a task of the daemon ended badly: {0}; this is a defect, please report it")]
    Task(#[from] tokio::task::JoinError),
}

/// Why a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The domain is gone: take everything back.
    Gone,
    /// The daemon ends: leave the guest its devices.
    Leave,
}

/// A device given back: ready for the next guest, or not and why.
pub type Returned = Result<Box<Claimed>, (Box<Claimed>, ClaimError)>;

/// What a session leaves.
pub struct Ended {
    /// Whom it served.
    pub guest: Guest,
    /// Its devices.
    pub devices: Vec<Returned>,
    /// Why it served nobody.
    pub outcome: Result<(), SessionError>,
}

/// Why a guest's frontend is not answered.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    /// What the guest published cannot be read.
    #[error(transparent)]
    Xenstore(#[from] XenstoreError),
    /// It says that it has published its keys, and has not.
    #[error("pci-op-ref, event-channel or magic is missing")]
    Incomplete,
    /// The guest's page or port could not be had.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No thread for the ring.
    #[error("no thread for the guest's ring: {0}")]
    Thread(std::io::Error),
}

/// Serves a guest until `stopped` says to end.
pub async fn serve(
    host: Host,
    xenstore: Client,
    guest: Guest,
    devices: Vec<Box<Claimed>>,
    stopped: oneshot::Receiver<Stop>,
) -> Ended {
    let assigned = on_thread(&host, {
        let guest = guest.clone();
        move |host| assign_all(host, &guest, devices)
    });
    let bus = match assigned.await {
        Ok(Ok(bus)) => bus,
        Ok(Err((devices, error))) => return Ended { guest, devices, outcome: Err(error) },
        Err(error) => return Ended { guest, devices: Vec::new(), outcome: Err(error.into()) },
    };
    let nodes = PciNodes::new(guest.domain);
    let mut session =
        Session { host: host.clone(), xenstore, guest, nodes, bus: Bus::Idle(bus), complaints: RateLimit::default() };
    if let Err(error) = session.publish().await {
        return session.end(Err(error.into())).await;
    }
    let stop = tokio::select! {
        () = session.run() => Stop::Leave,
        // Its sender is dropped only together with the whole daemon.
        stop = stopped => stop.unwrap_or(Stop::Leave),
    };
    match stop {
        Stop::Gone => session.end(Ok(())).await,
        Stop::Leave => {
            session.disconnect().await;
            Ended { guest: session.guest, devices: Vec::new(), outcome: Ok(()) }
        }
    }
}

/// The guest's devices, and whether anybody answers for them.
enum Bus {
    /// Nobody does.
    Idle(Box<GuestBus>),
    /// The ring's thread does.
    Served(RingServer),
    /// Between the two, or lost with a task that panicked.
    Moving,
}

struct Session {
    host: Host,
    xenstore: Client,
    guest: Guest,
    nodes: PciNodes,
    bus: Bus,
    complaints: RateLimit,
}

impl Session {
    /// Makes the devices known to the guest, all at once: it finds a bus that is ready to be connected.
    async fn publish(&self) -> Result<(), XenstoreError> {
        let Bus::Idle(bus) = &self.bus else { return Ok(()) };
        let (nodes, functions) = (&self.nodes, bus.functions());
        let devices: Vec<_> = functions
            .iter()
            .map(|function| NewDevice { host: function.function(), options: DeviceOptions::default() })
            .collect();
        self.xenstore
            .transaction(async |transaction| {
                nodes.create(transaction, &self.guest.name, &devices).await?;
                for (index, function) in (0..).zip(functions) {
                    nodes.publish_device(transaction, index, function.address().to_sbdf()).await?;
                    nodes.set_device_state(transaction, index, XenbusState::Initialised).await?;
                }
                nodes.publish_roots(transaction, &[ROOT]).await?;
                xenbus::switch_state_in(transaction, &nodes.backend_state(), XenbusState::Initialised).await?;
                Ok::<_, XenstoreError>(())
            })
            .await?;
        for function in functions {
            tracing::info!(domain = %self.guest, function = %function.function(), slot = %function.address(), "assigned");
        }
        Ok(())
    }

    /// Follows the guest's state. Nothing that a guest writes, and no failure of xenstore, ends this: the guest has its
    /// devices, and they are taken back only when it is gone.
    async fn run(&mut self) {
        let mut watch = loop {
            match self.xenstore.watch(&self.nodes.frontend_state()).await {
                Ok(watch) => break watch,
                Err(error) => self.complain(&error, "its state cannot be watched"),
            }
            if self.reconnected().await.is_none() {
                return std::future::pending().await;
            }
        };
        loop {
            if let Err(error) = self.follow().await {
                self.complain(&error, "its state cannot be followed");
            }
            if self.wait(&mut watch).await.is_none() {
                return std::future::pending().await;
            }
        }
    }

    fn complain(&mut self, error: &dyn fmt::Display, what: &'static str) {
        if let Some(suppressed) = self.complaints.admit() {
            tracing::warn!(domain = %self.guest, %error, suppressed, "{what}");
        }
    }

    /// Waits until the connection to xenstore changes; `None` once it is gone for good.
    async fn reconnected(&self) -> Option<()> {
        self.xenstore.state().changed().await.ok()
    }

    /// Waits until there is something to look at; `None` once there will not be anything.
    async fn wait(&mut self, watch: &mut Watch) -> Option<()> {
        let failed = match &mut self.bus {
            Bus::Served(ring) => tokio::select! {
                changed = watch.changed() => return changed.ok().map(drop),
                Some(error) = ring.ended() => error,
            },
            Bus::Idle(_) | Bus::Moving => return watch.changed().await.ok().map(drop),
        };
        tracing::error!(domain = %self.guest, error = %failed, "the guest's ring broke; it keeps its devices, without configuration accesses");
        self.disconnect().await;
        if let Err(error) = self.switch(XenbusState::Closing).await {
            self.complain(&error, "its backend state cannot be written");
        }
        Some(())
    }

    /// Reacts to the state that the guest is in now.
    async fn follow(&mut self) -> Result<(), XenstoreError> {
        let state = self.nodes.read_frontend_state(&self.xenstore).await?;
        match (state, &self.bus) {
            (XenbusState::Initialised, Bus::Idle(_)) => match self.connect().await {
                Ok(()) => self.switch(XenbusState::Connected).await,
                Err(error) => {
                    self.complain(&error, "its frontend cannot be connected");
                    self.switch(XenbusState::Closing).await
                }
            },
            // A frontend that starts again, after it was closed.
            (XenbusState::Initialising, Bus::Idle(_)) => self.switch(XenbusState::Initialised).await,
            (XenbusState::Closing | XenbusState::Closed, _) => {
                self.disconnect().await;
                self.switch(state).await
            }
            _ => Ok(()),
        }
    }

    async fn switch(&self, state: XenbusState) -> Result<(), XenstoreError> {
        xenbus::switch_state(&self.xenstore, &self.nodes.backend_state(), state).await.map(drop)
    }

    /// Maps the guest's page, binds its port, and starts to answer.
    async fn connect(&mut self) -> Result<(), ConnectError> {
        let (nodes, guest) = (&self.nodes, self.guest.domain);
        let view = self.xenstore.transaction(async |transaction| nodes.read_frontend(transaction).await).await?;
        let RingNodes { grant_reference, event_channel } = view.ring.ok_or(ConnectError::Incomplete)?;
        let page = self.host.grants.map(guest, grant_reference)?;
        let port = self.host.events.bind(guest, event_channel)?;
        match std::mem::replace(&mut self.bus, Bus::Moving) {
            Bus::Idle(bus) => match RingServer::start(bus, page, port) {
                Ok(ring) => self.bus = Bus::Served(ring),
                Err((bus, error)) => {
                    self.bus = Bus::Idle(bus);
                    return Err(ConnectError::Thread(error));
                }
            },
            other => self.bus = other,
        }
        tracing::info!(domain = %self.guest, "connected");
        Ok(())
    }

    /// Stops to answer.
    async fn disconnect(&mut self) {
        match std::mem::replace(&mut self.bus, Bus::Moving) {
            Bus::Served(ring) => match tokio::task::spawn_blocking(move || ring.stop()).await {
                Ok(bus) => {
                    self.bus = Bus::Idle(bus);
                    tracing::info!(domain = %self.guest, "disconnected");
                }
                Err(error) => tracing::error!(domain = %self.guest, %error, "its devices are lost to this daemon"),
            },
            other => self.bus = other,
        }
    }

    /// Takes everything back.
    async fn end(mut self, mut outcome: Result<(), SessionError>) -> Ended {
        self.disconnect().await;
        let mut devices = Vec::new();
        if let Bus::Idle(bus) = std::mem::replace(&mut self.bus, Bus::Moving) {
            let taken = on_thread(&self.host, move |host| {
                bus.into_functions().into_iter().map(|function| function.take_back(host)).collect()
            });
            match taken.await {
                Ok(taken) => devices = taken,
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        if let Err(error) = self.nodes.remove(&self.xenstore).await {
            tracing::warn!(domain = %self.guest, %error, "its nodes in xenstore could not be removed");
        }
        Ended { guest: self.guest, devices, outcome }
    }
}

/// Runs what blocks where it keeps nobody waiting.
async fn on_thread<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let host = host.clone();
    tokio::task::spawn_blocking(move || work(&host)).await
}

/// Assigns all devices or none.
fn assign_all(
    host: &Host,
    guest: &Guest,
    devices: impl IntoIterator<Item = Box<Claimed>>,
) -> Result<Box<GuestBus>, (Vec<Returned>, SessionError)> {
    let mut slots = VirtualBus::new();
    let mut lines = BTreeSet::new();
    let mut assigned = Vec::new();
    let mut waiting = devices.into_iter();
    while let Some(claimed) = waiting.next() {
        match assign(host, guest, &mut slots, &mut lines, claimed) {
            Ok(function) => assigned.push(function),
            Err((refused, error)) => {
                let taken_back = assigned.into_iter().rev().map(|function: Assigned| function.take_back(host));
                return Err((taken_back.chain([Ok(refused)]).chain(waiting.map(Ok)).collect(), error));
            }
        }
    }
    Ok(Box::new(GuestBus::new(host.clone(), guest.domain, slots, assigned)))
}

fn assign(
    host: &Host,
    guest: &Guest,
    slots: &mut VirtualBus,
    lines: &mut BTreeSet<u8>,
    claimed: Box<Claimed>,
) -> Result<Assigned, (Box<Claimed>, SessionError)> {
    // Asked before anything is granted: a domain without an IOMMU is the most frequent mistake.
    if let Err(error) = host.hypervisor.test_assign_device(guest.domain, claimed.function()) {
        return Err((claimed, ClaimError::from(error).into()));
    }
    match slots.insert(claimed.function(), claimed.snapshot().is_virtual_function) {
        Ok(address) => Assigned::assign(host, guest.domain, claimed, address, lines)
            .map_err(|(claimed, error)| (claimed, error.into())),
        Err(error) => Err((claimed, error.into())),
    }
}
