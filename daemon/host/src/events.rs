use std::sync::Arc;
use std::time::Duration;

use xenpcid_address::DomainId;

use crate::HostError;

/// Event channels (xen/include/public/event_channel.h).
pub trait EventChannels: Send + Sync {
    /// Binds to the port that a guest left open for dom0. `EINVAL` if it did not: the number is guest-written.
    fn bind(&self, domain: DomainId, remote_port: u32) -> Result<Arc<dyn EventPort>, HostError>;
}

/// One bound port; closed when dropped, which turns the guest's end back into an unbound one.
///
/// After an event the port is masked until [`EventPort::unmask`], so the owner sets the pace: read, process, unmask, look once
/// more. A notification between processing and unmasking is kept.
pub trait EventPort: Send + Sync {
    /// Waits for the guest's notification, for [`EventPort::wake`], or for the time to pass; `None` waits for ever.
    fn wait(&self, timeout: Option<Duration>) -> Result<Wakeup, HostError>;

    /// Lets the next notification in.
    fn unmask(&self) -> Result<(), HostError>;

    /// Notifies the guest.
    fn notify(&self) -> Result<(), HostError>;

    /// Ends a [`EventPort::wait`] of another thread, or the next one.
    fn wake(&self) -> Result<(), HostError>;
}

/// Why [`EventPort::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// The guest notified. The port is now masked.
    Event,
    /// [`EventPort::wake`] was called.
    Woken,
    /// The time is over.
    TimedOut,
}
