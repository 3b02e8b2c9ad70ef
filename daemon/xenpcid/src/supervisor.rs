//! Which domain has which devices: what is declared, compared with the domains there are.
//!
//! ```text
//!   pool of devices                                    sessions, one for each guest served
//!   ───────────────   a declared domain appears        ──────────────────────────────────
//!   free ────────────────────────────────────────────► lent to a session
//!    ▲                                                      │ the domain is gone, or was refused
//!    ├───────────────── renewed ◄───────────────────────────┤
//!    │                                                      │ cannot be renewed
//!   unclaimed ── claim at start, or when wanted             ▼
//!                                                        broken: in quarantine until the daemon starts again
//! ```
//! Level-triggered: a watch only says that there is something to look at, and each look compares everything.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet, LocalSet};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Device, Domain, DomainSelector};
use xenpcid_host::{DomainInfo, Host, HostError};
use xenstore_protocol::{Client, Path};

use crate::claim::{ClaimError, Claimed};
use crate::session::{self, Ended, Guest, Stop};

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// xenstore is gone for good, or refuses.
    #[error(transparent)]
    Xenstore(#[from] xenstore_protocol::Error),
    /// Xen does not answer.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A name cannot be a node.
    #[error(transparent)]
    Path(#[from] xenstore_protocol::InvalidPath),
    /// A task of the daemon panicked.
    #[error("a task of the daemon ended badly: {0}; this is a defect, please report it")]
    Task(#[from] JoinError),
}

/// A device that is declared.
enum Slot {
    /// Not claimed yet, or the claim failed and is tried again when a domain wants the device.
    Unclaimed,
    /// In quarantine, ready.
    Free(Box<Claimed>),
    /// A session has it.
    Lent(DomainId),
    /// In quarantine, not ready.
    Broken,
}

/// A guest being served.
struct Session {
    /// Ends the session.
    stop: Option<oneshot::Sender<Stop>>,
}

/// What happens, for whoever follows the daemon.
#[derive(Clone, Debug)]
pub enum Event {
    /// Everything declared was claimed, or it was said why not. Domains are watched.
    Ready,
    /// A domain gets none of its devices; the log says why.
    Refused(Guest),
    /// A domain is gone, and its devices were taken back.
    Released(Guest),
}

/// The daemon at work.
pub struct Supervisor {
    host: Host,
    xenstore: Client,
    config: Config,
    pool: BTreeMap<Sbdf, Slot>,
    sessions: BTreeMap<DomainId, Session>,
    running: JoinSet<Ended>,
    /// Domains that were told why they get nothing. Forgotten when they are gone.
    settled: BTreeSet<DomainId>,
    report: Box<dyn FnMut(Event)>,
}

impl Supervisor {
    /// A daemon for what is declared; `report` is told what happens.
    #[must_use]
    pub fn new(host: Host, xenstore: Client, config: Config, report: impl FnMut(Event) + 'static) -> Self {
        let devices = config.domains.iter().flat_map(|domain| &domain.devices);
        let pool = devices.map(|device| (device.sbdf, Slot::Unclaimed)).collect();
        Self {
            host,
            xenstore,
            config,
            pool,
            sessions: BTreeMap::new(),
            running: JoinSet::new(),
            settled: BTreeSet::new(),
            report: Box::new(report),
        }
    }

    /// Claims what is declared, serves domains as they come and go until `shutdown`, and gives back to dom0 what
    /// no guest has.
    ///
    /// # Errors
    /// What ended it before that.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        // One thread runs the whole control plane; what blocks, and each guest's ring, has a thread of its own.
        let result = LocalSet::new().run_until(self.serve(shutdown)).await;
        self.give_back().await?;
        result
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        let mut introduced = self.xenstore.watch(&Path::INTRODUCE_DOMAIN).await?;
        let mut released = self.xenstore.watch(&Path::RELEASE_DOMAIN).await?;
        for domain in self.config.domains.clone() {
            for device in &domain.devices {
                self.claim(device).await?;
            }
        }
        tracing::info!("ready");
        (self.report)(Event::Ready);
        tokio::pin!(shutdown);
        loop {
            self.reconcile().await?;
            tokio::select! {
                change = introduced.changed() => { change?; }
                change = released.changed() => { change?; }
                Some(ended) = self.running.join_next() => self.take_in(ended?),
                () = &mut shutdown => return self.leave().await,
            }
        }
    }

    /// Ends all sessions. Guests that are there keep their devices.
    async fn leave(&mut self) -> Result<(), SupervisorError> {
        for session in self.sessions.values_mut() {
            if let Some(stop) = session.stop.take() {
                // As above.
                let _ = stop.send(Stop::Leave);
            }
        }
        while let Some(ended) = self.running.join_next().await {
            self.take_in(ended?);
        }
        Ok(())
    }

    /// Compares the domains there are with those that are served.
    async fn reconcile(&mut self) -> Result<(), SupervisorError> {
        let domains: BTreeMap<_, _> =
            self.host.hypervisor.domains()?.into_iter().map(|info| (info.domain, info)).collect();
        for (domain, session) in &mut self.sessions {
            if domains.get(domain).is_none_or(|info| info.dying)
                && let Some(stop) = session.stop.take()
            {
                // A session that has just ended by itself does not listen any more.
                let _ = stop.send(Stop::Gone);
            }
        }
        self.settled.retain(|domain| domains.contains_key(domain));
        for info in domains.values().filter(|info| info.domain != DomainId::DOM0 && !info.dying && !info.shutdown) {
            if self.sessions.contains_key(&info.domain) || self.settled.contains(&info.domain) {
                continue;
            }
            if let Some((declared, guest)) = self.declared(info).await? {
                self.begin(info, declared, guest).await?;
            }
        }
        Ok(())
    }

    /// What is declared for a domain.
    async fn declared(&self, info: &DomainInfo) -> Result<Option<(Domain, Guest)>, SupervisorError> {
        let path = Path::domain(info.domain).child("name")?;
        let Some(name) = self.xenstore.read_string_if_present(&path).await? else {
            return Ok(None);
        };
        let matches = |domain: &&Domain| match &domain.selector {
            DomainSelector::Name(wanted) => *wanted == name,
            DomainSelector::Uuid(wanted) => *wanted.as_bytes() == info.uuid,
        };
        let found = self.config.domains.iter().find(matches).cloned();
        Ok(found.map(|domain| (domain, Guest { domain: info.domain, name })))
    }

    /// Begins to serve a domain, if its devices are to be had.
    async fn begin(&mut self, info: &DomainInfo, declared: Domain, guest: Guest) -> Result<(), SupervisorError> {
        if info.hvm {
            tracing::error!(domain = %guest, "is hardware virtualised and has no PCI frontend; only PV guests can be served: type=\"pv\"");
            self.refuse(guest);
            return Ok(());
        }
        for device in &declared.devices {
            if matches!(self.pool.get(&device.sbdf), Some(Slot::Unclaimed)) {
                self.claim(device).await?;
            }
        }
        for device in &declared.devices {
            match self.pool.get(&device.sbdf) {
                Some(Slot::Free(_)) => {}
                Some(Slot::Lent(other)) => {
                    // The domain's former life, which is still being taken down. Its end brings us here again.
                    tracing::info!(domain = %guest, function = %device.sbdf, from = other.0, "waits for its device");
                    return Ok(());
                }
                Some(Slot::Unclaimed | Slot::Broken) | None => {
                    tracing::error!(domain = %guest, function = %device.sbdf,
                        "gets no devices: this one is not to be had, for the reason given above");
                    self.refuse(guest);
                    return Ok(());
                }
            }
        }
        let mut devices = Vec::with_capacity(declared.devices.len());
        for device in &declared.devices {
            if let Some(slot) = self.pool.get_mut(&device.sbdf)
                && let Slot::Free(claimed) = std::mem::replace(slot, Slot::Lent(guest.domain))
            {
                devices.push(claimed);
            }
        }
        let (stop, stopped) = oneshot::channel();
        self.sessions.insert(guest.domain, Session { stop: Some(stop) });
        self.running.spawn_local(session::serve(self.host.clone(), self.xenstore.clone(), guest, devices, stopped));
        Ok(())
    }

    /// Takes in what a session gave back.
    fn take_in(&mut self, ended: Ended) {
        self.sessions.remove(&ended.guest.domain);
        for device in ended.devices {
            let (function, slot) = match device {
                Ok(claimed) => {
                    let function = claimed.function();
                    tracing::info!(%function, domain = %ended.guest, "released, in quarantine and ready for the next guest");
                    (function, Slot::Free(claimed))
                }
                Err((claimed, error)) => {
                    let function = claimed.function();
                    tracing::error!(%function, domain = %ended.guest, %error, "cannot be given to another guest");
                    (function, Slot::Broken)
                }
            };
            self.pool.insert(function, slot);
        }
        match ended.outcome {
            Ok(())
                if self
                    .pool
                    .values()
                    .any(|slot| matches!(slot, Slot::Lent(domain) if *domain == ended.guest.domain)) =>
            {
                tracing::warn!(domain = %ended.guest, "left with its devices; it must be restarted to be served again");
            }
            Ok(()) => (self.report)(Event::Released(ended.guest)),
            Err(error) => {
                tracing::error!(domain = %ended.guest, %error, "gets no devices");
                self.refuse(ended.guest);
            }
        }
    }

    /// The domain gets nothing, for as long as it is there.
    fn refuse(&mut self, guest: Guest) {
        self.settled.insert(guest.domain);
        (self.report)(Event::Refused(guest));
    }

    async fn claim(&mut self, device: &Device) -> Result<(), SupervisorError> {
        let (host, device) = (self.host.clone(), *device);
        let function = device.sbdf;
        let slot = match tokio::task::spawn_blocking(move || Claimed::claim(&host, &device)).await? {
            Ok(claimed) => {
                let description = claimed.description();
                tracing::info!(%function, vendor = format_args!("{:04x}", description.vendor),
                    device = format_args!("{:04x}", description.device), "claimed");
                Slot::Free(claimed)
            }
            Err(error) => {
                tracing::error!(%function, %error, "cannot be claimed");
                Slot::Unclaimed
            }
        };
        self.pool.insert(function, slot);
        Ok(())
    }

    /// Gives to dom0 what no guest has. Running guests keep their devices, and their I/O goes on; their configuration accesses
    /// are not answered until the guests start again under a new daemon.
    async fn give_back(&mut self) -> Result<(), SupervisorError> {
        for (function, slot) in std::mem::take(&mut self.pool) {
            match slot {
                Slot::Free(claimed) => {
                    let host = self.host.clone();
                    match tokio::task::spawn_blocking(move || claimed.release(&host)).await? {
                        Ok(()) => tracing::info!(%function, "given back to dom0"),
                        Err(error) => log_stuck(function, &error),
                    }
                }
                Slot::Lent(_) => {}
                Slot::Broken => tracing::warn!(%function, "stays in quarantine"),
                Slot::Unclaimed => {}
            }
        }
        Ok(())
    }
}

fn log_stuck(function: Sbdf, error: &ClaimError) {
    tracing::error!(%function, %error, "could not be given back to dom0");
}
