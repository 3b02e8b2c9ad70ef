//! One guest being served, from its first device to its end.
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
//!        ·  configuration accesses, interrupts: ring.rs; devices come and go: handshake.rs  ·
//!                                  5 Closing      (driver unbound, guest powers off)
//!   5 Closing
//!                                  6 Closed
//!   interrupts off, devices reset
//!   3 Initialised                  3 Initialised  (its module is loaded again, or another kernel by kexec), and so on
//!        ·  the domain is gone  ·
//!   unmap, take devices back, remove both directories
//! ```
//! * The guest publishes numbers that cannot be mapped or bound, or another magic: 5 Closing; the devices stay with the guest
//!   until it is gone, since it may use them already.
//! * The domain is gone at any moment: everything is taken back from wherever it stands.
//! * One of several devices cannot be assigned: all are taken back, so that a guest never runs with half of what it was
//!   promised.

mod assign;
mod command;
mod handshake;
mod nodes;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use xenpcid_address::Sbdf;
use xenpcid_host::Host;
use xenstore_protocol::pci_nodes::{PciNodes, RingNodes};
use xenstore_protocol::{Client, Error as XenstoreError, Path, Watch};

pub use command::{Attached, Command, Guest, Outcome, Placed, Returned, SessionError, Stop, Wanted};

use crate::assignment::Assigned;
use crate::deadline::reached;
use crate::pool::Pool;
use crate::rate_limit::{Line, RateLimit};
use crate::ring::{GuestBus, Places, RingServer, SharedBus, lock};
use assign::assign_all;
use handshake::Phase;

/// Tells that another toolstack took devices from the guest, by the nodes of its bus.
pub type Withdrawn = Box<dyn Fn(&Guest, &[Sbdf])>;

/// Until what xenstore refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a session is told about.
struct Watches {
    frontend: Watch,
    backend: Watch,
    /// A domain has shut down or crashed, or is gone.
    ended: Watch,
}

/// A guest that is served.
pub struct Session {
    host: Host,
    xenstore: Client,
    pool: Arc<Pool>,
    guest: Guest,
    nodes: PciNodes,
    bus: SharedBus,
    places: Places,
    ring: Option<(RingServer, RingNodes)>,
    phase: Phase,
    /// Until when another toolstack is answered without waiting for the guest.
    hurry: Option<Instant>,
    /// Devices that the guest was asked for and keeps, until that is written down.
    asked_in_vain: Vec<Sbdf>,
    /// Devices that are being renewed after the guest.
    returning: JoinSet<()>,
    withdrawn: Withdrawn,
    complaints: RateLimit,
}

impl Session {
    /// A guest that has no device yet. Those that it does not have any more go to `pool`.
    #[must_use]
    pub fn new(host: Host, xenstore: Client, pool: Arc<Pool>, guest: Guest, withdrawn: Withdrawn) -> Self {
        let bus = GuestBus::new(host.clone(), guest.domain);
        let places = bus.places();
        Self {
            nodes: PciNodes::new(guest.domain),
            host,
            xenstore,
            pool,
            guest,
            bus: Arc::new(Mutex::new(bus)),
            places,
            ring: None,
            phase: Phase::Settled,
            hurry: None,
            asked_in_vain: Vec::new(),
            returning: JoinSet::new(),
            withdrawn,
            complaints: RateLimit::default(),
        }
    }

