//! xl's commands: the table of invocations, and what the daemon is asked for.

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_control::memory::{Called, Recorded, Serving, serve};
use xenpcid_control::{
    Attach, AttachDevice, BusDevice, Claim, Detach, Device, DeviceState, Domain, Guest, Options, Refusal, Release,
    ReservedMemory,
};

use crate::{Ended, ended, own, samples};

const DEVICE: Sbdf = samples::NETWORK;
const NAME: &str = "uplink";
const UUID: &str = "8c7a1c1e-7a0e-4b8e-9d0a-5d9d4b1c2f11";

#[derive(Deserialize)]
struct Table {
    invocations: Vec<Invocation>,
    help: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invocation {
    arguments: Vec<String>,
    before: Option<Before>,
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    here: Option<Here>,
    difference: Option<String>,
    refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Here {
    status: i32,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Before {
    Dom0,
    Assignable,
    Attached,
}

/// A daemon with one device and the guest web1, number 7.
struct Daemon {
    folder: TempDir,
    called: Arc<Mutex<Vec<Called>>>,
    _serving: Serving,
}

impl Daemon {
    fn start(before: Before, refusal: Option<Refusal>) -> Self {
        let is_attached = before == Before::Attached;
        let bus = is_attached.then(|| BusDevice {
            guest_address: Some("00.0".to_owned()),
            device: DEVICE,
            name: Some(NAME.to_owned()),
        });
        let state = if is_attached { DeviceState::Assigned } else { DeviceState::Quarantined };
        let called = Arc::default();
        let recorded = Recorded {
            devices: (before != Before::Dom0).then(|| device(state)).into_iter().collect(),
            functions: vec![samples::function(DEVICE, None, 0x02_0000, None)],
            domains: vec![Domain {
                id: 7,
                name: Some("web1".to_owned()),
                uuid: UUID.to_owned(),
                held: false,
                bus: bus.into_iter().collect(),
            }],
            refusal,
            called: Arc::clone(&called),
            ..Recorded::default()
        };
        let folder = TempDir::new().unwrap();
        let serving = serve(folder.path().join("control"), recorded).unwrap();
        Self { folder, called, _serving: serving }
    }

    fn run<S: AsRef<str>>(&self, arguments: &[S]) -> Ended {
        let socket = self.folder.path().join("control");
        let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
        command.arg("--socket").arg(socket).args(arguments.iter().map(AsRef::as_ref));
        ended(&mut command)
    }

    /// What the daemon was asked for by a run that worked silently.
    fn called_by(&self, arguments: &[&str]) -> Called {
        assert_eq!(self.run(arguments).good(), "", "{arguments:?}");
        let mut called = self.called.lock().unwrap();
        assert_eq!(called.len(), 1, "{arguments:?}");
        called.remove(0)
    }
}

fn device(state: DeviceState) -> Device {
    let guest = (state == DeviceState::Assigned).then(guest);
    Device { name: Some(NAME.to_owned()), state, guest, ..samples::device(DEVICE) }
}

fn guest() -> Guest {
    samples::guest(7, "web1")
}

fn refusal(name: &str) -> Refusal {
    let (device, domain) = (DEVICE.to_string(), "web1".to_owned());
    match name {
        "DomainNotFound" => Refusal::DomainNotFound { domain },
        "DeviceNotFound" => Refusal::DeviceNotFound { device },
        "NotAssignable" => Refusal::NotAssignable { device },
        "AlreadyAssigned" => Refusal::AlreadyAssigned { device, guest: guest() },
        "NotAttached" => Refusal::NotAttached { device, domain },
        _ => panic!("{name}"),
    }
}

fn fill(text: &str) -> String {
    [
        ("{domain}", "web1"),
        ("{domid}", "7"),
        ("{uuid}", UUID),
        ("{device}", "0000:03:00.0"),
        ("{short}", "03:00.0"),
        ("{name}", NAME),
        ("{nowhere}", "0000:7f:1f.7"),
        ("{program}", "xenpci"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value))
}

fn table() -> Table {
    toml::from_str(&std::fs::read_to_string(own("xl-invocations.toml")).unwrap()).unwrap()
}

#[test]
fn invocations_end_and_print_as_with_xl_but_for_the_differences() {
    let Table { invocations, help } = table();
    for invocation in &invocations {
        let daemon =
            Daemon::start(invocation.before.unwrap_or(Before::Assignable), invocation.refused.as_deref().map(refusal));
        let arguments: Vec<_> = invocation.arguments.iter().map(|argument| fill(argument)).collect();
        let mut stdout = fill(&invocation.stdout);
        for (command, text) in &help {
            let own = text.replace("xl [-vtTf] ", "xenpci ").replace("xl [-vtT] ", "xenpci ");
            stdout = stdout.replace(&format!("{{help {command}}}"), &own);
        }

        let ended = daemon.run(&arguments);

        let status = invocation.here.as_ref().map_or(invocation.status, |here| here.status);
        assert_eq!((ended.status, &ended.stdout), (status, &stdout), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(&fill(&invocation.stderr)), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.is_empty(), is_silent(invocation), "{arguments:?}: {}", ended.stderr);
    }
    assert!(invocations.len() >= 60);
}

/// Whether nothing is complained about.
fn is_silent(invocation: &Invocation) -> bool {
    invocation.status == 0 && invocation.refused.is_none()
}

#[test]
fn differences_that_the_table_names_are_listed_for_the_man_page() {
    let page = std::fs::read_to_string(own("../../../../packaging/man/xenpci.1")).unwrap();
    for invocation in table().invocations {
        if let Some(key) = &invocation.difference {
            assert!(page.contains(&format!("\\fB{}\\fR", key.replace('-', "\\-"))), "{key}");
        }
        assert!(invocation.here.is_none() || invocation.difference.is_some(), "{:?}", invocation.arguments);
    }
}

#[test]
fn daemon_is_asked_for_what_was_written() {
    let options =
        Options { msitranslate: true, power_mgmt: false, permissive: true, rdm_policy: ReservedMemory::Relaxed };
    let written =
        AttachDevice { device: DEVICE.to_string(), slot: Some(0x1f), seize: true, options, ..AttachDevice::default() };
    let all = AttachDevice { device: "0000:03:00.*".to_owned(), ..AttachDevice::default() };
    let named = AttachDevice { device: NAME.to_owned(), slot: Some(0), ..AttachDevice::default() };
    let attach =
        |device| Called::Attach(Attach { domain: "7".to_owned(), devices: vec![device], timeout: None, wait: true });
    let detach = |device: &str, force| {
        Called::Detach(Detach {
            domain: "7".to_owned(),
            devices: vec![device.to_owned()],
            force,
            timeout: None,
            wait: true,
        })
    };
    let claim = |device: &str, name: Option<&str>| {
        Called::Claim(Claim {
            device: device.to_owned(),
            name: name.map(str::to_owned),
            allow: Vec::new(),
            reset: None,
        })
    };
    let release = |device: &str, rebind| Called::Release(Release { device: device.to_owned(), rebind });
    for (line, called) in [
        ("pci-attach web1 3:0.0@1f,seize=1,permissive=1,msitranslate=1,rdm_policy=relaxed", attach(written)),
        ("pci-attach 007 03:00.*", attach(all)),
        ("pci-attach 7 name=uplink,vslot=0", attach(named)),
        ("pci-detach web1 03:00.0@5", detach("0000:03:00.0", false)),
        ("pci-detach -f web1 name=uplink", detach("uplink", true)),
        ("pci-detach 7 03:00.*", detach("0000:03:00.*", false)),
        ("pci-assignable-add 3:0.0x", claim("0000:03:00.0", None)),
        ("pci-assignable-add -n disk 03:00.*", claim("0000:03:00.*", Some("disk"))),
        ("pci-assignable-remove uplink", release("uplink", false)),
        ("pci-assignable-remove -r 03:00.0", release("0000:03:00.0", true)),
    ] {
        let daemon = Daemon::start(Before::Assignable, None);
        assert_eq!(daemon.called_by(&line.split(' ').collect::<Vec<_>>()), called, "{line}");
    }
}

#[test]
fn symlinks_are_the_commands() {
    let daemon = Daemon::start(Before::Attached, None);
    for (link, arguments) in
        [("xl-pci", &["list", "web1"][..]), ("xl-pci", &["pci-list", "web1"]), ("xl-pci-list", &["web1"])]
    {
        let path = daemon.folder.path().join(link);
        let _ = std::fs::remove_file(&path);
        symlink(env!("CARGO_BIN_EXE_xenpci"), &path).unwrap();
        let run = |arguments: &[&str]| {
            ended(Command::new(&path).args(arguments).env("XENPCID_SOCKET", daemon.folder.path().join("control")))
        };
        assert_eq!(run(arguments).good(), "Vdev Device\n00.0 0000:03:00.0\n", "{link} {arguments:?}");
        let (last, called) = arguments.split_last().unwrap();
        assert_eq!(*last, "web1");
        let called = called.iter().fold(link.to_owned(), |called, word| format!("{called} {word}"));
        let short = run(arguments.split_last().unwrap().1);
        assert!(short.stdout.starts_with(&format!("Usage: {called} <Domain>\n")), "{}", short.stdout);
        assert!(short.stderr.starts_with(&format!("'{called}' requires at least 1 argument.")), "{}", short.stderr);
    }
}

#[test]
fn symlink_without_such_a_command_says_which_there_are() {
    let folder = TempDir::new().unwrap();
    for (link, arguments) in [("xl-pci", &[][..]), ("xl-pci", &["lst"]), ("xl-pci-lst", &["web1"])] {
        let path = folder.path().join(link);
        let _ = std::fs::remove_file(&path);
        symlink(env!("CARGO_BIN_EXE_xenpci"), &path).unwrap();
        let complaint = ended(Command::new(&path).args(arguments)).bad(1);
        assert!(complaint.contains("command not implemented; there are pci-attach, "), "{complaint}");
    }
}

#[test]
fn without_the_daemon_help_works_and_all_else_ends_with_1() {
    let run = |arguments: &[&str]| {
        ended(Command::new(env!("CARGO_BIN_EXE_xenpci")).args(["--socket=/nowhere/control"]).args(arguments))
    };
    run(&["pci-list", "-h"]).good();
    assert_eq!(run(&["pci-list"]).status, 2);
    for arguments in [&["pci-assignable-list"][..], &["pci-list", "web1"], &["pci-attach", "web1", "zz"]] {
        let complaint = run(arguments).bad(1);
        assert!(complaint.contains("is xenpcid running?"), "{complaint}");
    }
}

#[test]
fn device_that_the_guest_does_not_see_yet_is_in_slot_0_as_with_xl() {
    let folder = TempDir::new().unwrap();
    let bus = vec![BusDevice { guest_address: None, device: DEVICE, name: None }];
    let domain = Domain { id: 7, name: None, uuid: UUID.to_owned(), held: true, bus };
    let recorded = Recorded { domains: vec![domain], ..Recorded::default() };
    let _serving = serve(folder.path().join("control"), recorded).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
    command.arg("--socket").arg(folder.path().join("control")).args(["pci-list", "7"]);
    assert_eq!(ended(&mut command).good(), "Vdev Device\n00.0 0000:03:00.0\n");
}
