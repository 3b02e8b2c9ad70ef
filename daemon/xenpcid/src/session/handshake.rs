//! How the two states on xenbus follow each other, and how devices come and go while the guest runs.
//!
//! ```text
//!                                  Settled
//!          attach, while connected  │   │  detach; or another toolstack asks, by the nodes
//!        devices listed, backend 7  │   │  state-N of the devices 5, backend 7
//!                    ┌──────────────┘   └──────────────┐
//!                    ▼                                  ▼          deadline, not forced: state-N 3, backend 4
//!                 Arriving                           Leaving  ───────────────────────────────────────► Settled
//!       frontend 7:  │  backend 8      frontend 7:     │  devices off the bus, backend 8; then they are renewed
//!                    └──────────────┬──────────────────┤
//!                                   ▼                  │ deadline, forced, or no frontend that could answer:
//!                               Finishing              │ devices off the bus, backend 4 if it was
//!             frontend 4, deadline: │ backend 4        │
//!                                   ▼                  ▼
//!                                  Settled ◄───────────┘
//! ```
//! Level-triggered: each look reads both directories as they are now, whatever happened before.
//!
//! libxl removes the devices of a domain by these nodes when it destroys it (`xl destroy`), one after the other, each after it
//! has revoked everything and deassigned the device. It waits up to 10 s for the backend to be 4, sets state-N to 5 and the
//! backend to 7, waits up to 10 s for 4 again, and removes the nodes. So
//! * it is answered as soon as the guest has let go, and without the guest after [`TOOLSTACK_PATIENCE`];
//! * once that has passed for one device, at once for those that follow within [`HURRY`];
//! * at once also if the guest is paused;
//! * the backend of a guest that has shut down or crashed is 4 whatever its frontend is: there is nobody else to look at it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use xenpcid_address::Sbdf;
use xenstore_protocol::Error as XenstoreError;
use xenstore_protocol::pci_nodes::{BackendView, RingNodes};
use xenstore_protocol::xenbus::XenbusState;

use super::{Attached, Session, SessionError, answer};
use crate::assignment::Assigned;
use crate::ring::{RingServer, lock};

/// How long a guest has to let go of a device that another toolstack has taken from it already.
const TOOLSTACK_PATIENCE: Duration = Duration::from_millis(500);
/// How long, after a guest did not let go in time for another toolstack, it is not waited for again.
const HURRY: Duration = Duration::from_secs(5);
/// How long a guest has to say that it has looked at its bus again.
const FINISHING_PATIENCE: Duration = Duration::from_secs(10);

/// Who wants devices to leave.
pub(super) enum By {
    /// Whoever called the daemon.
    Operator { force: bool, patience: Duration, reply: oneshot::Sender<Result<(), SessionError>> },
    /// Somebody who wrote to the nodes.
    Toolstack,
}

/// Where a change of the bus stands.
pub(super) enum Phase {
    /// No change is in progress.
    Settled,
    /// The guest is asked to look at its bus again.
    Arriving { attached: Attached, deadline: Instant, reply: oneshot::Sender<Result<Attached, SessionError>> },
    /// The guest is asked to let go.
    Leaving { functions: Vec<Sbdf>, deadline: Instant, by: By },
    /// The guest looks at its bus again.
    Finishing { deadline: Instant, arrived: Option<(Attached, oneshot::Sender<Result<Attached, SessionError>>)> },
}

impl Phase {
    pub(super) fn arriving(
        attached: Attached,
        patience: Duration,
        reply: oneshot::Sender<Result<Attached, SessionError>>,
    ) -> Self {
        Self::Arriving { attached, deadline: Instant::now() + patience, reply }
    }

    pub(super) fn leaving(
        functions: Vec<Sbdf>,
        patience: Duration,
        force: bool,
        reply: oneshot::Sender<Result<(), SessionError>>,
    ) -> Self {
        let by = By::Operator { force, patience, reply };
        Self::Leaving { functions, deadline: Instant::now() + patience, by }
    }

    /// When to look again although nothing changes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Settled => None,
            Self::Arriving { deadline, .. } | Self::Leaving { deadline, .. } | Self::Finishing { deadline, .. } => {
                Some(*deadline)
            }
        }
    }
}

