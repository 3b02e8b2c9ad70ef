//! The thread that answers one guest's requests.
//!
//! A request may block in the kernel, so each guest has a thread of its own and cannot stall another. The guest's virtual CPU
//! waits with interrupts off until it has its answer, and gives up after two seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::{Answer, BackendEnd, Delivery, Request};
use tokio::sync::oneshot;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Errno, EventPort, GrantedPage, Host, HostError, Wakeup};
use xenpcid_policy::{InterruptMode, NoPlace, VirtualAddress, VirtualBus};

use crate::assignment::Assigned;
use crate::claim::Claimed;
use crate::interrupts::EnableError;
use crate::rate_limit::{Line, RateLimit};
use crate::session::Placed;

/// A guest that notifies without a request is listened to less and less often, up to this (XSA-332). Half of what a guest waits
/// before it gives up, so that an honest request in between is still answered.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Everything a guest reaches through its ring.
pub struct GuestBus {
    host: Host,
    domain: DomainId,
    slots: VirtualBus,
    functions: Vec<Assigned>,
    places: Places,
    complaints: RateLimit,
}

/// The devices of a bus, and where the guest finds them: for those who must not wait for a request that is being answered,
/// which can take as long as a reset. Clones are of the same bus.
#[derive(Clone, Default)]
pub struct Places(Arc<Mutex<Vec<Placed>>>);

impl Places {
    /// In the order in which they came.
    #[must_use]
    pub fn list(&self) -> Vec<Placed> {
        self.lock().clone()
    }

    /// Whether the device is there.
    #[must_use]
    pub fn has(&self, function: Sbdf) -> bool {
        self.lock().iter().any(|placed| placed.function == function)
    }

