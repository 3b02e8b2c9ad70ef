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
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet, LocalSet};
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Domain, DomainSelector, Policies};
use xenpcid_host::{DomainInfo, Host, HostError};
use xenstore_protocol::{Client, InvalidPath, Path};

use crate::claim::Claimed;
use crate::pool::{Declared, Pool, Slot};
use crate::rate_limit::{Line, RateLimit};
use crate::session::{self, Ended, Guest, Outcome, Stop};

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
    Path(#[from] InvalidPath),
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
    policies: Arc<Policies>,
    pool: Arc<Pool>,
    sessions: BTreeMap<DomainId, Session>,
    running: JoinSet<Ended>,
    /// Domains that were told why they get nothing. Forgotten when they are gone.
    settled: BTreeSet<DomainId>,
    report: Box<dyn FnMut(Event)>,
}

impl Supervisor {
    /// A daemon for what is declared; `report` is told what happens.
    #[must_use]
    pub fn new(
        host: Host,
        xenstore: Client,
        config: Config,
        policies: Policies,
        report: impl FnMut(Event) + 'static,
    ) -> Self {
        let pool = Arc::new(Pool::new(&config));
        Self {
            host,
            xenstore,
            config,
            policies: Arc::new(policies),
            pool,
            sessions: BTreeMap::new(),
            running: JoinSet::new(),
            settled: BTreeSet::new(),
            report: Box::new(report),
        }
    }