/// What is in xenstore, at one moment.
struct Seen {
    backend: BackendView,
    frontend: XenbusState,
    /// What the guest published, or what is wrong with it.
    ring: Result<Option<RingNodes>, XenstoreError>,
}

impl Seen {
    /// Whether there is a frontend that can answer.
    fn connected(&self) -> bool {
        matches!(self.frontend, XenbusState::Initialised | XenbusState::Connected | XenbusState::Reconfiguring)
            && matches!(
                self.backend.state,
                XenbusState::Connected | XenbusState::Reconfiguring | XenbusState::Reconfigured
            )
    }
}

impl Session {
    /// Reacts to the states as they are now, whatever they were before.
    pub(super) async fn follow(&mut self) -> Result<(), XenstoreError> {
        let seen = self.look().await?;
        if seen.backend.state == XenbusState::Unknown {
            // Not published yet, or removed by another toolstack after the last device.
            return self.without_nodes().await;
        }
        self.unlist_strangers(&seen.backend).await?;
        if !self.asked_in_vain.is_empty() {
            self.keep_what_was_asked().await?;
            return Box::pin(self.follow()).await;
        }
        self.notice_toolstack(&seen);
        match std::mem::replace(&mut self.phase, Phase::Settled) {
            Phase::Settled => self.settled(seen).await,
            Phase::Arriving { attached, deadline, reply } => self.arriving(&seen, attached, deadline, reply).await,
            Phase::Leaving { functions, deadline, by } => self.leaving(&seen, functions, deadline, by).await,
            Phase::Finishing { deadline, arrived } => self.finishing(&seen, deadline, arrived).await,
        }
    }

    /// Not in one transaction: a guest that writes its nodes all the time would keep it from ever being committed.
    async fn look(&self) -> Result<Seen, XenstoreError> {
        let nodes = &self.nodes;
        let backend = self.xenstore.transaction(async |transaction| nodes.read_backend(transaction).await).await?;
        // The state is read first, and the nodes that belong to it were written before it, or with it.
        let (frontend, ring) = match nodes.read_frontend(&self.xenstore).await {
            Ok(view) => (view.state, Ok(view.ring)),
            // The state alone may be in order.
            Err(error @ XenstoreError::Malformed { .. }) => {
                (nodes.read_frontend_state(&self.xenstore).await.unwrap_or(XenbusState::Unknown), Err(error))
            }
            Err(error) => return Err(error),
        };
        Ok(Seen { backend, frontend, ring })
    }

