//! The server in memory against xenstored, request by request: any sequence of requests of two clients of domain 0 and
//! one guest must give the same answers and the same watch events.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a test that cannot go on stops where it is")]

use std::fmt;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use xenpcid_address::DomainId;
use xenpcid_tests::xenstored::{Xenstored, program};
use xenstore_protocol::memory::Server;
use xenstore_protocol::wire::{Decoder, Message, MessageType, encode_strings};
use xenstore_protocol::{Client, Endpoint, Path};

const GUEST: DomainId = DomainId(5);
const CLIENTS: usize = 3;

/// What a client does.
#[derive(Clone)]
enum Action {
    /// A request of this type and payload, in the client's n-th open transaction or outside of any.
    Request(MessageType, Vec<u8>, Option<usize>),
    Begin,
    /// Ends the client's n-th open transaction.
    End(usize, bool),
    /// The guest dies and another takes its number.
    Rebirth,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(kind, payload, transaction) => {
                let shown = payload.get(..40).unwrap_or(payload).escape_ascii();
                write!(f, "{kind} \"{shown}\" ({} bytes) in {transaction:?}", payload.len())
            }
            Self::Begin => write!(f, "begin"),
            Self::End(index, commit) => write!(f, "end {index}, commit: {commit}"),
            Self::Rebirth => write!(f, "rebirth"),
        }
    }
}

fn paths() -> impl Strategy<Value = String> {
    // Few names, so that requests meet.
    let absolute = vec(select(vec!["a", "b", "c"]), 1..4).prop_map(|names| format!("/{}", names.join("/")));
    let home = vec(select(vec!["a", "b"]), 0..3)
        .prop_map(|names| std::iter::once("/local/domain/5").chain(names).collect::<Vec<_>>().join("/"));
    let odd =
        select(vec!["/", "", "a", "b/c", "//", "/a/", "/a b", "@releaseDomain", "@other", "/a/../b", "device/pci"]);
    prop_oneof![6 => absolute, 3 => home, 2 => odd.prop_map(str::to_owned)]
}

fn permissions() -> impl Strategy<Value = Vec<u8>> {
    let entry = (select(vec!["n", "r", "w", "b"]), select(vec![0_u16, 5, 6]))
        .prop_map(|(access, domain)| format!("{access}{domain}"));
    let odd = select(vec![b"".to_vec(), b"n0".to_vec(), b"x0\0".to_vec(), b"n\0".to_vec()]);
    prop_oneof![9 => vec(entry, 1..7).prop_map(encode_strings), 1 => odd]
}

fn requests() -> impl Strategy<Value = (MessageType, Vec<u8>)> {
    let value = prop_oneof![vec(any::<u8>(), 0..4), Just(vec![b'v'; 2016])];
    let one = select(vec![
        MessageType::READ,
        MessageType::DIRECTORY,
        MessageType::GET_PERMS,
        MessageType::MKDIR,
        MessageType::RM,
    ]);
    let token = select(vec!["1", "2"]);
    let watch = select(vec![MessageType::WATCH, MessageType::UNWATCH]);
    prop_oneof![
        8 => (one, paths()).prop_map(|(kind, path)| (kind, encode_strings([path]))),
        5 => (paths(), value).prop_map(|(path, value)| (MessageType::WRITE, [encode_strings([path]), value].concat())),
        // A root that belongs to a guest dies with it, and the server with the root.
        3 => (paths().prop_filter("the root", |path| path != "/"), permissions()).prop_map(|(path, rest)| {
            (MessageType::SET_PERMS, [encode_strings([path]), rest].concat())
        }),
        3 => (watch, paths(), token).prop_map(|(kind, path, token)| (kind, encode_strings([path.as_str(), token]))),
        1 => Just((MessageType::RESET_WATCHES, vec![0])),
        1 => select(vec!["0", "5", "6"]).prop_map(|domain| (MessageType::IS_DOMAIN_INTRODUCED, encode_strings([domain]))),
        // A payload that is not what the type asks for; of READ and its like, xenstored's answer depends on what was
        // before.
        1 => select(vec![
            (MessageType::WRITE, b"/a".to_vec()),
            (MessageType::WATCH, b"/a\0".to_vec()),
            (MessageType::WATCH, b"/a\x001\x002\0".to_vec()),
            (MessageType::RELEASE, b"0\0".to_vec()),
        ]),
    ]
}

