//! Asynchronous client.
//!
//! A [`Client`] is a cheap handle; a task on the runtime owns the connection, and ends when the last handle, watch and
//! transaction is dropped. Operations that a client and a [`Transaction`] share are methods of [`Store`], to which both
//! dereference.
//!
//! # Life of a connection
//! ```text
//!   Client::connect ──────────► Connected(1) ◄─────────────────┐
//!                                   │                          │ opened: WATCH again for each watch,
//!        stream ends or breaks,     │                          │ each watch marked dirty as a whole,
//!        or bytes that are no       │                          │ number of the connection + 1
//!        xenstore message           ▼                          │
//!                              Reconnecting ── back-off ───────┘
//!                                   │  10 ms, doubled up to 1 s until a connection carries a message again;
//!                                   │  requests fail at once with Disconnected
//!                                   │
//!   Client::over a stream:          └──► Closed    nothing to reconnect to; watches end, requests fail
//! ```
//! Requests in flight when the connection breaks fail with [`Error::Disconnected`], and so
//! does everything later in a transaction that began on an earlier connection. Nothing is sent twice.

mod actor;
mod endpoint;
mod session;
mod store;
mod transaction;
mod watch;
mod xenbus_device;

use std::ops::Deref;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch as state};
use xenpcid_address::DomainId;

pub use endpoint::{Connector, Endpoint, Stream};
pub use store::Store;
pub use transaction::{TRANSACTION_ATTEMPTS, Transaction};
pub use watch::{Changes, DIRTY_PATHS_MAX, Watch};

use crate::path::Path;
use crate::wire::{MessageType, encode_strings};
use crate::{Error, ErrorName};

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Up. The number is 1 for the first connection and one more for each later one.
    Connected(u64),
    /// Lost; attempts to connect again are going on.
    Reconnecting,
    /// Lost for good.
    Closed,
}

/// Handle to a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    store: Store,
    state: state::Receiver<ConnectionState>,
    runtime: Handle,
}

/// What the handles ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send a request and pass on the answer's payload.
    Request { kind: MessageType, transaction: Option<TransactionTag>, payload: Vec<u8>, reply: Reply<Vec<u8>> },
    /// Open a transaction; the answer is a guard that aborts it.
    Start { reply: Reply<transaction::Open> },
    /// Abort without waiting.
    Abort(TransactionTag),
    /// Register a watch.
    Watch { path: Path, token: u64, state: Arc<watch::Dirty>, reply: Reply<()> },
    /// Remove a watch without waiting.
    Unwatch { token: u64 },
}

/// A transaction, and the connection on which alone its number means something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransactionTag {
    id: u32,
    connection: u64,
}

/// Where the answer goes. Dropped without an answer, it means that the connection is lost.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(ErrorName),
    Answer(String),
}

impl Client {
    /// Connects to the server, and connects again whenever the connection breaks.
    ///
    /// Must be called on a tokio runtime with I/O and time; the connection's task runs there.
    ///
    /// # Errors
    /// [`Error::Connect`]: no server answers.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, Error> {
        Self::with_connector(endpoint).await
    }

    /// As [`Client::connect`], with connections from elsewhere.
    ///
    /// # Errors
    /// The first connection cannot be made.
    pub async fn with_connector(connector: impl Connector) -> Result<Self, Error> {
        let stream = connector.open().await?;
        Ok(Self::spawn(stream, Some(Box::new(connector))))
    }

    /// Uses a connection that somebody else made. When it ends, the client is closed.
    ///
    /// Must be called on a tokio runtime. The stream must not buffer what is written to it: it is never flushed.
    #[must_use]
    pub fn over(stream: impl Stream + 'static) -> Self {
        Self::spawn(Box::new(stream), None)
    }

    fn spawn(stream: Box<dyn Stream>, connector: Option<Box<dyn Connector>>) -> Self {
        let (commands, received) = mpsc::unbounded_channel();
        let (report, state) = state::channel(ConnectionState::Connected(1));
        let actor = actor::Actor::new(received, commands.downgrade(), report, connector);
        let runtime = Handle::current();
        runtime.spawn(actor.run(stream));
        Self { store: Store::new(commands, None), state, runtime }
    }

    /// The runtime on which the connection's task runs.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Where the connection stands, now and at each change. A program that keeps nothing but what its watches tell it
    /// need not look: after a reconnection every watch reports [`Changes::Everything`].
    #[must_use]
    pub fn state(&self) -> state::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Watches a node and everything below it. The watch reports once immediately.
    ///
    /// # Errors
    /// As the server answers: E2BIG if the domain has too many watches.
    pub async fn watch(&self, path: &Path) -> Result<Watch, Error> {
        Watch::register(&self.store, path).await
    }

    /// Home directory of a domain, normally `/local/domain/<domid>`.
    ///
    /// # Errors
    /// As the server answers, or the answer is not a path.
    pub async fn domain_path(&self, domain: DomainId) -> Result<Path, Error> {
        let kind = MessageType::GET_DOMAIN_PATH;
        let object = format!("of domain {domain}");
        let payload = self.store.request(kind, &object, encode_strings([domain.to_string()])).await?;
        Path::try_from(payload.strip_suffix(&[0]).unwrap_or(&payload)).map_err(|error| Error::Answer {
            operation: kind,
            object,
            reason: error.to_string(),
        })
    }

    /// Tells the server about a new domain, as a toolstack does: the machine frame of its xenstore page and the port of
    /// its event channel. [`Path::INTRODUCE_DOMAIN`] fires.
    ///
    /// # Errors
    /// EACCES for any domain but 0; as the server answers if it cannot reach the domain.
    pub async fn introduce(&self, domain: DomainId, frame: u64, port: u32) -> Result<(), Error> {
        let arguments = [domain.to_string(), frame.to_string(), port.to_string()];
        let object = format!("of domain {domain}");
        self.store.request(MessageType::INTRODUCE, object, encode_strings(arguments)).await.map(drop)
    }

    /// Tells the server that a domain is gone, as a toolstack does. [`Path::RELEASE_DOMAIN`] fires.
    ///
    /// # Errors
    /// EACCES for any domain but 0; ENOENT if the domain is not introduced.
    pub async fn release(&self, domain: DomainId) -> Result<(), Error> {
        let object = format!("of domain {domain}");
        self.store.request(MessageType::RELEASE, object, encode_strings([domain.to_string()])).await.map(drop)
    }

    /// Has the domain been introduced to the server, and not been released since?
    ///
    /// # Errors
    /// As the server answers, or the answer is neither `T` nor `F`.
    pub async fn is_domain_introduced(&self, domain: DomainId) -> Result<bool, Error> {
        let kind = MessageType::IS_DOMAIN_INTRODUCED;
        let object = format!("of domain {domain}");
        let payload = self.store.request(kind, &object, encode_strings([domain.to_string()])).await?;
        match payload.as_slice() {
            b"T\0" => Ok(true),
            b"F\0" => Ok(false),
            other => Err(Error::Answer {
                operation: kind,
                object,
                reason: format!("\"{}\" is neither T nor F", other.escape_ascii()),
            }),
        }
    }
}

impl Deref for Client {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