    /// Without xenstore nobody can be asked; who said that he does not wait for the guest does not wait for that either.
    pub(super) async fn take_without_nodes(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Settled) {
            Phase::Leaving { functions, deadline, by: by @ By::Operator { force: true, .. } }
                if deadline <= Instant::now() =>
            {
                if let Err(error) = self.complete(functions, by, None).await {
                    self.complain(&error, "its nodes still name devices that it does not have any more");
                }
            }
            other => self.phase = other,
        }
    }

    /// Writes down that the guest keeps what it was asked for in vain.
    async fn keep_what_was_asked(&mut self) -> Result<(), XenstoreError> {
        self.keep(&self.asked_in_vain).await?;
        self.asked_in_vain.clear();
        Ok(())
    }

    /// Without nodes there is nobody to ask, and what was asked for is done.
    async fn without_nodes(&mut self) -> Result<(), XenstoreError> {
        match std::mem::replace(&mut self.phase, Phase::Settled) {
            Phase::Leaving { functions, by, .. } => self.complete(functions, by, None).await,
            Phase::Arriving { attached, reply, .. } | Phase::Finishing { arrived: Some((attached, reply)), .. } => {
                answer(reply, Ok(Attached { unanswered: true, ..attached }));
                Ok(())
            }
            Phase::Finishing { arrived: None, .. } | Phase::Settled => Ok(()),
        }
    }

    /// Nodes of devices that the guest does not have: a publication that was thought to have failed, or a removal that did.
    async fn unlist_strangers(&self, backend: &BackendView) -> Result<(), XenstoreError> {
        let known = |host: Sbdf| self.places.has(host);
        let strangers: Vec<_> = backend
            .devices
            .iter()
            // Those that are closed belong to the toolstack that took them, and removes them.
            .filter(|device| device.state != XenbusState::Closed && !known(device.host))
            .map(|device| device.host)
            .collect();
        if strangers.is_empty() { Ok(()) } else { self.unlist(&strangers, false, None).await }
    }

    /// Whether somebody else asks the guest to let go of devices.
    fn notice_toolstack(&mut self, seen: &Seen) {
        let closing = seen.backend.devices.iter().filter(|device| device.state == XenbusState::Closing);
        let closing: Vec<_> = closing.map(|device| device.host).filter(|host| self.places.has(*host)).collect();
        match &mut self.phase {
            Phase::Settled if !closing.is_empty() || seen.backend.state == XenbusState::Reconfiguring => {
                let paused = matches!(self.host.hypervisor.domain(self.guest.domain), Ok(Some(info)) if info.paused);
                let patience = if paused || self.in_a_hurry() { Duration::ZERO } else { TOOLSTACK_PATIENCE };
                self.phase =
                    Phase::Leaving { functions: closing, deadline: Instant::now() + patience, by: By::Toolstack };
            }
            Phase::Leaving { functions, by: By::Toolstack, .. } => {
                for function in closing {
                    if !functions.contains(&function) {
                        functions.push(function);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether another toolstack was just kept waiting for nothing.
    fn in_a_hurry(&self) -> bool {
        self.hurry.is_some_and(|until| Instant::now() < until)
    }

    async fn settled(&mut self, seen: Seen) -> Result<(), XenstoreError> {
        if !self.runs() {
            return self.switch(XenbusState::Connected).await;
        }
        match (seen.frontend, seen.ring?) {
            (XenbusState::Initialised, Some(ring)) => match self.connect(ring).await {
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
            // Another toolstack waits for the backend to be connected; the guest's turn comes when it is through.
            (XenbusState::Reconfiguring, _) if self.in_a_hurry() => Ok(()),
            // A change that was over for us before it was for the guest.
            (XenbusState::Reconfiguring, _) => {
                self.phase = Phase::Finishing { deadline: Instant::now() + FINISHING_PATIENCE, arrived: None };
                self.switch(XenbusState::Reconfigured).await
            }
            (XenbusState::Connected, _) if seen.backend.state == XenbusState::Reconfigured => {
                self.switch(XenbusState::Connected).await
            }
            (XenbusState::Closing, _) => {
                self.stop_ring().await;
                self.switch(XenbusState::Closing).await
            }
            // A frontend that is there for the first time, has gone, or starts again. Linux' closes at once if it comes back and
            // finds the backend closed.
            (XenbusState::Initialising | XenbusState::Closed, _) if seen.backend.state != XenbusState::Initialised => {
                self.start_over().await;
                self.switch(XenbusState::Initialised).await
            }
            _ => Ok(()),
        }
    }

    /// Maps the guest's page, binds its port, and answers what is asked there; `false` if that is done already.
    async fn connect(&mut self, nodes: RingNodes) -> Result<bool, SessionError> {
        if self.ring.as_ref().is_some_and(|(_, served)| *served == nodes) {
            return Ok(false);
        }
        if self.ring.is_some() {
            self.start_over().await;
        }
        let page = self.host.grants.map(self.guest.domain, nodes.grant_reference)?;
        let port = self.host.events.bind(self.guest.domain, nodes.event_channel)?;
        let ring = RingServer::start(self.bus.clone(), page, port).map_err(SessionError::NoThread)?;
        self.ring = Some((ring, nodes));
        Ok(true)
    }

    /// The guest's frontend is gone, and the next one knows nothing of what it did.
    async fn start_over(&mut self) {
        self.stop_ring().await;
        let bus = self.bus.clone();
        match super::on_thread(&self.host, move |_| lock(&bus).start_over()).await {
            Ok(()) => self.tell("its frontend is gone; its devices were reset for the next one"),
            Err(error) => self.complain(&error, "its devices could not be reset for its next frontend"),
        }
    }

    async fn arriving(
        &mut self,
        seen: &Seen,
        attached: Attached,
        deadline: Instant,
        reply: oneshot::Sender<Result<Attached, SessionError>>,
    ) -> Result<(), XenstoreError> {
        if seen.frontend == XenbusState::Reconfiguring {
            let deadline = Instant::now() + FINISHING_PATIENCE;
            self.phase = Phase::Finishing { deadline, arrived: Some((attached, reply)) };
            return self.switch(XenbusState::Reconfigured).await;
        }
        if seen.connected() && Instant::now() < deadline && self.runs() {
            self.phase = Phase::Arriving { attached, deadline, reply };
            return Ok(());
        }
        // It finds the devices when it looks, now or when it comes back.
        answer(reply, Ok(Attached { unanswered: true, ..attached }));
        if seen.connected() { self.switch(XenbusState::Connected).await } else { Ok(()) }
    }

    async fn finishing(
        &mut self,
        seen: &Seen,
        deadline: Instant,
        arrived: Option<(Attached, oneshot::Sender<Result<Attached, SessionError>>)>,
    ) -> Result<(), XenstoreError> {
        let waiting = seen.frontend == XenbusState::Reconfiguring;
        if waiting && Instant::now() < deadline && self.runs() {
            self.phase = Phase::Finishing { deadline, arrived };
            return Ok(());
        }
        if let Some((attached, reply)) = arrived {
            answer(reply, Ok(Attached { unanswered: waiting, ..attached }));
        }
        if seen.connected() { self.switch(XenbusState::Connected).await } else { Ok(()) }
    }

    async fn leaving(
        &mut self,
        seen: &Seen,
        functions: Vec<Sbdf>,
        deadline: Instant,
        by: By,
    ) -> Result<(), XenstoreError> {
        let let_go = seen.frontend == XenbusState::Reconfiguring;
        if !let_go && seen.connected() && self.runs() {
            if Instant::now() < deadline {
                self.phase = Phase::Leaving { functions, deadline, by };
                return Ok(());
            }
            if let By::Operator { force: false, patience, reply } = by {
                self.asked_in_vain = functions;
                let kept = self.keep_what_was_asked().await;
                answer(reply, Err(SessionError::NotLetGo { guest: self.guest.clone(), patience }));
                return kept;
            }
        }
        let state = match (let_go, seen.connected()) {
            (true, _) => Some(XenbusState::Reconfigured),
            (false, true) => Some(XenbusState::Connected),
            // libxl waits for this one whatever the frontend is.
            (false, false) if matches!(by, By::Toolstack) && seen.backend.state == XenbusState::Reconfiguring => {
                Some(XenbusState::Connected)
            }
            (false, false) => None,
        };
        if !let_go && matches!(by, By::Toolstack) {
            self.hurry = Some(Instant::now() + HURRY);
        }
        if let_go {
            self.phase = Phase::Finishing { deadline: Instant::now() + FINISHING_PATIENCE, arrived: None };
        }
        self.complete(functions, by, state).await
    }

    /// The devices leave: first nobody answers for them, then the guest is told, then they are renewed.
    async fn complete(
        &mut self,
        functions: Vec<Sbdf>,
        by: By,
        state: Option<XenbusState>,
    ) -> Result<(), XenstoreError> {
        let removed: Vec<Assigned> = match self.remove(&functions).await {
            Ok(removed) => removed,
            Err(error) => {
                self.complain(&error, "its devices could not be taken back");
                Vec::new()
            }
        };
        let by_toolstack = matches!(by, By::Toolstack);
        let unlisted = self.unlist(&functions, by_toolstack, state).await;
        match by {
            By::Operator { reply, .. } => {
                tracing::info!(domain = %self.guest, functions = %list(&functions), "let go of its devices");
                self.renew(removed, move |renewed| answer(reply, renewed));
            }
            By::Toolstack => {
                if !functions.is_empty() {
                    tracing::info!(domain = %self.guest, functions = %list(&functions), "another toolstack took its devices");
                    (self.withdrawn)(&self.guest, &functions);
                }
                self.renew(removed, |_| ());
            }
        }
        unlisted
    }

    /// Whether the guest can answer at all: it is there, and has not shut down or crashed.
    fn runs(&self) -> bool {
        match self.host.hypervisor.domain(self.guest.domain) {
            Ok(Some(info)) => !info.dying && info.shutdown.is_none(),
            Ok(None) => false,
            // Then its silence will tell.
            Err(_) => true,
        }
    }
}

fn list(functions: &[Sbdf]) -> String {
    functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