    /// Where each device is, for others to look.
    #[must_use]
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// Claims what is declared, serves domains as they come and go until `shutdown`, and gives back to dom0 what
    /// no guest has.
    ///
    /// # Errors
    /// What ended it before that.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        // One thread runs the whole control plane; what blocks, and each guest's ring, has a thread of its own.
        let result = LocalSet::new().run_until(self.serve(shutdown)).await;
        self.give_back().await;
        result
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        let mut introduced = self.xenstore.watch(&Path::INTRODUCE_DOMAIN).await?;
        let mut released = self.xenstore.watch(&Path::RELEASE_DOMAIN).await?;
        tokio::pin!(shutdown);
        let devices: Vec<Sbdf> =
            self.config.domains.iter().flat_map(|domain| &domain.devices).map(|device| device.sbdf).collect();
        for device in devices {
            tokio::select! {
                biased;
                // Between two claims and not in one, which must not be abandoned.
                () = &mut shutdown => return Ok(()),
                () = std::future::ready(()) => self.claim(device).await,
            }
        }
        tracing::info!("ready");
        (self.report)(Event::Ready);
        let mut complaints = RateLimit::default();
        loop {
            // The next change, or the next connection to xenstore, is another occasion.
            if let Err(error) = self.reconcile().await {
                if let Some(Line { suppressed }) = complaints.admit() {
                    tracing::warn!(%error, suppressed, "the domains cannot be looked at");
                }
            }
            tokio::select! {
                change = introduced.changed() => { change?; }
                change = released.changed() => { change?; }
                Some(ended) = self.running.join_next() => self.take_in(ended),
                () = &mut shutdown => {
                    self.leave().await;
                    return Ok(());
                }
            }
        }
    }

    /// Ends all sessions. Guests that are there keep their devices.
    async fn leave(&mut self) {
        for session in self.sessions.values_mut() {
            if let Some(stop) = session.stop.take() {
                // A session that has just ended by itself does not listen any more.
                let _ = stop.send(Stop::Leave);
            }
        }
        while let Some(ended) = self.running.join_next().await {
            self.take_in(ended);
        }
    }

    /// Compares the domains there are with those that are served.
    async fn reconcile(&mut self) -> Result<(), SupervisorError> {
        let domains: BTreeMap<_, _> =
            self.host.hypervisor.domains()?.into_iter().map(|info| (info.domain, info)).collect();
        for (domain, session) in &mut self.sessions {
            if domains.get(domain).is_none_or(|info| info.dying) {
                if let Some(stop) = session.stop.take() {
                    // A session that has just ended by itself does not listen any more.
                    let _ = stop.send(Stop::Gone);
                }
            }
        }
        self.settled.retain(|domain| domains.contains_key(domain));
        for info in domains.values().filter(|info| info.domain != DomainId::DOM0 && !info.dying && !info.shutdown) {
            if self.sessions.contains_key(&info.domain) || self.settled.contains(&info.domain) {
                continue;
            }
            if let Some((declared, guest)) = self.declared(info).await? {
                self.begin(info, declared, guest).await;
            }
        }
        Ok(())
    }

    /// What is declared for a domain.
    async fn declared(&self, info: &DomainInfo) -> Result<Option<(Domain, Guest)>, SupervisorError> {
        let path = Path::domain(info.domain).child("name")?;
        // Any bytes can be a name, and other domains' names are none of ours.
        let Some(name) = self.xenstore.read_if_present(&path).await? else {
            return Ok(None);
        };
        let matches = |domain: &&Domain| match &domain.selector {
            DomainSelector::Name(wanted) => wanted.as_bytes() == name,
            DomainSelector::Uuid(wanted) => *wanted.as_bytes() == info.uuid,
        };
        let found = self.config.domains.iter().find(matches).cloned();
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(found.map(|domain| (domain, Guest { domain: info.domain, name })))
    }

    /// Begins to serve a domain, if its devices are to be had.
    async fn begin(&mut self, info: &DomainInfo, declared: Domain, guest: Guest) {
        if info.hvm {
            tracing::error!(domain = %guest, "is hardware virtualised and has no PCI frontend; only PV guests can be served: type=\"pv\"");
            return self.refuse(guest);
        }
        for device in &declared.devices {
            if let Some(Slot::Lent(other, _)) = self.pool.lock().get(&device.sbdf).map(|declared| &declared.slot) {
                // The domain's former life, which is still being taken down. Its end brings us here again.
                tracing::info!(domain = %guest, function = %device.sbdf, from = %other, "waits for its device");
                return;
            }
        }
        for device in &declared.devices {
            if self.is(device.sbdf, |slot| matches!(slot, Slot::Unclaimed)) {
                self.claim(device.sbdf).await;
            }
            if !self.is(device.sbdf, |slot| matches!(slot, Slot::Free(_))) {
                tracing::error!(domain = %guest, function = %device.sbdf,
                    "gets no devices: this one is not to be had, for the reason given above");
                return self.refuse(guest);
            }
        }
        let mut devices = Vec::with_capacity(declared.devices.len());
        for device in &declared.devices {
            let mut pool = self.pool.lock();
            let Some(Declared { slot, .. }) = pool.get_mut(&device.sbdf) else { continue };
            let Some(facts) = slot.facts().cloned() else { continue };
            facts.denials.begin(&guest);
            if let Slot::Free(claimed) = std::mem::replace(slot, Slot::Lent(guest.clone(), facts)) {
                devices.push(claimed);
            }
        }
        let (stop, stopped) = oneshot::channel();
        self.sessions.insert(guest.domain, Session { stop: Some(stop) });
        self.running.spawn_local(session::serve(self.host.clone(), self.xenstore.clone(), guest, devices, stopped));
    }

    fn is(&self, function: Sbdf, what: impl Fn(&Slot) -> bool) -> bool {
        self.pool.lock().get(&function).is_some_and(|declared| what(&declared.slot))
    }

    /// Takes in what a session gave back.
    fn take_in(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { guest, devices, outcome } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                tracing::error!(%error, "a session ended badly and its devices stay where they are; this is a defect, please report it");
                return;
            }
        };
        self.sessions.remove(&guest.domain);
        for device in devices {
            let (function, slot) = match device {
                Ok(claimed) => {
                    let function = claimed.function();
                    tracing::info!(%function, domain = %guest, "released, in quarantine and ready for the next guest");
                    (function, Slot::Free(claimed))
                }
                Err((claimed, error)) => {
                    let function = claimed.function();
                    tracing::error!(%function, domain = %guest, %error, "cannot be given to another guest");
                    (function, Slot::Broken(claimed.facts().clone()))
                }
            };
            self.pool.put(function, slot);
        }
        match outcome {
            Outcome::Released => (self.report)(Event::Released(guest)),
            Outcome::Left => {
                tracing::warn!(domain = %guest, "left with its devices; restart it to have it served again")
            }
            Outcome::Refused(error) => {
                tracing::error!(domain = %guest, %error, "gets no devices");
                self.refuse(guest);
            }
        }
    }

    /// The domain gets nothing, for as long as it is there.
    fn refuse(&mut self, guest: Guest) {
        self.settled.insert(guest.domain);
        (self.report)(Event::Refused(guest));
    }

    async fn claim(&mut self, function: Sbdf) {
        let Some((device, vectors)) =
            self.pool.lock().get(&function).map(|declared| (declared.device.clone(), declared.vectors))
        else {
            return;
        };
        let (host, policies) = (self.host.clone(), self.policies.clone());
        match tokio::task::spawn_blocking(move || Claimed::claim(&host, &device, &policies, vectors)).await {
            Ok(Ok(claimed)) => {
                let description = claimed.description();
                tracing::info!(%function, vendor = format_args!("{:04x}", description.vendor),
                    device = format_args!("{:04x}", description.device), policy = %claimed.facts().policy.name, "claimed");
                self.pool.put(function, Slot::Free(claimed));
            }
            Ok(Err(error)) => tracing::error!(%function, %error, "cannot be claimed"),
            Err(error) => {
                tracing::error!(%function, %error, "the claim ended badly; this is a defect, please report it")
            }
        }
    }

    /// Gives to dom0 what no guest has. Running guests keep their devices, and their I/O goes on; their configuration accesses
    /// are not answered until the guests start again under a new daemon.
    async fn give_back(&mut self) {
        let devices = std::mem::take(&mut *self.pool.lock());
        for (function, declared) in devices {
            match declared.slot {
                Slot::Free(claimed) => {
                    let host = self.host.clone();
                    match tokio::task::spawn_blocking(move || claimed.release(&host)).await {
                        Ok(Ok(())) => tracing::info!(%function, "given back to dom0"),
                        Ok(Err(error)) => tracing::error!(%function, %error, "could not be given back to dom0"),
                        Err(error) => {
                            tracing::error!(%function, %error, "the release ended badly; this is a defect, please report it")
                        }
                    }
                }
                Slot::Broken(_) => tracing::warn!(%function, "stays in quarantine"),
                Slot::Lent(..) | Slot::Unclaimed => {}
            }
        }
    }
}
