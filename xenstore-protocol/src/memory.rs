//! A xenstore server in memory, for tests and simulated hosts.
//!
//! It behaves as xenstored 4.17 does where a client can tell: permissions and their inheritance, transactions and
//! conflicts, watches, quotas, long directories. One conformance suite runs over both. Not there: SET_TARGET, RESUME and
//! CONTROL.
//!
//! ```
//! # use xenstore_protocol::{Error, Path, memory::Server};
//! # use xenpcid_address::DomainId;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
//! let server = Server::new();
//! let dom0 = server.client(DomainId::DOM0).await?;
//! dom0.write(&Path::from_static("/vm/name"), "web1").await?;
//! # Ok(()) }
//! ```

mod faults;
mod nodes;
mod quota;
mod session;
mod store;
mod tree;
mod unix;
mod watches;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use tokio::io::DuplexStream;
use xenpcid_address::DomainId;

pub use faults::{Fault, FaultAction};
pub use quota::Quota;
pub use unix::UnixServer;

use crate::Error;
use crate::client::{Client, Connector, Stream};
use store::Store;

/// Bytes that may be under way in one direction.
const BUFFER: usize = 65536;

/// The server. Clones share it.
#[derive(Clone, Debug)]
pub struct Server {
    store: Arc<Mutex<Store>>,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server in the state in which xenstored starts: the nodes `/tool` and `/tool/xenstored`, and domain 0.
    #[must_use]
    pub fn new() -> Self {
        Self { store: Arc::new(Mutex::new(Store::new())) }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A panicking test must not take the others' server with it.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A byte stream on which the server takes the other side for this domain.
    ///
    /// Must be called on a tokio runtime, on which the connection is served.
    #[must_use]
    pub fn connect(&self, domain: DomainId) -> DuplexStream {
        let (client, server) = tokio::io::duplex(BUFFER);
        self.serve(domain, server);
        client
    }

    fn serve(&self, domain: DomainId, stream: impl Stream + 'static) {
        let (id, outgoing) = self.store().connect(domain);
        tokio::spawn(session::serve(self.store.clone(), id, outgoing, stream));
    }

    /// A client for this domain, which connects again when its connection is dropped, unless the domain is gone.
    ///
    /// # Errors
    /// [`Error::Connect`] if connections are not accepted.
    pub async fn client(&self, domain: DomainId) -> Result<Client, Error> {
        self.create_domain(domain);
        Client::with_connector(MemoryConnector { server: self.clone(), domain }).await
    }

    /// The hypervisor has made a domain, so that nodes can be given to it. Connecting or introducing it implies this.
    pub fn create_domain(&self, domain: DomainId) {
        self.store().create_domain(domain);
    }

    /// The toolstack introduces a domain: [`Path::INTRODUCE_DOMAIN`](crate::Path::INTRODUCE_DOMAIN) fires.
    pub fn introduce(&self, domain: DomainId) {
        self.store().introduce(domain);
    }

    /// A domain has shut down or crashed, but still exists: [`Path::RELEASE_DOMAIN`](crate::Path::RELEASE_DOMAIN) fires.
    pub fn shut_down(&self) {
        self.store().fire_release();
    }

    /// A domain is destroyed: its connections end, its nodes are removed, and
    /// [`Path::RELEASE_DOMAIN`](crate::Path::RELEASE_DOMAIN) fires.
    pub fn release(&self, domain: DomainId) {
        self.store().release(domain);
    }

    /// Changes the limits of unprivileged domains.
    pub fn set_quota(&self, quota: Quota) {
        self.store().quota = quota;
    }

    /// Lets a later request fail.
    pub fn inject(&self, fault: Fault) {
        self.store().faults.push(fault);
    }

    /// Takes back the faults that have not happened; how many.
    pub fn forget_faults(&self) -> usize {
        std::mem::take(&mut self.store().faults).len()
    }

    /// The faults that have not happened yet.
    #[must_use]
    pub fn pending_faults(&self) -> Vec<Fault> {
        self.store().faults.clone()
    }

    /// Drops the connections of a domain. Its clients connect again, unless connections are not accepted.
    pub fn drop_connections(&self, domain: DomainId) {
        self.store().disconnect_domains(|connected| connected == domain);
    }

    /// Whether [`Server::client`] and its reconnections succeed. Open connections stay.
    pub fn set_accepting(&self, accepting: bool) {
        self.store().accepting = accepting;
    }

    /// Loses everything, as a crash and a fresh start of xenstored do: nodes, watches, connections. The domains still
    /// exist, but are not introduced.
    pub fn restart(&self) {
        self.store().restart();
    }

    /// Serves a unix socket, each of whose clients is domain 0, as xenstored's is. The socket can be opened by this user
    /// only. `XENSTORED_PATH=path xenstore-ls -fp /` shows the tree.
    ///
    /// # Errors
    /// The socket cannot be made; for one, there is a file at `path`.
    pub fn serve_unix(&self, path: impl AsRef<std::path::Path>) -> io::Result<UnixServer> {
        UnixServer::bind(self.clone(), path.as_ref())
    }
}

struct MemoryConnector {
    server: Server,
    domain: DomainId,
}

impl Connector for MemoryConnector {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Error>> {
        Box::pin(async {
            let possible = {
                let store = self.server.store();
                store.accepting && store.knows(self.domain)
            };
            if possible {
                return Ok(Box::new(self.server.connect(self.domain)) as Box<dyn Stream>);
            }
            let tried = "the server in memory takes no connection of this domain now".to_owned();
            Err(Error::Connect { tried, kind: io::ErrorKind::ConnectionRefused })
        })
    }
}
