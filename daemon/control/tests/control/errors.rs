//! What a client says when it does not get an answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use tempfile::TempDir;
use xenpcid_control::{Client, ClientError, ListDevices};

/// The outcome of a call to a peer that reads the call and then sends `answer`.
fn call_answered_with(answer: &'static [u8]) -> ClientError {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0xff];
        while byte != [0] {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(answer).unwrap();
    });
    let error = Client::connect(&path).unwrap().call(&ListDevices {}).unwrap_err();
    peer.join().unwrap();
    error
}

#[test]
fn no_socket_asks_whether_the_daemon_runs() {
    let error = Client::connect("/nowhere/control").unwrap_err();
    assert!(error.is_unreachable());
    assert_eq!(
        error.to_string(),
        "there is no control socket /nowhere/control: is xenpcid running? Start it with `systemctl start xenpcid`, \
         or name its socket with --socket"
    );
}

#[test]
fn socket_of_a_daemon_that_ended_says_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    drop(UnixListener::bind(&path).unwrap());
    let error = Client::connect(&path).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
    assert!(error.is_unreachable() && error.to_string().contains("xenpcid has ended"));
}

#[test]
fn connection_that_ends_without_an_answer_is_an_error_of_its_own() {
    let error = call_answered_with(b"{\"parameters\"");
    assert!(matches!(error, ClientError::Closed), "{error}");
}

#[test]
fn answer_that_is_no_reply_names_the_method() {
    for answer in [&b"[]\0"[..], b"\0", b"{\"parameters\":{}}\0", b"{\"parameters\":{\"devices\":[{}]}}\0"] {
        let error = call_answered_with(answer);
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains("io.xenpcid.Control.ListDevices"), "{error}");
    }
}

#[test]
fn error_of_another_version_is_shown_as_it_came() {
    let error = call_answered_with(b"{\"error\":\"io.xenpcid.Control.New\",\"parameters\":{\"what\":1}}\0");
    assert_eq!(
        error.to_string(),
        "xenpcid says io.xenpcid.Control.New {\"what\":1}; do xenpci and xenpcid have the same version?"
    );
}

#[test]
fn standard_errors_are_known_with_and_without_empty_parameters() {
    for answer in [
        &b"{\"error\":\"org.varlink.service.PermissionDenied\"}\0"[..],
        b"{\"error\":\"org.varlink.service.PermissionDenied\",\"parameters\":{}}\0",
        b"{\"error\":\"org.varlink.service.PermissionDenied\",\"parameters\":null}\0",
    ] {
        let error = call_answered_with(answer);
        assert!(error.is_unreachable());
        assert_eq!(error.to_string(), "xenpcid says: it does not take commands from this user; run as root");
    }
}

#[test]
fn replies_to_a_call_with_more_end_with_the_last_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut call = Vec::new();
        let mut byte = [0xff];
        while byte != [0] {
            stream.read_exact(&mut byte).unwrap();
            call.extend(byte);
        }
        let empty = "{\"parameters\":{\"devices\":[]},\"continues\":true}\0";
        let last = "{\"parameters\":{\"devices\":[]}}\0";
        stream.write_all(format!("{empty}{empty}{last}{last}").as_bytes()).unwrap();
        call
    });

    let mut client = Client::connect(&path).unwrap();
    let replies: Result<Vec<_>, _> = client.call_more(&ListDevices {}).unwrap().collect();

    assert_eq!(replies.unwrap().len(), 3);
    assert!(String::from_utf8(peer.join().unwrap()).unwrap().contains("\"more\":true"));
}
