//! A service of recorded answers behind a real socket, for tests of clients.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use xenpcid_address::Sbdf;

use crate::denied::Denied;
use crate::description::DeviceDescription;
use crate::dispatch::Service;
use crate::events::{Event, EventKind, Events, Watcher};
use crate::interface::{DeniedReply, Examine, Method};
use crate::operations::{Apply, Attach, Attached, Claim, Claimed, Detach, Release};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::types::{Device, Domain, Finding, Function, Interrupt, Plan, Status};

/// A call of a method that changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the methods are")]
pub enum Called {
    Apply(Apply),
    Attach(Attach),
    Detach(Detach),
    Claim(Claim),
    Release(Release),
}

/// A service that answers what it was given.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Answer to `GetStatus`; none is a failure.
    pub status: Option<Status>,
    /// Answer to `ListDevices`.
    pub devices: Vec<Device>,
    /// Claimed devices.
    pub descriptions: BTreeMap<Sbdf, DeviceDescription>,
    /// Answers to `ListDenied`, one after the other. The last one stays.
    pub denied: Mutex<VecDeque<Vec<Denied>>>,
    /// Answer to `ListFunctions`.
    pub functions: Vec<Function>,
    /// Answer to `ListDomains`.
    pub domains: Vec<Domain>,
    /// Answer to `ListInterrupts`.
    pub interrupts: Vec<Interrupt>,
    /// Answers to `Examine`, by device as it is called; none for others is [`Refusal::DeviceNotFound`].
    pub findings: BTreeMap<String, Vec<Finding>>,
    /// Answer to `GetPlan` and `Apply`.
    pub plan: Plan,
    /// What each operation says on the way.
    pub progress: Vec<String>,
    /// What `Apply`, `Attach`, `Detach`, `Claim` and `Release` are refused with; none, and they succeed.
    pub refusal: Option<Refusal>,
    /// Which of them were called, in that order.
    pub called: Arc<Mutex<Vec<Called>>>,
    /// If given, each operation ends only when it gets a permit.
    pub end: Option<Arc<Semaphore>>,
    /// What `Watch` tells. Operations that end well publish an event themselves, with their method's name.
    pub events: Events,
}

impl Recorded {
    fn declared(&self, device: Sbdf) -> Result<(), Refusal> {
        let is_declared = self.devices.iter().any(|declared| declared.address == Some(device));
        if is_declared { Ok(()) } else { Err(Refusal::DeviceNotFound { device: device.to_string() }) }
    }

    /// What every operation does.
    async fn operate<M: Method>(&self, called: Called, progress: &Progress) -> Result<(), Refusal> {
        self.called.lock().map_err(|error| Refusal::Failed { reason: error.to_string() })?.push(called);
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        progress.accept();
        self.progress.iter().for_each(|line| progress.say(line));
        if let Some(end) = &self.end {
            end.acquire().await.map_err(|error| Refusal::Failed { reason: error.to_string() })?.forget();
        }
        self.events.publish(Event::now(EventKind::Configured, M::NAME));
        Ok(())
    }
}

impl Service for Recorded {
    async fn status(&self) -> Result<Status, Refusal> {
        self.status.clone().ok_or_else(|| Refusal::Failed { reason: "no status was recorded".to_owned() })
    }

    async fn devices(&self) -> Result<Vec<Device>, Refusal> {
        Ok(self.devices.clone())
    }

    async fn denied(&self, device: Option<Sbdf>) -> Result<DeniedReply, Refusal> {
        if let Some(device) = device {
            self.declared(device)?;
        }
        let mut answers = self.denied.lock().map_err(|error| Refusal::Failed { reason: error.to_string() })?;
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let mut denied = answer.unwrap_or_default();
        denied.retain(|entry| device.is_none_or(|device| entry.device == device));
        Ok(DeniedReply { denied, uncounted: 0 })
    }

