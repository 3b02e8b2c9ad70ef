//! The client against the server in memory: what no conformance suite over a healthy connection can show.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xenpcid_address::DomainId;
use xenstore_protocol::client::{Connector, DIRTY_PATHS_MAX, Stream, TRANSACTION_ATTEMPTS};
use xenstore_protocol::memory::{Fault, FaultAction, Server};
use xenstore_protocol::wire::{Decoder, Message, MessageType};
use xenstore_protocol::{Changes, Client, ConnectionState, Endpoint, Error, ErrorName, Path};

const NODE: Path = Path::from_static("/test/node");
const OTHER: Path = Path::from_static("/test/other");

async fn dom0(server: &Server) -> Client {
    server.client(DomainId::DOM0).await.unwrap()
}

/// Waits until the connection has this state.
async fn reaches(client: &Client, state: ConnectionState) {
    client.state().wait_for(|now| *now == state).await.unwrap();
}

#[tokio::test]
async fn consumer_that_asks_before_it_looks_at_its_watch_is_answered() {
    let server = Server::new();
    let client = dom0(&server).await;
    let mut watch = client.watch(&NODE).await.unwrap();
    for number in 0..1000 {
        client.write(&NODE, number.to_string()).await.unwrap();
    }

    assert_eq!(client.read(&NODE).await.unwrap(), b"999");

    assert_eq!(watch.changed().await.unwrap(), Changes::Paths([NODE].into()));
    assert_eq!(watch.try_changed().unwrap(), None);
}

#[tokio::test]
async fn guest_that_writes_many_nodes_costs_its_watcher_one_look_at_everything() {
    let server = Server::new();
    let client = dom0(&server).await;
    let mut watch = client.watch(&NODE).await.unwrap();
    for number in 0..=DIRTY_PATHS_MAX {
        client.mkdir(&NODE.child(number).unwrap()).await.unwrap();
    }
    assert_eq!(watch.changed().await.unwrap(), Changes::Everything);
}

#[tokio::test]
async fn dropped_watch_is_removed_from_the_server() {
    let server = Server::new();
    let client = dom0(&server).await;
    let unwatch = Fault::next(MessageType::UNWATCH, FaultAction::Error(ErrorName::Eio));
    server.inject(unwatch);

    drop(client.watch(&NODE).await.unwrap());
    client.read(&Path::ROOT).await.unwrap();

    assert!(server.pending_faults().is_empty(), "no UNWATCH came");
}

#[tokio::test]
async fn refused_watch_is_an_error_with_the_servers_name() {
    let server = Server::new();
    server.inject(Fault::next(MessageType::WATCH, FaultAction::Error(ErrorName::E2big)));
    let client = dom0(&server).await;
    let error = client.watch(&NODE).await.unwrap_err();
    assert_eq!(error.name(), Some(&ErrorName::E2big));
}

#[tokio::test]
async fn request_in_flight_when_the_connection_breaks_fails_as_disconnected() {
    for action in [FaultAction::DisconnectBefore, FaultAction::DisconnectAfter] {
        let server = Server::new();
        let client = dom0(&server).await;
        server.inject(Fault::next(MessageType::WRITE, action.clone()));

        let error = client.write(&NODE, "1").await.unwrap_err();

        assert!(error.is_disconnected(), "{error}");
        reaches(&client, ConnectionState::Connected(2)).await;
        assert_eq!(client.exists(&NODE).await.unwrap(), action == FaultAction::DisconnectAfter);
    }
}

#[tokio::test]
async fn every_watch_is_there_and_dirty_after_a_reconnection() {
    let server = Server::new();
    let client = dom0(&server).await;
    let mut watches = [client.watch(&NODE).await.unwrap(), client.watch(&OTHER).await.unwrap()];
    for watch in &mut watches {
        assert_eq!(watch.changed().await.unwrap(), Changes::Paths([watch.path().clone()].into()));
    }

    server.restart();
    reaches(&client, ConnectionState::Connected(2)).await;

    for watch in &mut watches {
        assert_eq!(watch.changed().await.unwrap(), Changes::Everything);
    }
    // Whatever the new registrations themselves reported is through once this is answered.
    client.read(&Path::ROOT).await.unwrap();
    for watch in &mut watches {
        let _ = watch.try_changed().unwrap();
        client.write(watch.path(), "new").await.unwrap();
        assert_eq!(watch.changed().await.unwrap(), Changes::Paths([watch.path().clone()].into()));
    }
}

#[tokio::test]
async fn watch_that_the_server_refuses_after_a_reconnection_ends_with_its_error() {
    let server = Server::new();
    let client = dom0(&server).await;
    let mut watch = client.watch(&NODE).await.unwrap();
    server.inject(Fault::next(MessageType::WATCH, FaultAction::Error(ErrorName::E2big)));

    server.drop_connections(DomainId::DOM0);
    reaches(&client, ConnectionState::Connected(2)).await;
    client.read(&Path::ROOT).await.unwrap();

    // What was dirty before comes first: nothing is lost.
    while watch.try_changed().is_ok_and(|changes| changes.is_some()) {}
    assert_eq!(watch.changed().await.unwrap_err().name(), Some(&ErrorName::E2big));
}

