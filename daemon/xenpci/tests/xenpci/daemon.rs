//! What needs the running daemon, against one that has recorded answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use expect_test::expect_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tempfile::TempDir;
use xenpcid_control::memory::{Recorded, Serving, serve};
use xenpcid_control::{
    Denied, DeniedReply, Device, DeviceDescription, DeviceReply, DeviceState, Guest, Operation, Outcome,
};
use xenpcid_policy::Recording;

use crate::samples::{self, DISK, NETWORK};
use crate::{Ended, own, recording, xenpci};

struct Daemon {
    folder: TempDir,
    _serving: Serving,
}

impl Daemon {
    /// With an e1000e in the guest web1 and a declared disk, and these answers about what was denied.
    fn start<const N: usize>(denied: [Vec<Denied>; N]) -> Self {
        let folder = TempDir::new().unwrap();
        let device = |address, state, guest| Device {
            policy: Some("sample".to_owned()),
            state,
            guest,
            ..samples::device(address)
        };
        let recorded = Recorded {
            status: None,
            devices: vec![
                device(DISK, DeviceState::Unclaimed, None),
                device(NETWORK, DeviceState::Assigned, Some(web1())),
            ],
            descriptions: BTreeMap::from([(NETWORK, description())]),
            denied: Mutex::new(VecDeque::from(denied)),
            ..Recorded::default()
        };
        let serving = serve(folder.path().join("control"), recorded).unwrap();
        Self { folder, _serving: serving }
    }

    fn xenpci(&self, arguments: &[&str]) -> Ended {
        let (socket, policies) = (self.folder.path().join("control"), own("policies"));
        let places = ["--socket", socket.to_str().unwrap(), "--policies", policies.to_str().unwrap()];
        xenpci(places.iter().chain(arguments))
    }
}

fn description() -> DeviceDescription {
    let snapshot = Recording::lspci(&recording("e1000e")).unwrap().snapshot();
    DeviceDescription::new(NETWORK, Some("uplink0".to_owned()), "sample".to_owned(), 2, &snapshot)
}

fn web1() -> Guest {
    samples::guest(7, "web1")
}

/// A discarded write to Device Control of the e1000e.
fn device_control() -> Denied {
    Denied {
        device: NETWORK,
        guest: web1(),
        offset: 0xe8,
        width: 2,
        register: Some("pcie.devctl".to_owned()),
        capability: Some("pcie".to_owned()),
        hidden: false,
        operation: Operation::Write,
        outcome: Outcome::Discarded,
        bits: 0x7000,
        count: 12,
        last_value: 0x5010,
        last_time: 1_795_384_800_123,
    }
}

/// One of each other kind.
fn others() -> [Denied; 3] {
    let hidden = Denied {
        offset: 0x104,
        width: 4,
        register: Some("aer.uncor_status".to_owned()),
        capability: Some("aer".to_owned()),
        hidden: true,
        bits: 0xffff_ffff,
        count: 1,
        last_value: 0xffff_ffff,
        ..device_control()
    };
    let refused = Denied {
        offset: 0x2e,
        register: Some("subsystem_id".to_owned()),
        capability: None,
        operation: Operation::Read,
        outcome: Outcome::Denied,
        bits: 0xffff,
        count: u64::from(u32::MAX),
        last_value: 0,
        ..device_control()
    };
    let unknown = Denied { offset: 0xf0, width: 1, register: None, capability: None, bits: 0x80, ..device_control() };
    [hidden, refused, unknown]
}

#[test]
fn denied_is_a_table_by_register() {
    let [hidden, refused, unknown] = others();
    let daemon = Daemon::start([vec![refused, device_control(), unknown, hidden]]);
    let table = daemon.xenpci(&["denied"]).good();
    expect_file![own("golden/denied.table")].assert_eq(&table);
}

#[test]
fn denied_as_json_is_what_the_daemon_said() {
    let daemon = Daemon::start([vec![device_control()]]);
    let json = daemon.xenpci(&["denied", "03:00.0", "--json"]).good();
    let reply: xenpcid_control::DeniedReply = serde_json::from_str(&json).unwrap();
    assert_eq!(reply.denied, [device_control()]);
}

#[test]
fn denied_says_so_if_there_is_nothing() {
    let daemon = Daemon::start([vec![device_control()]]);
    assert_eq!(daemon.xenpci(&["denied", "01:00.0"]).good(), "Guests got all that they tried.\n");
}

#[test]
fn name_of_a_guest_does_not_reach_the_terminal_as_it_is() {
    let named = Denied { guest: Guest { id: 7, name: "a\x1b[2Jb".to_owned() }, ..device_control() };
    let daemon = Daemon::start([vec![named]]);
    let table = daemon.xenpci(&["denied"]).good();
    assert!(!table.contains('\x1b') && table.contains("a\u{fffd}[2Jb (7)"), "{table}");
}