    /// Serves the guest until `stopped` says to end. Nothing that a guest writes, and no failure of xenstore, ends it: the guest
    /// has its devices, and they are taken back only when it is gone or lets go.
    pub async fn serve(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut stopped: oneshot::Receiver<Stop>,
    ) -> Outcome {
        let mut connection = self.xenstore.state();
        let stop = loop {
            connection.mark_unchanged();
            let lost = match self.watches().await {
                Ok(mut watches) => match self.follow_until_lost(&mut watches, &mut commands, &mut stopped).await {
                    Ok(stop) => break stop,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.complain(&lost, "its nodes cannot be watched");
            tokio::select! {
                // Its sender is dropped only together with the whole daemon.
                stop = &mut stopped => break stop.unwrap_or(Stop::Leave),
                changed = connection.changed() => if changed.is_err() {
                    // Whoever ends the daemon for that ends this too.
                    break (&mut stopped).await.unwrap_or(Stop::Leave);
                },
                // Refused, for a reason that may pass.
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        self.give_back(&mut commands);
        match stop {
            Stop::Gone => {
                self.end().await;
                Outcome::Released
            }
            Stop::Leave => {
                self.stop_ring().await;
                while self.returning.join_next().await.is_some() {}
                Outcome::Left
            }
        }
    }

    async fn watches(&self) -> Result<Watches, XenstoreError> {
        Ok(Watches {
            frontend: self.xenstore.watch(&self.nodes.frontend_state()).await?,
            backend: self.xenstore.watch(self.nodes.backend()).await?,
            ended: self.xenstore.watch(&Path::RELEASE_DOMAIN).await?,
        })
    }

    /// Follows the guest and carries out what is asked, until told to stop or until a watch is lost.
    async fn follow_until_lost(
        &mut self,
        watches: &mut Watches,
        commands: &mut mpsc::Receiver<Command>,
        stopped: &mut oneshot::Receiver<Stop>,
    ) -> Result<Stop, XenstoreError> {
        loop {
            let followed = self.follow().await;
            self.hurry = self.hurry.filter(|until| Instant::now() < *until);
            let deadline = match followed {
                Ok(()) => self.phase.deadline().into_iter().chain(self.hurry).min(),
                Err(error) => {
                    self.complain(&error, "its state cannot be followed");
                    self.take_without_nodes().await;
                    Some(Instant::now() + AGAIN)
                }
            };
            let broken = async {
                match &mut self.ring {
                    Some((ring, _)) => ring.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                stop = &mut *stopped => return Ok(stop.unwrap_or(Stop::Leave)),
                changed = watches.frontend.changed() => drop(changed?),
                changed = watches.backend.changed() => drop(changed?),
                changed = watches.ended.changed() => drop(changed?),
                () = reached(deadline) => {}
                error = broken => {
                    tracing::error!(domain = %self.guest, %error, "the guest's ring broke; it keeps its devices, without configuration accesses");
                    self.stop_ring().await;
                    self.close_backend().await;
                }
                Some(command) = commands.recv(), if matches!(self.phase, Phase::Settled) => self.carry_out(command).await,
                Some(_) = self.returning.join_next() => {}
            }
        }
    }

    /// Devices that were to be attached next, and are not any more. Whoever asked is told by the end of his channel.
    fn give_back(&self, commands: &mut mpsc::Receiver<Command>) {
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Attach { devices, .. } = command {
                let devices = devices.into_iter().map(|device| Ok(device.claimed)).collect();
                // They are as they were.
                let _ = self.pool.take_in(&self.guest, devices);
            }
        }
    }

    async fn carry_out(&mut self, command: Command) {
        match command {
            Command::Attach { devices, patience, reply } => self.attach(devices, patience, reply).await,
            Command::Detach { functions, force, patience, reply } => {
                self.detach(functions, force, patience, reply).await;
            }
        }
    }

    async fn attach(
        &mut self,
        devices: Vec<Wanted>,
        patience: Duration,
        reply: oneshot::Sender<Result<Attached, SessionError>>,
    ) {
        let options: Vec<_> = devices.iter().map(|device| device.options).collect();
        let (bus, guest) = (self.bus.clone(), self.guest.clone());
        let assigned = on_thread(&self.host, move |host| assign_all(host, &guest, &bus, devices)).await;
        let devices = match assigned {
            Ok(Ok(devices)) => devices,
            Ok(Err((returned, error))) => {
                // What is wrong with a device that is not ready any more is in `error`, too.
                let _ = self.pool.take_in(&self.guest, returned);
                return answer(reply, Err(error));
            }
            Err(error) => return answer(reply, Err(error.into())),
        };
        match self.publish(&devices, &options).await {
            Ok(connected) => {
                for Placed { function, address } in &devices {
                    tracing::info!(domain = %self.guest, %function, slot = %address, "assigned");
                }
                let attached = Attached { devices, unanswered: false };
                if connected {
                    self.phase = Phase::arriving(attached, patience, reply);
                } else {
                    answer(reply, Ok(attached));
                }
            }
            Err(error) => {
                // Should the nodes have been written all the same, they name devices that are not there, and are removed.
                let functions: Vec<_> = devices.iter().map(|device| device.function).collect();
                match self.remove(&functions).await {
                    Ok(removed) => self.renew(removed, move |_| answer(reply, Err(error.into()))),
                    Err(error) => answer(reply, Err(error)),
                }
            }
        }
    }

    async fn detach(
        &mut self,
        functions: Vec<Sbdf>,
        force: bool,
        patience: Duration,
        reply: oneshot::Sender<Result<(), SessionError>>,
    ) {
        let missing = functions.iter().copied().find(|function| !self.places.has(*function));
        if let Some(function) = missing {
            return answer(reply, Err(SessionError::NotAttached { function, guest: self.guest.clone() }));
        }
        match self.ask_to_let_go(&functions).await {
            Ok(()) => self.phase = Phase::leaving(functions, patience, force, reply),
            // Without xenstore the guest cannot be asked.
            Err(_) if force => self.phase = Phase::leaving(functions, Duration::ZERO, force, reply),
            Err(error) => {
                // It may have been written all the same, and must not be taken for another toolstack's.
                self.asked_in_vain = functions;
                answer(reply, Err(error.into()));
            }
        }
    }

    /// Takes devices off the bus: the guest's accesses find nothing there any more. Waits for a request that is being answered.
    async fn remove(&self, functions: &[Sbdf]) -> Result<Vec<Assigned>, SessionError> {
        let bus = self.bus.clone();
        let functions = functions.to_vec();
        let removed = on_thread(&self.host, move |_| {
            let mut bus = lock(&bus);
            functions.iter().filter_map(|function| bus.remove(*function)).collect()
        });
        Ok(removed.await?)
    }

    /// Takes back what was granted for devices and renews them, which takes its time; then they are in the pool, and `done` is
    /// told whether all are ready for the next guest.
    fn renew(&mut self, devices: Vec<Assigned>, done: impl FnOnce(Result<(), SessionError>) + 'static) {
        let renewed = on_thread(&self.host, move |host| {
            devices.into_iter().map(|assigned| assigned.take_back(host)).collect::<Vec<Returned>>()
        });
        let (pool, guest) = (self.pool.clone(), self.guest.clone());
        self.returning.spawn_local(async move {
            match renewed.await {
                Ok(returned) => done(pool.take_in(&guest, returned)),
                Err(error) => done(Err(error.into())),
            }
        });
    }

    async fn stop_ring(&mut self) {
        let Some((ring, _)) = self.ring.take() else { return };
        // The page and the port are the thread's, and go with it.
        if let Err(error) = tokio::task::spawn_blocking(move || ring.stop()).await {
            tracing::error!(%error, "the ring's end was not seen; this is a defect, please report it");
        }
    }

    /// Takes everything back.
    async fn end(&mut self) {
        self.stop_ring().await;
        // Whoever waits for the guest waits no longer.
        self.phase = Phase::Settled;
        let functions: Vec<_> = self.places.list().iter().map(|device| device.function).collect();
        // Before the devices can be another guest's, whose the nodes are then.
        if let Err(error) = self.remove_nodes(&functions).await {
            tracing::warn!(domain = %self.guest, %error, "its nodes in xenstore could not be removed");
        }
        match self.remove(&functions).await {
            Ok(removed) => self.renew(removed, |_| ()),
            Err(error) => tracing::error!(domain = %self.guest, %error, "its devices could not be taken back"),
        }
        while self.returning.join_next().await.is_some() {}
    }

    /// The devices, for others to look.
    #[must_use]
    pub fn places(&self) -> Places {
        self.places.clone()
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
}

/// Tells whoever asked, unless he does not listen any more.
fn answer<T>(reply: oneshot::Sender<T>, result: T) {
    let _ = reply.send(result);
}

/// Runs what blocks where it keeps nobody waiting. It is carried out whether the result is waited for or not.
fn on_thread<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let host = host.clone();
    tokio::task::spawn_blocking(move || work(&host))
}