#[tokio::test(start_paused = true)]
async fn requests_fail_at_once_while_there_is_no_server_and_work_again_afterwards() {
    let server = Server::new();
    let client = dom0(&server).await;
    server.set_accepting(false);
    server.drop_connections(DomainId::DOM0);
    reaches(&client, ConnectionState::Reconnecting).await;

    assert!(client.read(&NODE).await.unwrap_err().is_disconnected());
    assert!(client.watch(&NODE).await.unwrap_err().is_disconnected());
    assert!(client.begin().await.unwrap_err().is_disconnected());

    tokio::time::advance(Duration::from_secs(60)).await;
    server.set_accepting(true);
    reaches(&client, ConnectionState::Connected(2)).await;
    client.write(&NODE, "1").await.unwrap();
}

/// Takes each connection and drops it at once.
struct Flapping(Arc<AtomicU32>);

impl Connector for Flapping {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Box::new(tokio::io::duplex(16).0) as Box<dyn Stream>) })
    }
}

#[tokio::test(start_paused = true)]
async fn server_that_drops_each_connection_is_asked_ever_more_rarely() {
    let attempts = Arc::new(AtomicU32::new(0));
    let client = Client::with_connector(Flapping(attempts.clone())).await.unwrap();
    // The clock is the test's own: it moves on when everybody waits.
    tokio::time::sleep(Duration::from_secs(100)).await;
    // The first 1.27 s take eight attempts, then there is one each second.
    let made = attempts.load(Ordering::Relaxed);
    assert!((100..=110).contains(&made), "{made}");
    assert_ne!(*client.state().borrow(), ConnectionState::Closed);
}

#[tokio::test]
async fn transaction_over_a_reconnection_fails_and_does_nothing() {
    let server = Server::new();
    let client = dom0(&server).await;
    let old = client.begin().await.unwrap();
    old.write(&NODE, "old").await.unwrap();
    server.drop_connections(DomainId::DOM0);
    reaches(&client, ConnectionState::Connected(2)).await;
    // The new connection gives the same number to another transaction.
    let new = client.begin().await.unwrap();
    new.write(&OTHER, "new").await.unwrap();

    assert!(old.write(&NODE, "old").await.unwrap_err().is_disconnected());
    assert!(old.commit().await.unwrap_err().is_disconnected());

    new.commit().await.unwrap();
    assert!(!client.exists(&NODE).await.unwrap());
    assert!(client.exists(&OTHER).await.unwrap());
}

#[tokio::test]
async fn transaction_is_done_again_after_a_conflict() {
    let server = Server::new();
    let (client, rival) = (dom0(&server).await, dom0(&server).await);
    client.write(&NODE, "0").await.unwrap();
    let mut attempts = 0;

    let seen = client
        .transaction(async |tx| {
            attempts += 1;
            let seen = tx.read_string(&NODE).await?;
            if attempts < 3 {
                rival.write(&NODE, attempts.to_string()).await?;
            }
            tx.write(&OTHER, &seen).await?;
            Ok::<_, Error>(seen)
        })
        .await
        .unwrap();

    assert_eq!((attempts, seen.as_str()), (3, "2"));
    assert_eq!(client.read(&OTHER).await.unwrap(), b"2");
}

/// xenstored answers EIO here, since the root that the transaction has used does not know the new node.
#[tokio::test]
async fn transaction_that_fails_because_of_a_conflict_is_done_again() {
    const FOUND_ABSENT: Path = Path::from_static("/absent");
    const NEW: Path = Path::from_static("/new");
    let server = Server::new();
    let (client, rival) = (dom0(&server).await, dom0(&server).await);
    let mut attempts = 0;
    client
        .transaction(async |tx| {
            attempts += 1;
            tx.rm(&FOUND_ABSENT).await?;
            if attempts == 1 {
                rival.mkdir(&NEW).await?;
            }
            tx.rm(&NEW).await
        })
        .await
        .unwrap();
    assert_eq!(attempts, 2);
    assert!(!client.exists(&NEW).await.unwrap());
}

#[tokio::test]
async fn transaction_that_meets_a_rival_each_time_is_given_up() {
    let server = Server::new();
    let (client, rival) = (dom0(&server).await, dom0(&server).await);
    let mut attempts = 0;
    let result = client
        .transaction(async |tx| {
            attempts += 1;
            tx.write(&NODE, "mine").await?;
            rival.write(&NODE, "theirs").await
        })
        .await;
    assert!(matches!(result, Err(Error::Conflict { attempts: TRANSACTION_ATTEMPTS })), "{result:?}");
    assert_eq!(attempts, TRANSACTION_ATTEMPTS);
}

