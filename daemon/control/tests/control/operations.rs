//! Methods that take their time: progress, results, callers who do not wait or go away; and watching.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use xenpcid_control::memory::{Called, Recorded};
use xenpcid_control::{
    Apply, Attached, Claimed, Client, ClientError, Event, EventKind, Events, Refusal, Release, Watch,
};

use crate::samples::{self, Daemon, NETWORK};

/// The next event that a watcher is told.
fn next_event(replies: &mut xenpcid_control::Replies<'_, Watch>) -> Option<Event> {
    replies.next().unwrap().unwrap().event
}

#[test]
fn operations_tell_their_progress_and_then_their_result() {
    let recorded = samples::recorded();
    let called = recorded.called.clone();
    let daemon = Daemon::start(recorded);
    let mut client = Client::connect(&daemon.socket).unwrap();
    let mut lines = Vec::new();

    let attached = client.operate(&samples::attach(), |line| lines.push(line.to_owned())).unwrap();
    let detached = client.operate(&samples::detach(), |_| ()).unwrap();
    let claimed = client.operate(&samples::claim(), |_| ()).unwrap();
    let release = Release { device: NETWORK.to_string(), rebind: true };
    let released = client.operate(&release, |_| ()).unwrap();
    let applied = client.operate(&Apply { wait: true }, |_| ()).unwrap();

    assert_eq!(lines, ["resetting it", "waiting for the guest"]);
    assert_eq!(attached, Some(vec![Attached { device: NETWORK, guest_address: "05.0".to_owned() }]));
    assert_eq!((&detached, &released), (&Some(vec![NETWORK]), &Some(vec![NETWORK])));
    let name = Some("uplink1".to_owned());
    assert_eq!(claimed, Some(vec![Claimed { device: NETWORK, name, already: true }]));
    assert_eq!(applied, Some(samples::plan()));
    let expected = [
        Called::Attach(samples::attach()),
        Called::Detach(samples::detach()),
        Called::Claim(samples::claim()),
        Called::Release(release),
        Called::Apply(Apply { wait: true }),
    ];
    assert_eq!(*called.lock().unwrap(), expected);
}

#[test]
fn without_more_only_the_result_comes() {
    let daemon = Daemon::start(samples::recorded());
    let mut client = Client::connect(&daemon.socket).unwrap();
    let step = client.call(&Apply { wait: true }).unwrap();
    assert_eq!((step.progress, step.result), (None, Some(samples::plan())));
}

#[test]
fn refused_operation_arrives_as_it_was_and_the_connection_goes_on() {
    let refusal = Refusal::ChecksFailed { device: NETWORK.to_string(), findings: vec![samples::finding()] };
    let daemon = Daemon::start(Recorded { refusal: Some(refusal.clone()), ..samples::recorded() });
    let mut client = Client::connect(&daemon.socket).unwrap();
    for wait in [true, false] {
        let error = client.operate(&Apply { wait }, |_| ()).unwrap_err();
        assert!(matches!(&error, ClientError::Refused(refused) if *refused == refusal), "{error}");
    }
    assert!(client.call(&xenpcid_control::ListDevices {}).is_ok());
}

#[test]
fn caller_who_does_not_wait_is_answered_when_the_operation_is_under_way() {
    let end = Arc::new(Semaphore::new(0));
    let daemon = Daemon::start(Recorded { end: Some(end.clone()), ..samples::recorded() });
    let mut watching = Client::connect(&daemon.socket).unwrap();
    let mut events = watching.call_more(&Watch {}).unwrap();
    assert_eq!(next_event(&mut events), None);

    // It cannot end yet.
    let result = Client::connect(&daemon.socket).unwrap().operate(&Apply { wait: false }, |_| ()).unwrap();
    end.add_permits(1);

    assert_eq!(result, None);
    assert_eq!(next_event(&mut events).unwrap().text, "io.xenpcid.Control.Apply");
}

