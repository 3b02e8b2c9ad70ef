//! What a client cannot do to the server.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::LocalSet;
use xenpcid_control::memory::serve;
use xenpcid_control::{BindError, Client, ClientError, GetStatus, Limits, ListDevices, Server};

use crate::samples::{self, Daemon};

/// Sends bytes and reads until the server closes, or until `replies` messages are there.
fn exchange(daemon: &Daemon, bytes: &[u8], replies: usize) -> Vec<Value> {
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(bytes).unwrap();
    read(&mut stream, replies)
}

fn read(stream: &mut UnixStream, replies: usize) -> Vec<Value> {
    let mut received = Vec::new();
    let mut byte = [0];
    while received.iter().filter(|byte| **byte == 0).count() < replies {
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => received.extend(byte),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                break;
            }
        }
    }
    let messages = received.split(|byte| *byte == 0).filter(|message| !message.is_empty());
    messages.map(|message| serde_json::from_slice(message).unwrap()).collect()
}

fn error_of(reply: &Value) -> &str {
    reply.get("error").and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn message_that_is_no_call_is_answered_with_the_reason_and_the_connection_closed() {
    let daemon = Daemon::start(samples::recorded());
    for bytes in [&b"{\0"[..], b"\0", b"[]\0", b"{\"method\":1}\0", b"{}\0", b"\xff\xfe\0"] {
        // One reply more than there are: it ends because the server closes.
        let replies = exchange(&daemon, bytes, 2);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(error_of(&replies[0]), "io.xenpcid.Control.BadMessage", "{replies:?}");
    }
}

#[test]
fn message_that_does_not_end_is_cut_off_at_the_limit() {
    let daemon = Daemon::start(samples::recorded());
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    let chunk = vec![b' '; 4096];
    let mut sent = 0;
    // The server closes long before a mebibyte, and the socket's buffer is smaller than that.
    while stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 1 << 20, "the server reads on and on");
    }
    let replies = read(&mut stream, 2);
    assert_eq!(error_of(&replies[0]), "io.xenpcid.Control.BadMessage");
    assert_eq!(replies[0]["parameters"]["reason"], "it is longer than 65536 bytes");
}

#[test]
fn calls_that_name_nothing_known_are_refused_by_name_and_the_connection_goes_on() {
    let daemon = Daemon::start(samples::recorded());
    let calls = [
        (json!({"method": "io.xenpcid.Control.Nothing"}), "org.varlink.service.MethodNotFound", "method"),
        (json!({"method": "org.example.Nothing"}), "org.varlink.service.InterfaceNotFound", "interface"),
        (json!({"method": "nothing"}), "org.varlink.service.InterfaceNotFound", "interface"),
        (
            json!({"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "org.example"}}),
            "org.varlink.service.InterfaceNotFound",
            "interface",
        ),
    ];
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    for (call, error, parameter) in calls {
        stream.write_all(format!("{call}\0").as_bytes()).unwrap();
        let replies = read(&mut stream, 1);
        assert_eq!(error_of(&replies[0]), error, "{replies:?}");
        assert!(replies[0]["parameters"][parameter].is_string(), "{replies:?}");
    }
}

#[test]
fn wrong_parameters_are_refused_by_name() {
    let daemon = Daemon::start(samples::recorded());
    let describe = "io.xenpcid.Control.DescribeDevice";
    for (call, parameter) in [
        (json!({"method": describe, "parameters": {"device": "zz"}}), "device"),
        (json!({"method": describe, "parameters": {"device": 1}}), "device"),
        (json!({"method": describe, "parameters": {}}), "device"),
        (json!({"method": describe}), "device"),
        (json!({"method": describe, "parameters": {"device": "0:3:0.0", "devise": 1}}), "devise"),
        (json!({"method": "io.xenpcid.Control.ListDevices", "parameters": {"device": 1}}), "device"),
        (json!({"method": "io.xenpcid.Control.ListDevices", "upgrade": true}), "upgrade"),
    ] {
        let replies = exchange(&daemon, format!("{call}\0").as_bytes(), 1);
        assert_eq!(error_of(&replies[0]), "org.varlink.service.InvalidParameter", "{call}");
        assert_eq!(replies[0]["parameters"]["parameter"], parameter, "{call}");
    }
}

#[test]
fn calls_sent_at_once_or_in_pieces_are_answered_in_their_order_and_oneway_ones_not_at_all() {
    let daemon = Daemon::start(samples::recorded());
    let status = json!({"method": "io.xenpcid.Control.GetStatus", "parameters": null});
    let oneway = json!({"method": "io.xenpcid.Control.ListDevices", "oneway": true});
    let devices = json!({"method": "io.xenpcid.Control.ListDevices", "more": true});
    let bytes = format!("{status}\0{oneway}\0{devices}\0").into_bytes();

    let at_once = exchange(&daemon, &bytes, 2);
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    let in_pieces = read(&mut stream, 2);

    assert!(at_once[0]["parameters"]["version"].is_string() && at_once[1]["parameters"]["devices"].is_array());
    assert_eq!(at_once, in_pieces);
}

#[test]
fn a_hundred_clients_are_answered_though_only_some_at_a_time() {
    let daemon = Daemon::start(samples::recorded());
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let socket = daemon.socket.clone();
            thread::spawn(move || {
                let mut client = Client::connect(socket).unwrap();
                (0..5).all(|_| client.call(&ListDevices {}).unwrap().devices.len() == 2)
            })
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
}

#[test]
fn idle_connections_are_closed_and_make_room_for_others() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let limits = Limits { connections: 1, idle: Duration::from_millis(20), ..Limits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let server = Server::bind(&path).unwrap().with_limits(limits);
        let clients = tokio::task::spawn_blocking(move || {
            let mut silent = UnixStream::connect(&path).unwrap();
            let answered = Client::connect(&path).unwrap().call(&GetStatus {}).is_ok();
            // The end of the connection, not an error and not a message.
            (answered, silent.read(&mut [0]).unwrap())
        });
        tokio::select! {
            () = server.run(samples::recorded()) => unreachable!(),
            outcome = clients => assert_eq!(outcome.unwrap(), (true, 0)),
        }
    });
}

#[test]
fn socket_is_its_owners_and_is_removed_in_the_end() {
    let Daemon { folder: _folder, socket, serving } = Daemon::start(samples::recorded());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o755);

    let mut open = Client::connect(&socket).unwrap();
    open.call(&GetStatus {}).unwrap();
    drop(serving);

    assert!(!socket.exists());
    assert!(matches!(open.call(&GetStatus {}), Err(ClientError::Closed)));
}

#[test]
fn socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    drop(UnixListener::bind(&path).unwrap());
    let first = serve(&path, samples::recorded()).unwrap();

    let error = serve(&path, samples::recorded()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("another process serves the control socket {}: stop it, or choose another path", path.display())
    );
    Client::connect(&path).unwrap().call(&GetStatus {}).unwrap();
    drop(first);
}

#[test]
fn file_in_the_place_of_the_socket_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    fs::write(&path, "precious").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    let error = runtime.block_on(async { Server::bind(&path) }).unwrap_err();

    assert!(matches!(error, BindError::NotASocket(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