#[tokio::test]
async fn failed_or_dropped_transactions_leave_none_open() {
    let server = Server::new();
    let guest = server.client(DomainId(1)).await.unwrap();
    // More than a domain may have open at a time.
    for _ in 0..30 {
        let refused = guest.transaction(async |tx| tx.write(&NODE, "1").await).await;
        assert_eq!(refused.unwrap_err().name(), Some(&ErrorName::Eacces));
        drop(guest.begin().await.unwrap());
        let cancelled = guest.begin();
        tokio::select! {
            biased;
            _ = cancelled => panic!("no answer can be there yet"),
            () = std::future::ready(()) => {}
        }
    }
    guest.begin().await.unwrap();
}

#[tokio::test]
async fn other_error_of_the_body_is_kept() {
    #[derive(Debug, PartialEq)]
    struct Mine;
    impl From<Error> for Mine {
        fn from(_: Error) -> Self {
            Self
        }
    }
    let server = Server::new();
    let client = dom0(&server).await;
    let result: Result<(), Mine> = client
        .transaction(async |tx| {
            tx.write(&NODE, "1").await?;
            Err(Mine)
        })
        .await;
    assert_eq!(result, Err(Mine));
    assert!(!client.exists(&NODE).await.unwrap());
}

#[tokio::test]
async fn transaction_can_run_on_a_task_of_another_thread() {
    let server = Server::new();
    let client = dom0(&server).await;
    let handle = client.clone();
    tokio::spawn(async move { handle.transaction(async |tx| tx.write(&NODE, "1").await).await })
        .await
        .unwrap()
        .unwrap();
    assert!(client.exists(&NODE).await.unwrap());
}

#[tokio::test]
async fn client_over_a_stream_is_closed_when_the_stream_ends() {
    let server = Server::new();
    let client = Client::over(server.connect(DomainId::DOM0));
    let mut watch = client.watch(&NODE).await.unwrap();
    watch.changed().await.unwrap();

    server.drop_connections(DomainId::DOM0);

    assert!(watch.changed().await.unwrap_err().is_disconnected());
    reaches(&client, ConnectionState::Closed).await;
    assert!(client.read(&NODE).await.unwrap_err().is_disconnected());
}

#[tokio::test]
async fn request_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let server = Server::new();
    let client = dom0(&server).await;
    let error = client.write(&NODE, vec![0; 4096]).await.unwrap_err();
    assert!(matches!(error, Error::TooLong(_)), "{error}");
    assert!(!client.exists(&NODE).await.unwrap());
    assert_eq!(*client.state().borrow(), ConnectionState::Connected(1));
}

#[tokio::test]
async fn client_of_a_socket_finds_the_server_that_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (first, second) = (Server::new(), Server::new());
    let socket = first.serve_unix(&path).unwrap();
    let client = Client::connect(Endpoint::at(&path)).await.unwrap();
    client.write(&NODE, "first").await.unwrap();

    drop(socket);
    let _socket = second.serve_unix(&path).unwrap();
    first.drop_connections(DomainId::DOM0);
    reaches(&client, ConnectionState::Connected(2)).await;

    assert!(!client.exists(&NODE).await.unwrap());
}

/// A server of our own, which answers one request with whatever the test wants.
async fn answer_with(answer: impl FnOnce(Message) -> Vec<u8> + Send + 'static) -> Client {
    let (near, mut far) = tokio::io::duplex(65536);
    tokio::spawn(async move {
        let mut decoder = Decoder::new();
        let request = loop {
            let mut bytes = [0; 64];
            let length = far.read(&mut bytes).await.unwrap();
            decoder.push(&bytes[..length]);
            if let Some(message) = decoder.next_message().unwrap() {
                break message;
            }
        };
        far.write_all(&answer(request)).await.unwrap();
        // Keeps the connection until the client gives it up.
        let _ = far.read(&mut [0; 64]).await;
    });
    Client::over(near)
}

#[tokio::test]
async fn answer_of_another_type_is_an_error_and_the_connection_goes_on() {
    let client = answer_with(|request| Message { kind: MessageType::WRITE, ..request }.encode().unwrap()).await;
    let error = client.read(&NODE).await.unwrap_err();
    assert!(matches!(error, Error::Answer { .. }), "{error}");
    assert_eq!(*client.state().borrow(), ConnectionState::Connected(1));
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_connection() {
    let client = answer_with(|_| vec![0xff; 16]).await;
    assert!(client.read(&NODE).await.unwrap_err().is_disconnected());
    reaches(&client, ConnectionState::Closed).await;
}

#[tokio::test]
async fn answer_to_nothing_and_event_for_no_watch_are_ignored() {
    let client = answer_with(|request| {
        let stray = Message { request_id: 77, ..request.clone() };
        let event = Message {
            kind: MessageType::WATCH_EVENT,
            request_id: 0,
            transaction_id: 0,
            payload: b"/a\0no-such-token\0".to_vec(),
        };
        let answer = Message { payload: b"value".to_vec(), ..request };
        [stray, event, answer].iter().flat_map(|message| message.encode().unwrap()).collect()
    })
    .await;
    assert_eq!(client.read(&NODE).await.unwrap(), b"value");
}
