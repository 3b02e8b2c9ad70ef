//! Devices and domains: what is shown of them, and what is asked of the daemon.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use expect_test::{expect, expect_file};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use xenpcid_control::memory::{Called, Recorded, Serving, serve};
use xenpcid_control::{
    Apply, Attach, AttachDevice, Claim, Detach, Event, EventKind, Options, Plan, Refusal, Release, Reset,
};

use crate::samples::{NETWORK, TIME, devices, domains, finding, functions, guest, interrupts, plan, recorded};
use crate::{Ended, own, xenpci};

struct Daemon {
    folder: TempDir,
    called: Arc<Mutex<Vec<Called>>>,
    _serving: Serving,
}

impl Daemon {
    fn start(recorded: Recorded) -> Self {
        let folder = TempDir::new().unwrap();
        let called = recorded.called.clone();
        let serving = serve(folder.path().join("control"), recorded).unwrap();
        Self { folder, called, _serving: serving }
    }

    fn socket(&self) -> String {
        self.folder.path().join("control").to_str().unwrap().to_owned()
    }

    fn xenpci(&self, arguments: &[&str]) -> Ended {
        xenpci(["--socket", &self.socket()].iter().chain(arguments))
    }

    /// What was asked of it, which is one operation.
    fn called(&self) -> Called {
        let [called] = self.called.lock().unwrap().drain(..).collect::<Vec<_>>().try_into().unwrap();
        called
    }
}

#[test]
fn status_is_a_table_with_what_is_wrong_below_it() {
    expect_file![own("golden/status.table")].assert_eq(&Daemon::start(recorded()).xenpci(&["status"]).good());
}

#[test]
fn status_without_devices_says_how_to_get_some() {
    let daemon = Daemon::start(Recorded::default());
    assert_eq!(
        daemon.xenpci(&["status"]).good(),
        "No device is declared or claimed: `xenpci claim DEVICE` claims one, `xenpci tree` lists them.\n"
    );
}

#[test]
fn tree_has_the_hosts_buses_and_the_guests_side_by_side() {
    expect_file![own("golden/tree.text")].assert_eq(&Daemon::start(recorded()).xenpci(&["tree"]).good());
}

#[test]
fn interrupts_are_a_table_that_says_whether_they_agree() {
    expect_file![own("golden/interrupts.table")].assert_eq(&Daemon::start(recorded()).xenpci(&["interrupts"]).good());
    let none = Daemon::start(Recorded::default());
    assert_eq!(none.xenpci(&["interrupts"]).good(), "No assigned device has an interrupt.\n");
}

#[test]
fn json_is_what_the_daemon_said() {
    let daemon = Daemon::start(recorded());
    let json = |command: &str| -> Value { serde_json::from_str(&daemon.xenpci(&[command, "--json"]).good()).unwrap() };
    assert_eq!(json("status"), json!({ "devices": devices() }));
    assert_eq!(json("tree"), json!({ "functions": functions(), "domains": domains() }));
    assert_eq!(json("interrupts"), json!({ "interrupts": interrupts() }));
    assert_eq!(json("plan"), json!(plan()));
}

#[test]
fn why_says_yes_with_0_and_no_with_1_and_every_reason() {
    let daemon = Daemon::start(recorded());
    assert_eq!(daemon.xenpci(&["why", "0000:01:00.0"]).good(), "0000:01:00.0 would be attached to a guest\n");
    let allowed = daemon.xenpci(&["why", "uplink0", "web1"]).good();
    assert!(allowed.starts_with("uplink0 would be attached to web1\n"), "{allowed}");
    assert!(allowed.contains("allowed by split-group"), "{allowed}");

    let refused = daemon.xenpci(&["why", "04:00.0", "web1"]);

    assert_eq!((refused.status, refused.stderr.as_str()), (1, ""));
    expect_file![own("golden/why.text")].assert_eq(&refused.stdout);
}

