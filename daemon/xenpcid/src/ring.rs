//! The thread that answers one guest's requests.
//!
//! A request may block in the kernel, so each guest has a thread of its own and cannot stall another. The guest's virtual CPU
//! waits with interrupts off until it has its answer, and gives up after two seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::{Answer, BackendEnd, Delivery, Request};
use tokio::sync::oneshot;
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, EventPort, GrantedPage, Host, HostError, Wakeup};
use xenpcid_policy::{InterruptMode, VirtualBus};

use crate::assignment::Assigned;
use crate::interrupts::EnableError;
use crate::rate_limit::{Line, RateLimit};

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
    complaints: RateLimit,
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
    /// The bus of a guest, whose devices are at the slots given.
    #[must_use]
    pub fn new(host: Host, domain: DomainId, slots: VirtualBus, functions: Vec<Assigned>) -> Self {
        Self { host, domain, slots, functions, complaints: RateLimit::default() }
    }

    /// The devices, to be taken back.
    #[must_use]
    pub fn into_functions(self) -> Vec<Assigned> {
        self.functions
    }

    /// The devices.
    #[must_use]
    pub fn functions(&self) -> &[Assigned] {
        &self.functions
    }

    fn handle(&mut self, request: &Request) -> Reply {
        let Self { host, domain, slots, functions, complaints } = self;
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

/// A running ring.
pub struct RingServer {
    bus: Arc<Mutex<Box<GuestBus>>>,
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
    pub fn start(
        bus: Box<GuestBus>,
        page: Box<dyn GrantedPage>,
        port: Arc<dyn EventPort>,
    ) -> Result<Self, (Box<GuestBus>, std::io::Error)> {
        let name = format!("ring-{}", bus.domain);
        let bus = Arc::new(Mutex::new(bus));
        let stopping = Arc::new(AtomicBool::new(false));
        let (send_ended, ended) = oneshot::channel();
        let thread = {
            let (bus, port, stopping) = (bus.clone(), port.clone(), stopping.clone());
            std::thread::Builder::new().name(name).spawn(move || {
                // Held for as long as the thread lives: the bus is the thread's own, and lies in a mutex only so that it
                // survives a panic here.
                let mut bus = bus.lock().unwrap_or_else(PoisonError::into_inner);
                let result = serve(&mut bus, page.as_ref(), port.as_ref(), &stopping);
                drop(bus);
                // Nobody listens any more if the session is being stopped.
                let _ = send_ended.send(result);
            })
        };
        match thread {
            Ok(thread) => Ok(Self { bus, port, stopping, thread, ended }),
            Err(error) => Err((unwrap_bus(bus), error)),
        }
    }

    /// Resolves, once, when the thread ends by itself: its event channel failed, or it panicked.
    pub async fn ended(&mut self) -> HostError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => HostError::new("serve_ring", "a guest's ring", Errno::EIO),
        }
    }

    /// Stops to answer, unmaps the page and closes the port. Blocks for as long as a request that is being answered takes.
    #[must_use]
    pub fn stop(self) -> Box<GuestBus> {
        self.stopping.store(true, Ordering::Release);
        if let Err(error) = self.port.wake() {
            tracing::error!(%error, "the ring's thread could not be woken");
        }
        if self.thread.join().is_err() {
            tracing::error!("the ring's thread panicked");
        }
        unwrap_bus(self.bus)
    }
}

/// The bus, once the thread that shared it is gone.
#[expect(clippy::expect_used, reason = "the only other owner is a thread that has ended or never began")]
fn unwrap_bus(bus: Arc<Mutex<Box<GuestBus>>>) -> Box<GuestBus> {
    Arc::into_inner(bus).expect("the bus has one owner").into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until told to stop.
fn serve(
    bus: &mut GuestBus,
    page: &dyn GrantedPage,
    port: &dyn EventPort,
    stopping: &AtomicBool,
) -> Result<(), HostError> {
    let end = BackendEnd::new(page.page());
    let mut listening = Listening::default();
    while !stopping.load(Ordering::Acquire) {
        let mut answered = 0_u32;
        while let Some(request) = end.take() {
            let reply = bus.handle(&request);
            let answer = Answer { error: reply.error, value: reply.value, vectors: &reply.vectors };
            match end.answer(&request, &answer) {
                Delivery::Delivered => {
                    answered = answered.saturating_add(1);
                    port.notify()?;
                }
                // Also a guest that changes its request while it is carried out, for ever: it is not answered sooner than one
                // that notifies for nothing.
                Delivery::Stale => {
                    if let Some(Line { suppressed }) = bus.complaints.admit() {
                        tracing::warn!(domain = bus.domain.0, operation = %request.operation, suppressed,
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