    fn set(&self, places: Vec<Placed>) {
        *self.lock() = places;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Placed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer before it is put on the page.
struct Reply {
    error: ErrorCode,
    value: u32,
    vectors: Vec<u16>,
}

impl Reply {
    const fn of(error: ErrorCode, value: u32) -> Self {
        Self { error, value, vectors: Vec::new() }
    }
}

impl GuestBus {
    /// The bus of a guest, without devices.
    #[must_use]
    pub fn new(host: Host, domain: DomainId) -> Self {
        Self {
            host,
            domain,
            slots: VirtualBus::new(),
            functions: Vec::new(),
            places: Places::default(),
            complaints: RateLimit::default(),
        }
    }

    /// A place for a device that is to come, or the one it has.
    ///
    /// # Errors
    /// The bus is full, or `slot` is taken.
    pub fn reserve(&mut self, claimed: &Claimed, slot: Option<u8>) -> Result<VirtualAddress, NoPlace> {
        self.slots.insert_at(claimed.function(), claimed.snapshot().is_virtual_function, slot)
    }

    /// Gives a place back that is not used.
    pub fn cancel(&mut self, function: Sbdf) {
        if self.function(function).is_none() {
            self.slots.remove(function);
        }
    }

    /// Adds a device at the place that was reserved for it: from now on the guest's accesses reach it.
    pub fn add(&mut self, assigned: Assigned) {
        self.functions.push(assigned);
        self.tell_places();
    }

    /// Takes a device away: the guest's accesses find nothing there any more. An INTx line that it shares with another device
    /// of the guest stays with that one.
    pub fn remove(&mut self, function: Sbdf) -> Option<Assigned> {
        let index = self.functions.iter().position(|assigned| assigned.function() == function)?;
        let mut removed = self.functions.remove(index);
        self.slots.remove(function);
        if let Some(heir) = self.functions.iter_mut().find(|other| other.shares_line_with(&removed)) {
            removed.leave_line_to(heir);
        }
        self.tell_places();
        Some(removed)
    }

    /// The devices.
    #[must_use]
    pub fn functions(&self) -> &[Assigned] {
        &self.functions
    }

    /// Where the guest finds them.
    #[must_use]
    pub fn places(&self) -> Places {
        self.places.clone()
    }

    fn tell_places(&self) {
        let place = |assigned: &Assigned| Placed { function: assigned.function(), address: assigned.address() };
        self.places.set(self.functions.iter().map(place).collect());
    }

    /// One of them.
    #[must_use]
    pub fn function(&self, function: Sbdf) -> Option<&Assigned> {
        self.functions.iter().find(|assigned| assigned.function() == function)
    }

    /// Whether the guest has this INTx line already.
    #[must_use]
    pub fn has_line(&self, line: u8) -> bool {
        self.functions.iter().any(|assigned| assigned.line() == Some(line))
    }

    /// What a new kernel in the guest, or a frontend that was loaded anew, has to find: no interrupts of the former one, and
    /// devices that do nothing.
    pub fn start_over(&mut self) {
        for function in &mut self.functions {
            function.start_over(&self.host);
        }
    }

    fn handle(&mut self, request: &Request) -> Reply {
        let Self { host, domain, slots, functions, places: _, complaints } = self;
        let found = slots
            .lookup(request.domain, request.bus, request.devfn)
            .and_then(|sbdf| functions.iter_mut().find(|function| function.function() == sbdf));
        let Some(function) = found else {
            // A bus scan asks for all 256 addresses, so this is the most frequent answer and not worth a word.
            return Reply::of(ErrorCode::DEV_NOT_FOUND, request.value);
        };
        match request.operation {
            Operation::CONFIG_READ => match function.read(request.offset, request.size) {
                Ok(value) => Reply::of(ErrorCode::SUCCESS, value),
                Err(error) => Reply::of(error, request.value),
            },
            Operation::CONFIG_WRITE => match function.write(host, request.offset, request.size, request.value) {
                Ok(()) => Reply::of(ErrorCode::SUCCESS, request.value),
                Err(error) => Reply::of(error, request.value),
            },
            Operation::ENABLE_MSI | Operation::ENABLE_MSIX => match enable(host, *domain, function, request) {
                Ok(reply) => {
                    if let Some(Line { suppressed }) = complaints.admit() {
                        tracing::info!(domain = domain.0, function = %function.function(),
                            interrupts = %function.interrupts(), suppressed, "interrupts enabled");
                    }
                    reply
                }
                Err(error) => {
                    if let Some(Line { suppressed }) = complaints.admit() {
                        tracing::warn!(domain = domain.0, function = %function.function(), operation = %request.operation,
                            %error, suppressed, "a guest's interrupts could not be enabled");
                    }
                    refused(&error)
                }
            },
            Operation::DISABLE_MSI | Operation::DISABLE_MSIX => {
                let (interrupts, claimed, view) = function.interrupt_parts();
                if let Err(error) = interrupts.disable(host, claimed) {
                    if let Some(Line { suppressed }) = complaints.admit() {
                        tracing::warn!(domain = domain.0, function = %claimed.function(), %error, suppressed,
                            "a guest's interrupts could not be disabled");
                    }
                }
                view.set_interrupt_mode(interrupts.mode());
                // The protocol has no failure here; the value is the pirq of the INTx line.
                Reply::of(ErrorCode::SUCCESS, u32::from(claimed.snapshot().interrupt_line))
            }
            _ => Reply::of(ErrorCode::NOT_IMPLEMENTED, request.value),
        }
    }
}

fn enable(host: &Host, domain: DomainId, function: &mut Assigned, request: &Request) -> Result<Reply, EnableError> {
    let (interrupts, claimed, view) = function.interrupt_parts();
    let enabled = if request.operation == Operation::ENABLE_MSI {
        match view.offers_msi() {
            true => interrupts.enable_msi(host, domain, claimed).map(|pirq| Reply::of(ErrorCode::SUCCESS, pirq.0)),
            false => Err(EnableError::NoCapability(InterruptMode::Msi)),
        }
    } else {
        interrupts
            .enable_msix(host, domain, claimed, view.msix_vectors(), request.value, request.entries.as_slice())
            .map(|vectors| Reply { error: ErrorCode::SUCCESS, value: 0, vectors })
    };
    view.set_interrupt_mode(interrupts.mode());
    enabled
}

/// How a guest learns of it. Success with a count means "no more than so many", and Linux asks again with fewer.
fn refused(error: &EnableError) -> Reply {
    match error {
        EnableError::Exhausted { available, .. } if *available > 0 => Reply::of(ErrorCode::SUCCESS, *available),
        EnableError::NoCapability(_) => Reply::of(ErrorCode::NOT_IMPLEMENTED, 0),
        _ => Reply::of(ErrorCode::OP_FAILED, 0),
    }
}

/// A guest's bus, which its session and its ring share. It is locked for one request at a time.
pub type SharedBus = Arc<Mutex<GuestBus>>;

/// The bus, for a moment. A panic while it was locked left nothing half done that could not be taken back.
pub fn lock(bus: &Mutex<GuestBus>) -> MutexGuard<'_, GuestBus> {
    bus.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running ring.
pub struct RingServer {
    port: Arc<dyn EventPort>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<Result<(), HostError>>,
}

impl RingServer {
    /// Starts to answer. The page and the port belong to the thread and are given up with it.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(bus: SharedBus, page: Box<dyn GrantedPage>, port: Arc<dyn EventPort>) -> Result<Self, std::io::Error> {
        let domain = lock(&bus).domain;
        let stopping = Arc::new(AtomicBool::new(false));
        let (send_ended, ended) = oneshot::channel();
        let thread = {
            let (port, stopping) = (port.clone(), stopping.clone());
            std::thread::Builder::new().name(format!("ring-{domain}")).spawn(move || {
                let result = serve(domain, &bus, page.as_ref(), port.as_ref(), &stopping);
                // Nobody listens any more if the session is being stopped.
                let _ = send_ended.send(result);
            })?
        };
        Ok(Self { port, stopping, thread, ended })
    }

    /// Resolves, once, when the thread ends by itself: its event channel failed, or it panicked.
    pub async fn ended(&mut self) -> HostError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => HostError::new("serve_ring", "a guest's ring", Errno::EIO),
        }
    }

    /// Stops to answer, unmaps the page and closes the port. Blocks for as long as a request that is being answered takes.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = self.port.wake() {
            tracing::error!(%error, "the ring's thread could not be woken");
        }
        if self.thread.join().is_err() {
            tracing::error!("the ring's thread panicked; this is a defect, please report it");
        }
    }
}

