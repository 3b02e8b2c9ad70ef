//! What is declared, made so and kept so.
//!
//! ```text
//!   watches, news of sessions and commands, deadlines
//!                     │
//!                     ▼                        failed: again after a pause, which doubles
//!      look: host, domains, devices ──► plan ──► actions, each a task of its own ──► toolstack
//!                     ▲                                        │
//!                     └────────────────────────────────────────┘ done
//! ```
//! Level-triggered: an occasion only says that there is something to look at, and each look compares everything.

mod domains;
mod holding;
pub mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, Policies};
use xenpcid_control::EventKind;
use xenpcid_host::Host;
use xenstore_protocol::{Client, Path};

use crate::attempts::Attempts;
use crate::deadline::reached;
use crate::holds::Holds;
use crate::plan::{Action, Function, Plan};
use crate::pool::Slot;
use crate::rate_limit::{Line, RateLimit};
use crate::session::{Guest, Outcome};
use crate::toolstack::{Ended, OperationError, Progress, Toolstack, named};
use domains::Seen;

/// Until the next look, if one failed and nothing else is an occasion for it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long the first claims may take before guests are served without those that are not over.
const CLAIMS_PATIENCE: Duration = Duration::from_secs(90);

/// Until the next look, as long as something is wrong with the host that may come right without a word: a device that is
/// declared and not there.
const LOOK_FOR_DEVICES: Duration = Duration::from_secs(3);

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// xenstore is gone for good, or refuses.
    #[error(transparent)]
    Xenstore(#[from] xenstore_protocol::Error),
    /// The records of holds cannot be read.
    #[error("the records of held domains cannot be read: {0}")]
    Holds(#[from] std::io::Error),
}

/// What happens, for whoever started the daemon.
#[derive(Clone, Debug)]
pub enum Event {
    /// Everything declared was claimed, or it was said why not. Domains are watched.
    Ready,
    /// A domain does not get what it is to have; the log says why. It is tried again.
    Refused(Guest),
    /// A domain is gone, and its devices were taken back.
    Released(Guest),
}

/// What an action is about: one at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Device(Sbdf),
    Domain(DomainId),
}

impl Subject {
    fn of(action: &Action) -> Self {
        match action {
            Action::CreateFunctions { physical: function, .. }
            | Action::Claim { function, .. }
            | Action::Release { function } => Self::Device(*function),
            Action::Detach { guest, .. } | Action::Attach { guest, .. } => Self::Domain(guest.domain),
        }
    }
}

type Done = (Action, Result<(), OperationError>);