fn actions() -> impl Strategy<Value = (usize, Action)> {
    let transaction = prop_oneof![3 => Just(None), 2 => (0_usize..2).prop_map(Some)];
    let action = prop_oneof![
        20 => (requests(), transaction).prop_map(|((kind, payload), tx)| Action::Request(kind, payload, tx)),
        3 => Just(Action::Begin),
        3 => (0_usize..2, prop::bool::weighted(0.8)).prop_map(|(tx, commit)| Action::End(tx, commit)),
        1 => Just(Action::Rebirth),
    ];
    // What xenstored answers to others is whatever error came last.
    (0..CLIENTS, action).prop_filter("special path", |(client, action)| match action {
        Action::Request(MessageType::SET_PERMS, payload, _) if payload.starts_with(b"@") => {
            *client < CLIENTS - 1 && payload.starts_with(b"@releaseDomain")
        }
        _ => true,
    })
}

/// One connection, without the client's help: what it hides is to be compared as well.
struct Raw<S> {
    stream: S,
    decoder: Decoder,
    transactions: Vec<u32>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    fn new(stream: S) -> Self {
        Self { stream, decoder: Decoder::new(), transactions: Vec::new() }
    }

    async fn receive(&mut self) -> Message {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return message;
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "the server has closed the connection");
            self.decoder.push(buffer.get(..length).unwrap());
        }
    }

    /// The answer to a request; the events that come before it are kept.
    async fn ask(
        &mut self,
        kind: MessageType,
        payload: Vec<u8>,
        transaction_id: u32,
        events: &mut Vec<String>,
    ) -> Message {
        let request = Message { kind, request_id: 1, transaction_id, payload };
        self.stream.write_all(&request.encode().unwrap()).await.unwrap();
        loop {
            let message = self.receive().await;
            if message.kind != MessageType::WATCH_EVENT {
                return message;
            }
            events.push(message.payload.escape_ascii().to_string());
        }
    }

    async fn act(&mut self, action: &Action, events: &mut Vec<String>) -> String {
        let answer = match action {
            Action::Request(kind, payload, transaction) => {
                let transaction = transaction.and_then(|index| self.transactions.get(index)).copied();
                self.ask(*kind, payload.clone(), transaction.unwrap_or(0), events).await
            }
            Action::Begin => {
                let answer = self.ask(MessageType::TRANSACTION_START, vec![0], 0, events).await;
                if let Ok(id) = String::from_utf8_lossy(&answer.payload).trim_end_matches('\0').parse() {
                    self.transactions.push(id);
                }
                answer
            }
            Action::End(index, commit) => {
                let id = if *index < self.transactions.len() { self.transactions.remove(*index) } else { 0 };
                let payload = encode_strings([if *commit { "T" } else { "F" }]);
                self.ask(MessageType::TRANSACTION_END, payload, id, events).await
            }
            Action::Rebirth => return String::new(),
        };
        format!("{} {}", answer.kind, answer.payload.escape_ascii())
    }

    /// The events that are on their way: they come before the answer to this.
    async fn settle(&mut self, events: &mut Vec<String>) {
        self.ask(MessageType::GET_DOMAIN_PATH, encode_strings(["0"]), 0, events).await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A server with its three clients.
struct Side {
    host: Host,
    clients: Vec<Raw<Box<dyn Stream>>>,
}

enum Host {
    Memory(Server),
    Real(Xenstored),
}

impl Side {
    async fn new(host: Host) -> Self {
        let mut side = Self { host, clients: Vec::new() };
        for _ in 0..CLIENTS - 1 {
            let stream: Box<dyn Stream> = match &side.host {
                Host::Memory(server) => Box::new(server.connect(DomainId::DOM0)),
                Host::Real(server) => Box::new(UnixStream::connect(server.socket()).await.unwrap()),
            };
            side.clients.push(Raw::new(stream));
        }
        side.give_birth(&mut Vec::new()).await;
        side
    }

    /// Makes the guest, with a home of its own.
    async fn give_birth(&mut self, events: &mut Vec<String>) {
        match &self.host {
            Host::Memory(server) => server.create_domain(GUEST),
            Host::Real(server) => server.create_domain(GUEST),
        }
        let home = "/local/domain/5";
        for (kind, payload) in [
            // xenstored tells by its count of changes that a domain is newer than a permission: count on.
            (MessageType::MKDIR, encode_strings([home])),
            (MessageType::WRITE, encode_strings(["/tool"])),
            (MessageType::INTRODUCE, encode_strings(["5", "1", "1"])),
            (MessageType::SET_PERMS, encode_strings([home, "n5"])),
        ] {
            let first = self.clients.first_mut().unwrap();
            let answer = first.ask(kind, payload, 0, events).await;
            assert_eq!(answer.payload, b"OK\0");
        }
        let stream: Box<dyn Stream> = match &self.host {
            Host::Memory(server) => Box::new(server.connect(GUEST)),
            Host::Real(server) => Box::new(UnixStream::connect(server.guest_socket(GUEST)).await.unwrap()),
        };
        self.clients.push(Raw::new(stream));
    }

    async fn rebirth(&mut self, events: &mut Vec<String>) {
        self.clients.truncate(CLIENTS - 1);
        if let Host::Real(server) = &self.host {
            server.destroy_domain(GUEST);
        }
        let first = self.clients.first_mut().unwrap();
        first.ask(MessageType::WRITE, encode_strings(["/tool"]), 0, events).await;
        first.ask(MessageType::RELEASE, encode_strings(["5"]), 0, events).await;
        self.give_birth(events).await;
    }

    /// The answer, and for each client the events; in no particular order, since none is promised.
    async fn act(&mut self, client: usize, action: &Action) -> (String, Vec<Vec<String>>) {
        let mut events = vec![Vec::new(); CLIENTS];
        if matches!(action, Action::Rebirth) {
            self.rebirth(events.first_mut().unwrap()).await;
        }
        let (client, own) = (self.clients.get_mut(client).unwrap(), events.get_mut(client).unwrap());
        let answer = client.act(action, own).await;
        for (client, events) in self.clients.iter_mut().zip(&mut events) {
            client.settle(events).await;
            events.sort();
            // xenstored queues no event that is waiting already.
            events.dedup();
        }
        (answer, events)
    }
}

/// The same sequences each time, so that a rare difference does not fail a change that has nothing to do with it. To look
/// for one: `PROPTEST_CASES=6000`, which also tries new ones.
fn configuration() -> ProptestConfig {
    let wanted = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return wanted;
    }
    ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(0x7e5), ..wanted }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn memory_server_answers_as_xenstored_does(actions in vec(actions(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut real = Side::new(Host::Real(Xenstored::start())).await;
            let mut memory = Side::new(Host::Memory(Server::new())).await;
            for (step, (client, action)) in actions.iter().enumerate() {
                let expected = real.act(*client, action).await;
                let found = memory.act(*client, action).await;
                prop_assert_eq!(found, expected, "step {}: client {}: {:?}", step, client, action);
            }
            Ok(())
        })?;
    }
}