/// Answers until told to stop.
fn serve(
    domain: DomainId,
    bus: &Mutex<GuestBus>,
    page: &dyn GrantedPage,
    port: &dyn EventPort,
    stopping: &AtomicBool,
) -> Result<(), HostError> {
    let end = BackendEnd::new(page.page());
    let mut listening = Listening::default();
    while !stopping.load(Ordering::Acquire) {
        let mut answered = 0_u32;
        while let Some(request) = end.take() {
            let reply = lock(bus).handle(&request);
            let answer = Answer { error: reply.error, value: reply.value, vectors: &reply.vectors };
            match end.answer(&request, &answer) {
                Delivery::Delivered => {
                    answered = answered.saturating_add(1);
                    port.notify()?;
                }
                // Also a guest that changes its request while it is carried out, for ever: it is not answered sooner than one
                // that notifies for nothing.
                Delivery::Stale => {
                    if let Some(Line { suppressed }) = lock(bus).complaints.admit() {
                        tracing::warn!(domain = domain.0, operation = %request.operation, suppressed,
                            "an answer came too late and was dropped");
                    }
                    break;
                }
            }
            if stopping.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        // The port is masked, so only `stop` ends this wait early; and the first notification, which binding gives.
        if let Some(pause) = listening.after(answered) {
            if port.wait(Some(pause))? != Wakeup::TimedOut {
                continue;
            }
        }
        port.unmask()?;
        // A notification between the last look at the page and the unmasking is kept, and ends this wait.
        port.wait(None)?;
    }
    Ok(())
}

/// How often to listen to a guest.
///
/// An honest guest notifies once for each request. The request may be seen before its notification, which then finds nothing;
/// more than one such notification in a row is a guest that keeps dom0 busy for nothing.
#[derive(Debug, Default)]
struct Listening {
    /// A request was answered whose notification is still to come.
    owed: bool,
    pause: Duration,
}

impl Listening {
    /// How long to leave the port masked, after a notification at which so many requests were answered.
    fn after(&mut self, answered: u32) -> Option<Duration> {
        if answered > 0 {
            self.owed |= answered > 1;
            self.pause = Duration::ZERO;
            return None;
        }
        if std::mem::take(&mut self.owed) {
            return None;
        }
        self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notification_of_a_request_already_answered_costs_nothing() {
        let mut listening = Listening::default();
        assert_eq!(listening.after(2), None);
        assert_eq!(listening.after(0), None);
    }

    #[test]
    fn guest_that_notifies_for_nothing_is_listened_to_less_and_less() {
        let mut listening = Listening::default();
        let pauses: Vec<_> = (0..12).filter_map(|_| listening.after(0)).collect();
        assert_eq!(pauses.first(), Some(&SHORTEST_PAUSE));
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        assert_eq!(listening.after(1), None);
        assert_eq!(listening.after(0), Some(SHORTEST_PAUSE));
    }
}
