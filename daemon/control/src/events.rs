//! What happens, for those who watch.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use xenpcid_address::Sbdf;

use crate::types::Guest;

/// Events that a watcher may be behind before it loses some.
const QUEUE: usize = 1024;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A device that is declared is there.
    Found,
    /// It is there no more.
    Missing,
    /// A device was taken from dom0's driver.
    Claimed,
    /// A device was given back to dom0.
    Released,
    /// A device was reset; the text says how, how long it took, and what was verified.
    Reset,
    /// A guest got a device.
    Attached,
    /// A guest has let go of a device.
    Detached,
    /// A domain is kept paused until it has its devices.
    Held,
    /// It goes on.
    Resumed,
    /// The configuration was read anew.
    Configured,
    /// Something was tried and did not work.
    Failed,
    /// A device is not to be given to a guest any more.
    Broken,
    /// This watcher was slow, and missed as many events as the text says.
    Lost,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When: milliseconds since 1970-01-01 00:00 UTC.
    pub time: u64,
    /// What.
    pub kind: EventKind,
    /// The device that it happened to.
    pub device: Option<Sbdf>,
    /// The domain that it happened to.
    pub domain: Option<Guest>,
    /// The whole in words.
    pub text: String,
}

impl Event {
    /// Something that happens now, to no device and no domain.
    #[must_use]
    pub fn now(kind: EventKind, text: impl Into<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Self { time, kind, device: None, domain: None, text: text.into() }
    }

    /// It happens to this device.
    #[must_use]
    pub fn of(self, device: Sbdf) -> Self {
        Self { device: Some(device), ..self }
    }

    /// It happens to this domain.
    #[must_use]
    pub fn to(self, domain: Guest) -> Self {
        Self { domain: Some(domain), ..self }
    }
}

/// Where events are published. Clones are the same place. Nobody who publishes ever waits for somebody who watches.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(QUEUE))
    }
}

impl Events {
    /// Tells those who watch.
    pub fn publish(&self, event: Event) {
        // An error means that nobody does.
        let _ = self.0.send(event);
    }

    /// All events from now on.
    #[must_use]
    pub fn watch(&self) -> Watcher {
        Watcher(self.0.subscribe())
    }
}

/// Somebody who watches.
#[derive(Debug)]
pub struct Watcher(broadcast::Receiver<Event>);

impl Watcher {
    /// The next event; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(count)) => {
                Some(Event::now(EventKind::Lost, format!("{count} events were lost: this watcher was slow")))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_watcher_is_told_how_many_events_it_lost_and_gets_the_rest() {
        let events = Events::default();
        let (mut slow, mut none) = (events.watch(), Events::default().watch());
        for n in 0..QUEUE + 3 {
            events.publish(Event::now(EventKind::Claimed, n.to_string()));
        }
        drop(events);

        let first = slow.next().await.unwrap();
        assert_eq!(first.kind, EventKind::Lost);
        assert!(first.text.starts_with("3 events"), "{}", first.text);
        for n in 3..QUEUE + 3 {
            assert_eq!(slow.next().await.unwrap().text, n.to_string());
        }
        assert_eq!((slow.next().await, none.next().await), (None, None));
    }
}
