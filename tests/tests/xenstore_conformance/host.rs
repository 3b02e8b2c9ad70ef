use std::collections::BTreeSet;

use tokio::net::UnixStream;
use xenpcid_address::DomainId;
use xenpcid_tests::xenstored::Xenstored;
use xenstore_protocol::memory::Server;
use xenstore_protocol::{Changes, Client, Endpoint, Error, Path, Permissions, Watch};

/// A host with one of the two servers.
pub struct Host {
    server: Kind,
    /// A client of domain 0.
    pub dom0: Client,
}

enum Kind {
    Memory(Server),
    Real(Xenstored),
}

impl Host {
    /// With the server in memory.
    pub async fn in_memory() -> Self {
        let server = Server::new();
        Self { dom0: server.client(DomainId::DOM0).await.unwrap(), server: Kind::Memory(server) }
    }

    /// With xenstored.
    pub async fn real() -> Self {
        let server = Xenstored::start();
        Self { dom0: Client::connect(Endpoint::at(server.socket())).await.unwrap(), server: Kind::Real(server) }
    }

    /// One more client of domain 0, with a connection of its own.
    pub async fn another_dom0(&self) -> Client {
        match &self.server {
            Kind::Memory(server) => server.client(DomainId::DOM0).await.unwrap(),
            Kind::Real(server) => Client::connect(Endpoint::at(server.socket())).await.unwrap(),
        }
    }

    /// Lets a domain exist that the server does not know yet.
    pub fn create_domain(&self, domain: DomainId) {
        match &self.server {
            Kind::Memory(server) => server.create_domain(domain),
            Kind::Real(server) => server.create_domain(domain),
        }
    }

    /// A new domain, introduced, and its client.
    pub async fn guest(&self, domain: DomainId) -> Client {
        self.create_domain(domain);
        self.dom0.introduce(domain, 1, 1).await.unwrap();
        match &self.server {
            Kind::Memory(server) => server.client(domain).await.unwrap(),
            Kind::Real(server) => Client::over(UnixStream::connect(server.guest_socket(domain)).await.unwrap()),
        }
    }

    /// The domain is destroyed, and the toolstack says so.
    pub async fn destroy(&self, domain: DomainId) {
        if let Kind::Real(server) = &self.server {
            server.destroy_domain(domain);
        }
        self.dom0.release(domain).await.unwrap();
    }

    /// A home directory that belongs to the domain, as a toolstack makes it.
    pub async fn home(&self, domain: DomainId) -> Path {
        let home = Path::domain(domain);
        self.dom0.mkdir(&home).await.unwrap();
        self.dom0.set_permissions(&home, &Permissions::private(domain)).await.unwrap();
        home
    }
}

/// A path, from text that is one.
pub fn path(text: &str) -> Path {
    text.parse().unwrap()
}

/// The server's error name, or that there was none.
pub fn name<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "OK".to_owned(),
        Err(error) => error.name().map_or_else(|| format!("{error}"), ToString::to_string),
    }
}

/// What the watch has reported up to now. Messages keep their order, so an answer that comes later proves that nothing
/// is on its way any more.
pub async fn changed(client: &Client, watch: &mut Watch) -> BTreeSet<String> {
    client.domain_path(DomainId::DOM0).await.unwrap();
    match watch.try_changed().unwrap() {
        None => BTreeSet::new(),
        Some(Changes::Paths(paths)) => paths.iter().map(ToString::to_string).collect(),
        Some(Changes::Everything) => ["everything".to_owned()].into(),
    }
}
