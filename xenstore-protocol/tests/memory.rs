//! What the server in memory offers beyond xenstored: faults, and a host's life from outside.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use xenpcid_address::DomainId;
use xenstore_protocol::memory::{Fault, FaultAction, Quota, Server};
use xenstore_protocol::wire::MessageType;
use xenstore_protocol::{Changes, Client, ConnectionState, Endpoint, Error, ErrorName, Path};

const GUEST: DomainId = DomainId(1);
const NODE: Path = Path::from_static("/dir/node");

async fn dom0(server: &Server) -> Client {
    server.client(DomainId::DOM0).await.unwrap()
}

fn name<T>(result: Result<T, Error>) -> Option<ErrorName> {
    result.err().and_then(|error| error.name().cloned())
}

#[tokio::test]
async fn fault_happens_once_after_those_that_it_lets_through() {
    let server = Server::new();
    let client = dom0(&server).await;
    server.inject(Fault { skip: 2, ..Fault::next(MessageType::WRITE, FaultAction::Error(ErrorName::Enospc)) });
    let mut results = Vec::new();
    for _ in 0..4 {
        results.push(name(client.write(&NODE, "").await));
    }
    assert_eq!(results, [None, None, Some(ErrorName::Enospc), None]);
    assert!(server.pending_faults().is_empty());
}

#[tokio::test]
async fn fault_happens_only_to_its_domain_type_and_path() {
    let server = Server::new();
    let (client, guest) = (dom0(&server).await, server.client(GUEST).await.unwrap());
    client.write(&NODE, "").await.unwrap();
    client.set_permissions(&NODE, &"n1".parse().unwrap()).await.unwrap();
    server.inject(Fault {
        domain: GUEST,
        kind: None,
        below: Some(Path::from_static("/dir")),
        skip: 0,
        action: FaultAction::Error(ErrorName::Eio),
    });
    assert_eq!(name(client.read(&NODE).await), None, "another domain");
    assert_eq!(name(guest.read(&Path::from_static("/tool")).await), Some(ErrorName::Eacces), "another path");
    guest.domain_path(GUEST).await.unwrap();
    assert_eq!(name(guest.read(&NODE).await), Some(ErrorName::Eio));
}

#[tokio::test]
async fn injected_conflict_ends_the_transaction_and_does_nothing() {
    let server = Server::new();
    let client = dom0(&server).await;
    server.inject(Fault::next(MessageType::TRANSACTION_END, FaultAction::Error(ErrorName::Eagain)));
    let tx = client.begin().await.unwrap();
    tx.write(&NODE, "").await.unwrap();
    assert_eq!(name(tx.commit().await), Some(ErrorName::Eagain));
    assert!(!client.exists(&NODE).await.unwrap());
    client.transaction(async |tx| tx.write(&NODE, "").await).await.unwrap();
}

#[tokio::test]
async fn shutdown_is_reported_although_the_domain_stays() {
    let server = Server::new();
    let client = dom0(&server).await;
    server.introduce(GUEST);
    let mut released = client.watch(&Path::RELEASE_DOMAIN).await.unwrap();
    released.changed().await.unwrap();
    server.shut_down();
    assert_eq!(released.changed().await.unwrap(), Changes::Paths([Path::RELEASE_DOMAIN].into()));
    assert!(client.is_domain_introduced(GUEST).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn client_of_a_destroyed_domain_does_not_bring_it_back() {
    let server = Server::new();
    let (client, guest) = (dom0(&server).await, server.client(GUEST).await.unwrap());
    let mut state = guest.state();
    server.release(GUEST);
    state.wait_for(|state| *state == ConnectionState::Reconnecting).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(*state.borrow(), ConnectionState::Reconnecting);
    client.mkdir(&NODE).await.unwrap();
    assert_eq!(name(client.set_permissions(&NODE, &"n1".parse().unwrap()).await), Some(ErrorName::Enoent));
}

#[tokio::test]
async fn restart_loses_the_nodes_but_not_the_domains() {
    let server = Server::new();
    let client = dom0(&server).await;
    let guest = server.client(GUEST).await.unwrap();
    server.introduce(GUEST);
    client.write(&NODE, "").await.unwrap();

    server.restart();
    for client in [&client, &guest] {
        client.state().wait_for(|state| *state == ConnectionState::Connected(2)).await.unwrap();
    }

    assert!(!client.exists(&NODE).await.unwrap());
    assert!(!client.is_domain_introduced(GUEST).await.unwrap());
    assert!(guest.domain_path(GUEST).await.is_ok());
}

#[tokio::test]
async fn quota_can_be_changed() {
    let server = Server::new();
    let guest = server.client(GUEST).await.unwrap();
    server.set_quota(Quota { watches: 1, ..Quota::default() });
    let _watch = guest.watch(&NODE).await.unwrap();
    assert_eq!(name(guest.watch(&NODE).await), Some(ErrorName::E2big));
}

#[tokio::test]
async fn socket_is_private_and_goes_with_its_guard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::new();
    let socket = server.serve_unix(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(server.serve_unix(&path).is_err(), "it is taken");
    let client = Client::connect(Endpoint::at(&path)).await.unwrap();
    client.write(&NODE, "so it has been accepted").await.unwrap();
    drop(socket);
    assert!(!path.exists());
    client.write(&NODE, "open connections stay").await.unwrap();
}
