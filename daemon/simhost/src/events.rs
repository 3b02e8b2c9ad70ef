//! Event channels: a port of a guest, and dom0's end of it as `/dev/xen/evtchn` has it.
//!
//! # dom0's end
//! ```text
//!              notified                    wait
//!   unmasked ───────────► masked, to read ──────► masked
//!       ▲                                            │ notified: kept
//!       └──────────────── unmask ◄───────────────────┘
//!                (something kept: to read again)
//! ```
//! A port is bound with something to read, since a notification from before the binding may be lost.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pcifront_shim::{Connection, SharedPage};
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, EventChannels, EventPort, HostError, Wakeup};

use crate::World;
use crate::ledger::Call;

/// Both ends of one channel.
#[derive(Default)]
pub(crate) struct Channel {
    state: Mutex<State>,
    /// Something changed for dom0.
    dom0: Condvar,
    /// Something changed for the guest.
    guest: Condvar,
}

#[derive(Default)]
struct State {
    /// The guest has closed its end, or is gone.
    closed: bool,
    /// dom0's end; `None` while it is not bound.
    bound: Option<Bound>,
    /// A notification that the guest has not looked at.
    guest_pending: bool,
}

#[derive(Default)]
struct Bound {
    to_read: bool,
    masked: bool,
    /// A notification that came while masked.
    kept: bool,
    woken: bool,
}

impl Bound {
    fn notified(&mut self) {
        if self.masked {
            self.kept = true;
        } else {
            self.masked = true;
            self.to_read = true;
        }
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_bound(&self) -> bool {
        self.lock().bound.is_some()
    }

    /// Binds dom0's end; `EINVAL` if the guest's end is not open for it.
    fn bind(&self) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.closed || state.bound.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut bound = Bound::default();
        bound.notified();
        state.bound = Some(bound);
        Ok(())
    }

    fn unbind(&self) {
        self.lock().bound = None;
    }

    /// The guest closes its end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.guest.notify_all();
    }

    /// The guest notifies dom0. Lost while dom0's end is not bound.
    fn notify_dom0(&self) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.closed {
            return Err(Errno::EINVAL);
        }
        if let Some(bound) = &mut state.bound {
            bound.notified();
            self.dom0.notify_all();
        }
        Ok(())
    }

    /// dom0 notifies the guest. Lost if the guest has closed its end.
    fn notify_guest(&self) {
        self.lock().guest_pending = true;
        self.guest.notify_all();
    }
}

impl EventChannels for World {
    fn bind(&self, domain: DomainId, remote_port: u32) -> Result<Arc<dyn EventPort>, HostError> {
        let call = Call::new("bind_event_channel").domain(domain).detail(format_args!("port {remote_port}"));
        self.perform(call, |state| {
            let guest = state.domains.get(&domain).ok_or(Errno::ESRCH)?;
            let channel = guest.channels.get(&remote_port).ok_or(Errno::EINVAL)?;
            channel.bind()?;
            state.bound_ports.push((domain, remote_port));
            Ok(Arc::new(Dom0Port { world: self.clone(), channel: Arc::clone(channel), domain, remote_port })
                as Arc<dyn EventPort>)
        })
    }
}

/// dom0's end of a channel.
struct Dom0Port {
    world: World,
    channel: Arc<Channel>,
    domain: DomainId,
    remote_port: u32,
}

impl Dom0Port {
    fn call(&self, operation: &'static str) -> Call {
        Call::new(operation).domain(self.domain).detail(format_args!("port {}", self.remote_port))
    }

    fn strike(&self, operation: &'static str) -> Result<(), HostError> {
        self.world.strike(operation, || self.call(operation))
    }
}

impl EventPort for Dom0Port {
    fn wait(&self, timeout: Option<Duration>) -> Result<Wakeup, HostError> {
        self.strike("wait_event_channel")?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.channel.lock();
        loop {
            if let Some(bound) = &mut state.bound {
                if std::mem::take(&mut bound.woken) {
                    return Ok(Wakeup::Woken);
                }
                if std::mem::take(&mut bound.to_read) {
                    return Ok(Wakeup::Event);
                }
            }
            state = match deadline {
                None => self.channel.dom0.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Wakeup::TimedOut);
                    }
                    self.channel.dom0.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn unmask(&self) -> Result<(), HostError> {
        self.strike("unmask_event_channel")?;
        let mut state = self.channel.lock();
        if let Some(bound) = &mut state.bound {
            // A port that is not masked stays as it is; one with an event still to be read too.
            if bound.masked {
                bound.masked = false;
                if std::mem::take(&mut bound.kept) {
                    bound.notified();
                    self.channel.dom0.notify_all();
                }
            }
        }
        Ok(())
    }

    fn notify(&self) -> Result<(), HostError> {
        self.strike("notify_event_channel")?;
        self.channel.notify_guest();
        Ok(())
    }

    fn wake(&self) -> Result<(), HostError> {
        if let Some(bound) = &mut self.channel.lock().bound {
            bound.woken = true;
        }
        self.channel.dom0.notify_all();
        Ok(())
    }
}

impl Drop for Dom0Port {
    fn drop(&mut self) {
        self.channel.unbind();
        self.world.record(self.call("close_event_channel"), |state| {
            let bound = (self.domain, self.remote_port);
            if let Some(index) = state.bound_ports.iter().position(|port| *port == bound) {
                state.bound_ports.remove(index);
            }
        });
    }
}

/// A guest's shared page and its port to dom0: what a [`pcifront_shim::Frontend`] of a simulated guest runs on.
#[derive(Clone)]
pub struct GuestRing {
    page: Arc<SharedPage>,
    channel: Arc<Channel>,
    /// Grant reference of the page.
    pub reference: u32,
    /// The guest's number of the port.
    pub port: u32,
}

impl GuestRing {
    /// Whether dom0 has bound the port.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.channel.is_bound()
    }
}

impl World {
    /// A guest shares a page with dom0 and opens a port for it. `None` if there is no such domain.
    #[must_use]
    pub fn open_ring(&self, domain: DomainId, page: Arc<SharedPage>) -> Option<GuestRing> {
        let mut state = self.lock();
        let guest = state.domains.get_mut(&domain).filter(|guest| !guest.dying)?;
        let reference = guest.grant(Arc::clone(&page));
        let (port, channel) = guest.open_channel();
        Some(GuestRing { page, channel, reference, port })
    }

    /// A guest closes its port and takes its page back. A page that dom0 still maps stays shared.
    pub fn close_ring(&self, domain: DomainId, ring: &GuestRing) {
        ring.channel.close();
        if let Some(guest) = self.lock().domains.get_mut(&domain) {
            guest.channels.remove(&ring.port);
            if guest.grants.get(&ring.reference).is_some_and(|grant| grant.mapped == 0) {
                guest.grants.remove(&ring.reference);
            }
        }
    }
}

impl Connection for GuestRing {
    fn page(&self) -> &SharedPage {
        &self.page
    }

    fn ring(&self) -> io::Result<()> {
        self.channel.notify_dom0().map_err(io::Error::from)
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let mut state = self.channel.lock();
        while !std::mem::take(&mut state.guest_pending) {
            if state.closed {
                return Err(io::Error::from(Errno::EINVAL));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.channel.guest.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}