/// The daemon at work.
pub struct Supervisor {
    toolstack: Rc<Toolstack>,
    ended: mpsc::UnboundedReceiver<Ended>,
    xenstore: Client,
    holds: Holds,
    attempts: Attempts<Subject>,
    working: JoinSet<Done>,
    /// What `working` is about, with the task of each.
    busy: BTreeMap<Subject, Id>,
    /// The functions of the host, until something may have changed them, as this configuration asked for them.
    functions: Option<(Rc<Config>, Vec<Function>)>,
    /// Problems that were told, by the domain or device.
    told: BTreeSet<(Option<DomainId>, String)>,
    /// Domains that were there at the last look.
    seen: BTreeMap<DomainId, Seen>,
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
        let holds = Holds::new(&host, None);
        let (toolstack, ended) = Toolstack::new(host, xenstore.clone(), config, policies);
        Self {
            toolstack,
            ended,
            xenstore,
            holds,
            attempts: Attempts::default(),
            working: JoinSet::new(),
            busy: BTreeMap::new(),
            functions: None,
            told: BTreeSet::new(),
            seen: BTreeMap::new(),
            report: Box::new(report),
        }
    }

    /// With a folder where holds are recorded, so that the next daemon ends those that this one did not get to end.
    #[must_use]
    pub fn with_records(mut self, folder: PathBuf) -> Self {
        self.holds = Holds::new(self.toolstack.host(), Some(folder));
        self
    }

    /// What carries everything out, for commands.
    #[must_use]
    pub fn toolstack(&self) -> Rc<Toolstack> {
        self.toolstack.clone()
    }

    /// Claims what is declared, serves domains as they come and go until `shutdown`, and gives back to dom0 what
    /// no guest has.
    ///
    /// To be run in the `LocalSet` where commands are given, too: one thread runs the whole control plane; what blocks, and
    /// each guest's ring, has a thread of its own.
    ///
    /// # Errors
    /// What ended it before that.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        let result = self.serve(shutdown).await;
        self.leave().await;
        result
    }

    async fn serve(&mut self, shutdown: impl Future<Output = ()>) -> Result<(), SupervisorError> {
        self.holds.recover()?;
        let mut introduced = self.xenstore.watch(&Path::INTRODUCE_DOMAIN).await?;
        let mut released = self.xenstore.watch(&Path::RELEASE_DOMAIN).await?;
        let mut complaints = RateLimit::default();
        let mut is_ready = false;
        let ready_at = Instant::now() + CLAIMS_PATIENCE;
        let toolstack = self.toolstack.clone();
        tokio::pin!(shutdown);
        loop {
            let mut again = None;
            match self.reconcile(is_ready).await {
                Ok(lacks) => {
                    // A claim that hangs in the kernel must not keep every guest waiting.
                    if !is_ready && (self.working.is_empty() || Instant::now() >= ready_at) {
                        is_ready = true;
                        tracing::info!("ready");
                        (self.report)(Event::Ready);
                        continue;
                    }
                    if lacks {
                        again = Some(Instant::now() + LOOK_FOR_DEVICES);
                    }
                }
                Err(error) => {
                    if let Some(Line { suppressed }) = complaints.admit() {
                        tracing::warn!(%error, suppressed, "the domains cannot be looked at");
                    }
                    again = Some(Instant::now() + LOOK_AGAIN);
                }
            }
            let claimed = (!is_ready).then_some(ready_at);
            let deadline =
                self.holds.deadline().into_iter().chain(self.attempts.next()).chain(again).chain(claimed).min();
            tokio::select! {
                change = introduced.changed() => {
                    change?;
                    self.functions = None;
                }
                change = released.changed() => drop(change?),
                Some((guest, outcome)) = self.ended.recv() => self.session_ended(guest, outcome),
                Some(done) = self.working.join_next() => self.take_in(done),
                () = toolstack.woken() => {}
                () = reached(deadline) => self.functions = None,
                () = &mut shutdown => return Ok(()),
            }
        }
    }

    /// Looks at everything, and begins what is to be done and can be. Whether something is wrong that does not pass by what
    /// the daemon does.
    async fn reconcile(&mut self, is_ready: bool) -> Result<bool, OperationError> {
        let occasion = self.toolstack.occasion();
        let declared = self.toolstack.declared();
        let known = self.functions.take().filter(|(config, _)| Rc::ptr_eq(config, &declared.config));
        let functions = match known {
            Some((_, functions)) => functions,
            None => look::functions(&self.toolstack).await?,
        };
        let look = look::look(&self.toolstack, functions).await?;
        let new = self.notice_domains(&look.domains);
        let plan = {
            let by_hand = self.toolstack.by_hand().borrow();
            Plan::new(&look.picture(&declared.config, &by_hand))
        };
        if is_ready {
            self.hold(&look, &new, &plan);
        }
        self.functions = Some((declared.config, look.functions));
        self.tell_problems(&plan);
        let wanted: BTreeSet<Subject> = plan.actions.iter().map(Subject::of).collect();
        let is_over = |subject: &Subject| {
            // A domain's attachment waits, now and then, for devices that are on their way.
            matches!(subject, Subject::Device(_)) && !wanted.contains(subject) && !self.busy.contains_key(subject)
        };
        self.attempts.forget_those(is_over);
        let problems = plan.problems;
        let lacks = problems.iter().any(|problem| !problem.passes);
        for action in plan.actions {
            let subject = Subject::of(&action);
            let is_for_guest = matches!(subject, Subject::Domain(_));
            let free = !self.is_busy(&subject, &action);
            if (is_ready || !is_for_guest) && free && self.attempts.may(&subject) {
                let toolstack = self.toolstack.clone();
                let task = self.working.spawn_local(async move {
                    let result = carry_out(&toolstack, &action).await;
                    (action, result)
                });
                self.busy.insert(subject, task.id());
            }
        }
        let failed = |(subject, reason): (&Subject, &str)| match subject {
            Subject::Device(function) => (Some(*function), reason.to_owned()),
            Subject::Domain(_) => (None, reason.to_owned()),
        };
        let failures = self.attempts.reasons().map(failed).collect();
        let held = self.holds.held().into_iter().map(|guest| guest.domain).collect();
        self.toolstack.looked(Progress { occasion, busy: !self.busy.is_empty(), failures, held, problems });
        Ok(lacks)
    }

    /// Whether something else is being done about the same, also to one of the devices that a guest is to get.
    fn is_busy(&self, subject: &Subject, action: &Action) -> bool {
        let on_its_way = match action {
            Action::Attach { requests, .. } => {
                requests.iter().any(|request| self.busy.contains_key(&Subject::Device(request.function)))
            }
            _ => false,
        };
        on_its_way || self.busy.contains_key(subject) || self.toolstack.is_busy(action)
    }

    fn tell(&self, kind: EventKind, text: String, guest: Option<&Guest>) {
        let event = xenpcid_control::Event::now(kind, text);
        let event = match guest {
            Some(guest) => event.to(named(guest)),
            None => event,
        };
        self.toolstack.events().publish(event);
    }

    /// Says each problem once.
    fn tell_problems(&mut self, plan: &Plan) {
        for problem in plan.problems.iter().filter(|problem| !problem.passes) {
            let key = (problem.guest.as_ref().map(|guest| guest.domain), problem.text.clone());
            if self.told.insert(key) {
                self.tell(EventKind::Failed, problem.text.clone(), problem.guest.as_ref());
                match &problem.guest {
                    Some(guest) => {
                        tracing::error!(domain = %guest, "gets no devices: {}", problem.text);
                        (self.report)(Event::Refused(guest.clone()));
                    }
                    None => tracing::error!(device = problem.device, "{}", problem.text),
                }
            }
        }
        let still = |(domain, text): &(Option<DomainId>, String)| {
            plan.problems.iter().any(|p| p.text == *text && p.guest.as_ref().map(|guest| guest.domain) == *domain)
        };
        self.told.retain(still);
    }

    fn take_in(&mut self, done: Result<Done, JoinError>) {
        let (action, result) = match done {
            Ok(done) => done,
            Err(error) => return self.ended_badly(&error),
        };
        let subject = Subject::of(&action);
        self.busy.remove(&subject);
        if result.is_err() || matches!(action, Action::CreateFunctions { .. }) {
            self.functions = None;
        }
        let Err(error) = result else {
            self.attempts.forget(&subject);
            return;
        };
        if !self.attempts.failed(subject, error.to_string()) {
            tracing::debug!(%action, %error, "failed again");
            return;
        }
        tracing::error!(%error, "could not {action}; it is tried again");
        let guest = match action {
            Action::Attach { guest, .. } => Some(guest),
            _ => None,
        };
        self.tell(EventKind::Failed, error.to_string(), guest.as_ref());
        if let Some(guest) = guest {
            (self.report)(Event::Refused(guest));
        }
    }

    /// What a task was about that panicked is tried again as if it had failed, and is not busy for ever.
    fn ended_badly(&mut self, error: &JoinError) {
        let reason = format!("an action ended badly; this is a defect, please report it: {error}");
        tracing::error!("{reason}");
        // Nobody knows how far it came.
        self.functions = None;
        let subject = self.busy.iter().find(|(_, task)| **task == error.id()).map(|(subject, _)| subject.clone());
        if let Some(subject) = subject {
            self.busy.remove(&subject);
            self.tell(EventKind::Failed, reason.clone(), None);
            self.attempts.failed(subject, reason);
        }
    }

    fn session_ended(&mut self, guest: Guest, outcome: Option<Outcome>) {
        self.toolstack.forget(&guest);
        match outcome {
            Some(Outcome::Released) => (self.report)(Event::Released(guest)),
            Some(Outcome::Left) => {
                tracing::warn!(domain = %guest, "left with its devices; restart it to have it served again");
            }
            None => {}
        }
    }

    /// Ends all sessions, whose guests keep their devices, and gives to dom0 what no guest has. The guests' I/O goes on; their
    /// configuration accesses are not answered until they start again under a new daemon.
    async fn leave(&mut self) {
        self.holds.let_all_go();
        // What is being done must not be abandoned.
        while let Some(done) = self.working.join_next().await {
            self.take_in(done);
        }
        for _ in 0..self.toolstack.leave() {
            if let Some((guest, outcome)) = self.ended.recv().await {
                self.session_ended(guest, outcome);
            }
        }
        let functions: Vec<Sbdf> = self.toolstack.pool().lock().keys().copied().collect();
        for function in functions {
            let (is_free, broken) = match self.toolstack.pool().lock().get(&function).map(|entry| &entry.slot) {
                Some(Slot::Free(_)) => (true, None),
                Some(Slot::Broken(_, reason)) => (false, Some(reason.clone())),
                _ => (false, None),
            };
            if let Some(reason) = broken {
                tracing::warn!(%function, reason, "stays in quarantine");
            }
            if is_free {
                if let Err(error) = self.toolstack.release(function, true).await {
                    tracing::error!(%function, %error, "could not be given back to dom0");
                }
            }
        }
    }
}

async fn carry_out(toolstack: &Rc<Toolstack>, action: &Action) -> Result<(), OperationError> {
    match action {
        Action::CreateFunctions { physical, count, .. } => toolstack.create_functions(*physical, *count).await,
        Action::Claim { function, device } => toolstack.claim(*function, device).await,
        Action::Release { function } => toolstack.release(*function, true).await,
        Action::Detach { guest, functions } => {
            let patience = toolstack.declared().config.settings.detach_timeout;
            toolstack.detach(guest, functions.clone(), false, patience).await
        }
        Action::Attach { guest, requests } => {
            let patience = toolstack.declared().config.settings.detach_timeout;
            toolstack.attach(guest, requests.clone(), patience).await.map(drop)
        }
    }
}