#[test]
fn device_that_is_not_declared_is_an_error() {
    let daemon = Daemon::start([Vec::new()]);
    let error = daemon.xenpci(&["denied", "05:00.0"]).bad(1);
    assert_eq!(
        error,
        "xenpci: xenpcid says: 0000:05:00.0 is neither declared nor claimed: `xenpci status` lists what is, `xenpci tree` \
         all of the host\n"
    );
}

#[test]
fn explain_takes_a_claimed_device_from_the_daemon_with_its_name_policy_and_vectors() {
    let daemon = Daemon::start([Vec::new()]);
    let text = daemon.xenpci(&["explain", "03:00.0"]).good();
    assert!(text.starts_with("0000:03:00.0 uplink0 8086:10d3 "), "{text}");
    assert!(text.lines().next().unwrap().ends_with("under policy sample"), "{text}");
    assert!(text.contains("values are those of its claim by the running xenpcid"), "{text}");
    // Table Size of MSI-X: two vectors, not the five that the device has.
    let msix = text.lines().find(|line| line.contains("msix.control")).unwrap();
    assert!(msix.contains("device 0004") && msix.contains("guest 0001"), "{msix}");
}

#[test]
fn suggest_prints_a_policy_that_extends_the_devices_own() {
    let [hidden, refused, unknown] = others();
    let daemon = Daemon::start([vec![refused, device_control(), unknown, hidden]]);
    let policy = daemon.xenpci(&["suggest", "03:00.0"]).good();

    assert!(policy.contains("extends = \"sample\"\n"), "{policy}");
    assert!(policy.contains("\nregister = \"pcie.devctl\"\nmask = 0x7000\n"), "{policy}");
    is_good_on_top_of_sample(&policy);
}

#[test]
fn learn_prints_a_policy_for_what_was_tried_meanwhile() {
    let [hidden, _, unknown] = others();
    let before = vec![hidden.clone(), unknown.clone()];
    let after = vec![hidden, Denied { count: unknown.count + 1, ..unknown }, device_control()];
    let daemon = Daemon::start([before, after]);

    let policy = daemon.xenpci(&["learn", "03:00.0", "--for", "10ms"]).good();

    assert!(policy.contains("\nregister = \"pcie.devctl\"\nmask = 0x7000\n"), "{policy}");
    assert!(policy.contains("written once"), "the other register was, meanwhile: {policy}");
    assert!(!policy.contains("aer."), "that was before: {policy}");
    is_good_on_top_of_sample(&policy);
}

#[test]
fn learn_without_anything_tried_prints_a_policy_without_rules() {
    let daemon = Daemon::start([vec![device_control()]]);
    let policy = daemon.xenpci(&["learn", "03:00.0", "--for", "10ms"]).good();
    assert!(!policy.contains("[[rule]]"), "{policy}");
    is_good_on_top_of_sample(&policy);
}

#[test]
fn ctrl_c_ends_learning_early_and_the_policy_is_printed_all_the_same() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("control");
    let listener = UnixListener::bind(&path).unwrap();
    let policies = own("policies");
    let learn = Command::new(env!("CARGO_BIN_EXE_xenpci"))
        .args(["--socket", path.to_str().unwrap(), "--policies", policies.to_str().unwrap()])
        .args(["learn", "03:00.0", "--for", "1000h"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    // It listens to the signal before it connects.
    let before = listener.accept().unwrap().0;
    kill(Pid::from_raw(learn.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    answer(before, &DeniedReply { denied: Vec::new(), uncounted: 0 });
    answer(listener.accept().unwrap().0, &DeniedReply { denied: vec![device_control()], uncounted: 0 });
    answer(listener.accept().unwrap().0, &DeviceReply { description: description() });
    let output = learn.wait_with_output().unwrap();

    assert!(output.status.success(), "{output:?}");
    let policy = String::from_utf8(output.stdout).unwrap();
    assert!(policy.contains("\nregister = \"pcie.devctl\"\nmask = 0x7000\n"), "{policy}");
}

/// Answers one call, whatever it is.
fn answer(mut stream: UnixStream, reply: &impl Serialize) {
    let mut byte = [0xff];
    while byte != [0] {
        stream.read_exact(&mut byte).unwrap();
    }
    stream.write_all(format!("{}\0", serde_json::json!({ "parameters": reply })).as_bytes()).unwrap();
}

/// That `xenpci check` takes the policy, in a file of its name and beside the one that it extends.
fn is_good_on_top_of_sample(policy: &str) {
    let folder = TempDir::new().unwrap();
    let name = policy.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).unwrap();
    let file = folder.path().join(format!("{name}.toml"));
    std::fs::write(&file, policy).unwrap();
    let policies = own("policies");
    let checked = xenpci(["--policies", policies.to_str().unwrap(), "check", file.to_str().unwrap()]);
    assert_eq!(checked.good(), format!("{}: good\n", file.display()), "{policy}");
}