#[test]
fn why_as_json_has_the_answer_and_the_reasons() {
    let daemon = Daemon::start(recorded());
    let ended = daemon.xenpci(&["why", "04:00.0", "--json"]);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.status, &answer["would_attach"]), (1, &json!(false)));
    assert_eq!(answer["findings"].as_array().unwrap().len(), 3);
    assert_eq!(daemon.xenpci(&["why", "0000:01:00.0", "--json"]).status, 0);
}

#[test]
fn why_of_an_unknown_device_is_an_error() {
    let error = Daemon::start(recorded()).xenpci(&["why", "ff:00.0"]).bad(1);
    assert!(error.starts_with("xenpci: xenpcid says: ff:00.0 is neither declared nor claimed"), "{error}");
}

#[test]
fn plan_lists_what_would_be_done_and_what_keeps_it_from_being_done() {
    let text = Daemon::start(recorded()).xenpci(&["plan"]).good();
    expect![[r#"
        + claim 0000:04:00.0
        + attach 0000:04:00.0 to web1 (7) in slot 1f
        ! wireless: no device of this host is port slot 3
    "#]]
    .assert_eq(&text);
    assert_eq!(Daemon::start(Recorded::default()).xenpci(&["plan"]).good(), "All is as declared.\n");
}

#[test]
fn apply_tells_what_was_done_and_ends_with_1_if_problems_are_left() {
    let daemon = Daemon::start(recorded());
    let ended = daemon.xenpci(&["apply"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (1, ""));
    assert!(ended.stdout.contains("+ claim 0000:04:00.0\n"), "{}", ended.stdout);
    assert_eq!(daemon.called(), Called::Apply(Apply { wait: true }));

    let good = Daemon::start(Recorded { plan: Plan { problems: Vec::new(), ..plan() }, ..recorded() });
    assert!(good.xenpci(&["apply"]).good().contains("+ claim"));
    assert_eq!(Daemon::start(Recorded::default()).xenpci(&["apply"]).good(), "All was as declared.\n");
}

#[test]
fn apply_of_a_bad_configuration_says_what_is_wrong_with_it() {
    let text = "/etc/xenpcid/xenpcid.toml:3:12: \"00:1f\" is not a PCI address".to_owned();
    let refusal = Some(Refusal::ConfigurationInvalid { text });
    let error = Daemon::start(Recorded { refusal, ..recorded() }).xenpci(&["apply"]).bad(1);
    assert!(error.contains("nothing was changed: /etc/xenpcid/xenpcid.toml:3:12"), "{error}");
}

#[test]
fn operation_that_is_not_waited_for_says_that_it_is_under_way() {
    let end = Some(Arc::new(Semaphore::new(0)));
    let daemon = Daemon::start(Recorded { end, ..recorded() });
    for command in [&["apply", "--no-wait"][..], &["attach", "web1", "03:00.0", "--no-wait"]] {
        let said = daemon.xenpci(command).good();
        assert_eq!(said, "It is under way; `xenpci watch` shows how it goes on.\n");
    }
}

#[test]
fn apply_gives_up_when_its_time_is_over() {
    let end = Some(Arc::new(Semaphore::new(0)));
    let daemon = Daemon::start(Recorded { end, ..recorded() });
    let error = daemon.xenpci(&["apply", "--timeout", "10ms"]).bad(1);
    assert_eq!(error, "xenpci: it is not done yet, and goes on: `xenpci watch` and `xenpci status` show how\n");
}

#[test]
fn attach_asks_for_all_that_was_written_and_says_where_the_guest_sees_it() {
    let daemon = Daemon::start(recorded());
    let said = daemon.xenpci(&["attach", "web1", "03:00.0", "01:00.0"]).good();
    assert_eq!(said, "0000:03:00.0 is 00.0 in web1\n0000:01:00.0 is 01.0 in web1\n");
    let plain = |device: &str| AttachDevice { device: device.to_owned(), ..AttachDevice::default() };
    let devices = vec![plain("03:00.0"), plain("01:00.0")];
    assert_eq!(
        daemon.called(),
        Called::Attach(Attach { domain: "web1".to_owned(), devices, timeout: None, wait: true })
    );

    let options = ["--slot", "1f", "--policy", "network", "--allow", "host-use", "--allow", "split-group"];
    let more = ["--best-effort-reset", "--seize", "--timeout", "5"];
    daemon.xenpci(&[&["attach", "7", "03:00.*"][..], &options, &more].concat()).good();

    let device = AttachDevice {
        device: "03:00.*".to_owned(),
        slot: Some(0x1f),
        policy: Some("network".to_owned()),
        allow: vec!["host-use".to_owned(), "split-group".to_owned()],
        reset: Some(Reset::BestEffort),
        seize: true,
        options: Options::default(),
    };
    let expected = Attach { domain: "7".to_owned(), devices: vec![device], timeout: Some(5000), wait: true };
    assert_eq!(daemon.called(), Called::Attach(expected));
}

#[test]
fn detach_asks_for_all_that_was_written() {
    let daemon = Daemon::start(recorded());
    let said = daemon.xenpci(&["detach", "web1", "03:00.0", "--force", "--timeout", "2m"]).good();
    assert_eq!(said, "0000:03:00.0 was taken from web1, and is in quarantine\n");
    let (domain, devices) = ("web1".to_owned(), vec!["03:00.0".to_owned()]);
    let expected = Detach { domain, devices, force: true, timeout: Some(120_000), wait: true };
    assert_eq!(daemon.called(), Called::Detach(expected));
}

#[test]
fn claim_and_release_ask_for_all_that_was_written() {
    let daemon = Daemon::start(recorded());
    let claimed = daemon.xenpci(&["claim", "04:00.0", "--name", "disk", "--allow", "host-use"]).good();
    assert_eq!(claimed, "0000:04:00.0 is in quarantine, and is called disk\n");
    let (device, name) = ("04:00.0".to_owned(), Some("disk".to_owned()));
    let expected = Claim { device: device.clone(), name, allow: vec!["host-use".to_owned()], reset: None };
    assert_eq!(daemon.called(), Called::Claim(expected));

    for (arguments, rebind) in [(&["release", "04:00.0"][..], true), (&["release", "04:00.0", "--unbound"], false)] {
        assert_eq!(daemon.xenpci(arguments).good(), "0000:04:00.0 is dom0's\n");
        assert_eq!(daemon.called(), Called::Release(Release { device: device.clone(), rebind }));
    }
}

#[test]
fn results_as_json_are_what_the_daemon_said() {
    let daemon = Daemon::start(recorded());
    let json = |arguments: &[&str]| -> Value { serde_json::from_str(&daemon.xenpci(arguments).good()).unwrap() };
    let attached = json!([{ "device": "0000:03:00.0", "guest_address": "00.0" }]);
    assert_eq!(json(&["attach", "web1", "03:00.0", "--json"]), attached);
    assert_eq!(json(&["detach", "web1", "03:00.0", "--json"]), json!(["0000:03:00.0"]));
    let claimed = json!([{ "device": "0000:03:00.0", "name": null, "already": false }]);
    assert_eq!(json(&["claim", "03:00.0", "--json"]), claimed);
    assert_eq!(json(&["release", "03:00.0", "--json"]), json!(["0000:03:00.0"]));
    assert_eq!(json(&["attach", "web1", "03:00.0", "--json", "--no-wait"]), Value::Null);
}

#[test]
fn refused_attach_says_every_reason() {
    let findings = vec![finding("split-group", Some("split-group"), false), finding("no-iommu", None, false)];
    let refusal = Some(Refusal::ChecksFailed { device: NETWORK.to_string(), findings });
    let error = Daemon::start(Recorded { refusal, ..recorded() }).xenpci(&["attach", "web1", "03:00.0"]).bad(1);
    assert!(error.starts_with("xenpci: xenpcid says: 0000:03:00.0 cannot be had: another function"), "{error}");
    assert_eq!(error.matches("give the guest both").count(), 2, "{error}");
}

/// An attach that does not end by itself, on a terminal, as soon as that shows what it is at.
fn attach_on_a_terminal(daemon: &Daemon) -> (Child, File) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let attach = Command::new(env!("CARGO_BIN_EXE_xenpci"))
        .args(["--socket", &daemon.socket(), "attach", "web1", "03:00.0"])
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .stderr(terminal.slave)
        .spawn()
        .unwrap();
    let mut screen = File::from(terminal.master);
    wait_for("resetting 0000:03:00.0", &mut screen);
    (attach, screen)
}

fn wait_for(text: &str, screen: &mut File) {
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains(text) {
        let mut chunk = [0; 256];
        let length = screen.read(&mut chunk).unwrap();
        shown.extend_from_slice(&chunk[..length]);
    }
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let end = Arc::new(Semaphore::new(0));
    let daemon = Daemon::start(Recorded { end: Some(end.clone()), ..recorded() });
    let (mut attach, mut screen) = attach_on_a_terminal(&daemon);
    end.add_permits(2);
    // What is drawn last is read, so that the command does not wait for room.
    std::thread::spawn(move || std::io::copy(&mut screen, &mut std::io::sink()));
    let mut said = String::new();
    attach.stdout.take().unwrap().read_to_string(&mut said).unwrap();

    assert!(attach.wait().unwrap().success());
    assert_eq!(said, "0000:03:00.0 is 00.0 in web1\n");
    assert_eq!(daemon.xenpci(&["attach", "web1", "03:00.0"]).good(), said);
}

#[test]
fn ctrl_c_leaves_an_operation_to_itself_and_says_so() {
    let end = Some(Arc::new(Semaphore::new(0)));
    let daemon = Daemon::start(Recorded { end, ..recorded() });
    let (mut attach, mut screen) = attach_on_a_terminal(&daemon);
    kill(Pid::from_raw(attach.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    wait_for("xenpci: it goes on without you: `xenpci watch`", &mut screen);
    assert_eq!(attach.wait().unwrap().code(), Some(130));
}

/// Answers one call of Watch with these events, and ends.
fn watch(arguments: &[&str], events: &[Event]) -> Ended {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let replies = [Value::Null].into_iter().chain(events.iter().map(|event| json!(event)));
    let replies = replies.map(|event| format!("{}\0", json!({ "parameters": { "event": event }, "continues": true })));
    let replies: String = replies.collect();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0xff];
        while byte != [0] {
            stream.read_exact(&mut byte).unwrap();
        }
        stream.write_all(replies.as_bytes()).unwrap();
    });
    let ended = xenpci(["--socket", path.to_str().unwrap(), "watch"].iter().chain(arguments));
    peer.join().unwrap();
    ended
}

#[test]
fn watch_prints_a_line_for_each_event_until_the_daemon_ends() {
    let at = |event: Event| Event { time: TIME, ..event };
    let events = [
        at(Event::now(EventKind::Configured, "the configuration was read")),
        at(Event::now(EventKind::Attached, "is 00.0\x1b[2J").of(NETWORK).to(guest(7, "web1"))),
        at(Event::now(EventKind::Lost, "3 events were lost: this watcher was slow")),
    ];

    let (text, json) = (watch(&[], &events), watch(&["--json"], &events));

    assert_eq!((text.status, json.status), (3, 3));
    assert!(text.stderr.contains("xenpcid closed the connection"), "{}", text.stderr);
    expect_file![own("golden/watch.text")].assert_eq(&text.stdout);
    let told: Vec<Event> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told, events);
}