#[test]
fn operation_goes_on_when_its_caller_goes_away() {
    let end = Arc::new(Semaphore::new(0));
    let daemon = Daemon::start(Recorded { end: Some(end.clone()), ..samples::recorded() });
    let mut watching = Client::connect(&daemon.socket).unwrap();
    let mut events = watching.call_more(&Watch {}).unwrap();
    assert_eq!(next_event(&mut events), None);

    let mut leaving = Client::connect(&daemon.socket).unwrap();
    let first = leaving.call_more(&samples::attach()).unwrap().next().unwrap().unwrap();
    drop(leaving);
    end.add_permits(1);

    assert_eq!(first.progress.as_deref(), Some("resetting it"));
    assert_eq!(next_event(&mut events).unwrap().text, "io.xenpcid.Control.Attach");
}

#[test]
fn operation_called_oneway_is_done() {
    let daemon = Daemon::start(samples::recorded());
    let mut watching = Client::connect(&daemon.socket).unwrap();
    let mut events = watching.call_more(&Watch {}).unwrap();
    assert_eq!(next_event(&mut events), None);

    let call = json!({ "method": "io.xenpcid.Control.Apply", "parameters": { "wait": true }, "oneway": true });
    UnixStream::connect(&daemon.socket).unwrap().write_all(format!("{call}\0").as_bytes()).unwrap();

    assert_eq!(next_event(&mut events).unwrap().text, "io.xenpcid.Control.Apply");
}

#[test]
fn watcher_is_told_what_happens_from_then_on() {
    let events = Events::default();
    events.publish(Event::now(EventKind::Failed, "that was before"));
    let daemon = Daemon::start(Recorded { events: events.clone(), ..samples::recorded() });
    let mut client = Client::connect(&daemon.socket).unwrap();
    let mut replies = client.call_more(&Watch {}).unwrap();

    assert_eq!(next_event(&mut replies), None);
    events.publish(samples::event());

    assert_eq!(next_event(&mut replies), Some(samples::event()));
}

#[test]
fn watching_without_more_is_refused() {
    let daemon = Daemon::start(samples::recorded());
    let error = Client::connect(&daemon.socket).unwrap().call(&Watch {}).unwrap_err();
    assert!(matches!(error, ClientError::Refused(Refusal::ExpectedMore {})), "{error}");
}

#[test]
fn watcher_that_reads_nothing_holds_nobody_up_and_is_told_what_it_lost() {
    let events = Events::default();
    let daemon = Daemon::start(Recorded { events: events.clone(), ..samples::recorded() });
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(b"{\"method\":\"io.xenpcid.Control.Watch\",\"more\":true}\0").unwrap();
    let begun = message(&mut stream);
    let mut other = Client::connect(&daemon.socket).unwrap();

    // More than the socket and the queue hold, while the other client is answered all the time.
    let published = 5000;
    let text = "x".repeat(1000);
    for n in 0..published {
        events.publish(Event::now(EventKind::Reset, text.as_str()));
        if n % 100 == 0 {
            other.operate(&Apply { wait: true }, |_| ()).unwrap();
        }
    }
    events.publish(Event::now(EventKind::Released, "the last one"));

    assert_eq!(begun["parameters"]["event"], Value::Null);
    let (mut told, mut lost) = (0, 0);
    loop {
        let event = message(&mut stream)["parameters"]["event"].clone();
        match event["kind"].as_str().unwrap() {
            "reset" => told += 1,
            "lost" => lost += event["text"].as_str().unwrap().split(' ').next().unwrap().parse::<u64>().unwrap(),
            "released" => break,
            other => assert_eq!(other, "configured"),
        }
    }
    assert!(lost > 0 && told > 0 && told + lost >= published && told < published, "{told} told, {lost} lost");
}

fn message(stream: &mut UnixStream) -> Value {
    let mut bytes = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        if byte == [0] {
            return serde_json::from_slice(&bytes).unwrap();
        }
        bytes.extend(byte);
    }
}