    async fn describe(&self, device: Sbdf) -> Result<DeviceDescription, Refusal> {
        self.declared(device)?;
        self.descriptions.get(&device).cloned().ok_or_else(|| Refusal::DeviceNotClaimed { device: device.to_string() })
    }

    async fn functions(&self) -> Result<Vec<Function>, Refusal> {
        Ok(self.functions.clone())
    }

    async fn domains(&self) -> Result<Vec<Domain>, Refusal> {
        Ok(self.domains.clone())
    }

    async fn interrupts(&self) -> Result<Vec<Interrupt>, Refusal> {
        Ok(self.interrupts.clone())
    }

    async fn examine(&self, Examine { device, .. }: Examine) -> Result<Vec<Finding>, Refusal> {
        self.findings.get(&device).cloned().ok_or(Refusal::DeviceNotFound { device })
    }

    async fn plan(&self) -> Result<Plan, Refusal> {
        Ok(self.plan.clone())
    }

    async fn apply(&self, request: Apply, progress: Progress) -> Result<Plan, Refusal> {
        self.operate::<Apply>(Called::Apply(request), &progress).await?;
        Ok(self.plan.clone())
    }

    /// Each device by its address, in the slot that was asked for, or the first ones.
    async fn attach(&self, request: Attach, progress: Progress) -> Result<Vec<Attached>, Refusal> {
        let attached = (0..).zip(&request.devices).filter_map(|(n, wanted)| {
            let guest_address = format!("{:02x}.0", wanted.slot.unwrap_or(n));
            Some(Attached { device: wanted.device.parse().ok()?, guest_address })
        });
        let attached = attached.collect();
        self.operate::<Attach>(Called::Attach(request), &progress).await?;
        Ok(attached)
    }

    async fn detach(&self, request: Detach, progress: Progress) -> Result<Vec<Sbdf>, Refusal> {
        let detached = request.devices.iter().filter_map(|device| device.parse().ok()).collect();
        self.operate::<Detach>(Called::Detach(request), &progress).await?;
        Ok(detached)
    }

    async fn claim(&self, request: Claim, progress: Progress) -> Result<Vec<Claimed>, Refusal> {
        let Claim { device, name, .. } = &request;
        let claimed = device.parse().ok().map(|device| Claimed {
            device,
            name: name.clone(),
            already: self.descriptions.contains_key(&device),
        });
        self.operate::<Claim>(Called::Claim(request), &progress).await?;
        Ok(claimed.into_iter().collect())
    }

    async fn release(&self, request: Release, progress: Progress) -> Result<Vec<Sbdf>, Refusal> {
        let released = request.device.parse().ok();
        self.operate::<Release>(Called::Release(request), &progress).await?;
        Ok(released.into_iter().collect())
    }

    fn watch(&self) -> Watcher {
        self.events.watch()
    }
}

/// A server in a thread of its own. Dropped, it is ended, and the socket removed.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves `recorded` on a socket at `path`; it can be connected to when this returns.
///
/// # Errors
/// What kept the thread, its runtime or the socket from being.
pub fn serve(path: impl AsRef<Path>, recorded: Recorded) -> io::Result<Serving> {
    let path = path.as_ref().to_owned();
    let (stop, stopped) = oneshot::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            // Nobody waits for it but the caller below, who waits as long as there is a sender.
            Err(error) => return ready.send(Err(error)).unwrap_or_default(),
        };
        LocalSet::new().block_on(&runtime, async {
            match Server::bind(&path) {
                Ok(server) => {
                    ready.send(Ok(())).unwrap_or_default();
                    tokio::select! {
                        () = server.run(recorded) => {}
                        _ = stopped => {}
                    }
                }
                Err(error) => ready.send(Err(io::Error::other(error))).unwrap_or_default(),
            }
        });
    })?;
    is_ready.recv().map_err(io::Error::other)??;
    Ok(Serving { stop: Some(stop), thread: Some(thread) })
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed there.
            let _ = thread.join();
        }
    }
}