/// What Debian's xenstore-ls prints of a server.
async fn listing(socket: PathBuf) -> String {
    let mut command = program("usr/bin/xenstore-ls");
    command.args(["-f", "-p", "/"]).env("XENSTORED_PATH", socket);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn xenstore_ls_shows_the_memory_server_as_it_shows_xenstored() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new();
    let served = server.serve_unix(folder.path().join("socket")).unwrap();
    let real = Xenstored::start();
    let mut listings = Vec::new();
    for socket in [served.path().to_owned(), real.socket()] {
        let client = Client::connect(Endpoint::at(&socket)).await.unwrap();
        client.write(&Path::domain(DomainId::DOM0).child("name").unwrap(), "Domain-0").await.unwrap();
        let many = Path::from_static("/many");
        for number in 0..400 {
            client.write(&many.child(format!("{number:020}")).unwrap(), number.to_string()).await.unwrap();
        }
        client.set_permissions(&many, &"n0,r1,b2".parse().unwrap()).await.unwrap();
        client.write(&many.child("binary").unwrap(), [0, 1, 0x7f, 0xff, b'"', b'\\']).await.unwrap();
        listings.push(listing(socket).await);
    }
    let [memory, real] = listings.as_slice() else { panic!("two listings") };
    assert!(memory.contains("/many/00000000000000000399 = \"399\"   (n0)"), "{memory}");
    assert_eq!(memory, real);
}
