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
use xenpcid_host::Host;
use xenpcid_policy::{BusFull, VirtualBus};
use xenstore_protocol::pci_nodes::{DeviceOptions, NewDevice, PciNodes, Root};
use xenstore_protocol::xenbus::{self, XenbusState};
use xenstore_protocol::{Client, Error as XenstoreError, Watch};

use crate::assignment::Assigned;
use crate::bus::Bus;
use crate::claim::{ClaimError, Claimed};
use crate::rate_limit::{Line, RateLimit};
use crate::ring::GuestBus;

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
    /// The devices that the guest does not have any more.
    pub devices: Vec<Returned>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a session ended.
#[derive(Debug)]
pub enum Outcome {
    /// The domain is gone.
    Released,
    /// The domain has its devices, and the daemon ends.
    Left,
    /// The domain got nothing.
    Refused(SessionError),
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
        Ok(Err((devices, error))) => return Ended { guest, devices, outcome: Outcome::Refused(error) },
        Err(error) => return Ended { guest, devices: Vec::new(), outcome: Outcome::Refused(error.into()) },
    };
    let nodes = PciNodes::new(guest.domain);
    let complaints = RateLimit::default();
    let mut session = Session { host, xenstore, guest, nodes, bus: Bus::Idle(bus), complaints };
    let stop = tokio::select! {
        error = session.run() => return session.end(Outcome::Refused(error.into())).await,
        // Its sender is dropped only together with the whole daemon.
        stop = stopped => stop.unwrap_or(Stop::Leave),
    };
    match stop {
        Stop::Gone => session.end(Outcome::Released).await,
        Stop::Leave => {
            session.bus.stop().await;
            Ended { guest: session.guest, devices: Vec::new(), outcome: Outcome::Left }
        }
    }
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
                // The connection was lost just when it was done: the guest may have written there since.
                let state = xenbus::read_state(transaction, &nodes.backend_state()).await?;
                if state == XenbusState::Initialised && transaction.exists(nodes.frontend()).await? {
                    return Ok(());
                }
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

    /// Publishes the devices and follows the guest's state. Ends only with an error of the first. Nothing that a guest writes,
    /// and no failure of xenstore, ends the second: the guest has its devices, and they are taken back only when it is gone.
    async fn run(&mut self) -> XenstoreError {
        let mut connection = self.xenstore.state();
        loop {
            connection.mark_unchanged();
            match self.publish().await {
                Ok(()) => break,
                Err(error) if error.is_disconnected() => self.complain(&error, "its devices cannot be published"),
                Err(error) => return error,
            }
            if connection.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        loop {
            connection.mark_unchanged();
            match self.xenstore.watch(&self.nodes.frontend_state()).await {
                Ok(mut watch) => while self.look(&mut watch).await {},
                Err(error) => self.complain(&error, "its state cannot be watched"),
            }
            if connection.changed().await.is_err() {
                // Whoever ends the daemon for that ends this too.
                return std::future::pending().await;
            }
        }
    }

    /// Looks at the guest's state once and waits for the next occasion; `false` once the watch is over.
    async fn look(&mut self, watch: &mut Watch) -> bool {
        if let Err(error) = self.follow().await {
            self.complain(&error, "its state cannot be followed");
        }
        let broken = tokio::select! {
            changed = watch.changed() => match changed {
                Ok(_) => return true,
                Err(error) => {
                    self.complain(&error, "its state is not watched any more");
                    return false;
                }
            },
            error = self.bus.broken() => error,
        };
        tracing::error!(domain = %self.guest, error = %broken, "the guest's ring broke; it keeps its devices, without configuration accesses");
        self.bus.stop().await;
        if let Err(error) = self.switch(XenbusState::Closing).await {
            self.complain(&error, "its backend state cannot be written");
        }
        true
    }

    /// Says what a guest can cause as often as it likes.
    fn complain(&mut self, error: &dyn fmt::Display, what: &'static str) {
        if let Some(Line { suppressed }) = self.complaints.admit() {
            tracing::warn!(domain = %self.guest, %error, suppressed, "{what}");
        }
    }

    /// As [`Session::complain`], of what is in order.
    fn tell(&mut self, what: &'static str) {
        if let Some(Line { suppressed }) = self.complaints.admit() {
            tracing::info!(domain = %self.guest, suppressed, "{what}");
        }
    }

    /// Reacts to the state that the guest is in now, whatever it was before.
    async fn follow(&mut self) -> Result<(), XenstoreError> {
        let nodes = &self.nodes;
        let frontend = self.xenstore.transaction(async |transaction| nodes.read_frontend(transaction).await).await?;
        match (frontend.state, frontend.ring) {
            (XenbusState::Initialised, Some(ring)) => match self.bus.serve(&self.host, self.guest.domain, ring).await {
                Ok(new) => {
                    if new {
                        self.tell("connected");
                    }
                    self.switch(XenbusState::Connected).await
                }
                Err(error) => {
                    self.complain(&error, "its frontend cannot be connected");
                    self.switch(XenbusState::Closing).await
                }
            },
            // A frontend that is there for the first time, or starts again.
            (XenbusState::Initialising, _) => self.disconnect(XenbusState::Initialised).await,
            (XenbusState::Closing | XenbusState::Closed, _) => self.disconnect(frontend.state).await,
            _ => Ok(()),
        }
    }

    async fn disconnect(&mut self, state: XenbusState) -> Result<(), XenstoreError> {
        if self.bus.stop().await {
            self.tell("disconnected");
        }
        self.switch(state).await
    }

    async fn switch(&self, state: XenbusState) -> Result<(), XenstoreError> {
        xenbus::switch_state(&self.xenstore, &self.nodes.backend_state(), state).await.map(drop)
    }

    /// Takes everything back.
    async fn end(mut self, mut outcome: Outcome) -> Ended {
        self.bus.stop().await;
        let mut devices = Vec::new();
        if let Bus::Idle(bus) = self.bus {
            let taken = on_thread(&self.host, move |host| {
                bus.into_functions().into_iter().map(|function| function.take_back(host)).collect()
            });
            match taken.await {
                Ok(taken) => devices = taken,
                Err(error) => outcome = Outcome::Refused(error.into()),
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
    let devices: Vec<_> = devices.into_iter().collect();
    // Asked of all before anything is granted to the running guest: a domain without an IOMMU is the most frequent mistake.
    let possible = |function| host.hypervisor.test_assign_device(guest.domain, function);
    if let Err(error) = devices.iter().map(|claimed| claimed.function()).try_for_each(possible) {
        return Err((devices.into_iter().map(Ok).collect(), ClaimError::from(error).into()));
    }
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
    match slots.insert(claimed.function(), claimed.snapshot().is_virtual_function) {
        Ok(address) => Assigned::assign(host, guest.domain, claimed, address, lines)
            .map_err(|(claimed, error)| (claimed, error.into())),
        Err(error) => Err((claimed, error.into())),
    }
}
