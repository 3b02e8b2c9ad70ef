//! `xenpci doctor`, on hosts that are made up of files, with and without a daemon.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_control::memory::{Recorded, serve};
use xenpcid_control::{Device, DeviceState, Finding, Plan, Status};

use crate::samples::{self, NETWORK};
use crate::{Ended, xenpci};

/// What dom0 has when all is well.
const DOM0: &[(&str, &str)] = &[
    ("sys/hypervisor/type", "xen\n"),
    ("proc/xen/capabilities", "control_d\n"),
    ("sys/firmware/acpi/tables/DMAR", ""),
    ("dev/xen/privcmd", ""),
    ("dev/xen/hypercall", ""),
    ("dev/xen/evtchn", ""),
    ("dev/xen/gntdev", ""),
    ("run/xenstored/socket", ""),
];

fn host(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn doctor(root: &TempDir, arguments: &[&str]) -> Ended {
    let path = root.path().to_str().unwrap();
    xenpci(["doctor", "--root", path].iter().chain(arguments))
}

/// The problems that it tells as JSON, and that it ends with 1 exactly if there are some.
fn problems(root: &TempDir, arguments: &[&str]) -> Vec<String> {
    let ended = doctor(root, &[arguments, &["--json"]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let problems: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["level"] == "problem")
        .map(|finding| finding["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ended.status, ended.stderr.as_str()), (i32::from(!problems.is_empty()), ""));
    problems
}

#[test]
fn machine_without_xen_is_told_to_get_it_and_is_not_asked_for_a_daemon() {
    let root = host(&[("sys/firmware/acpi/tables/DMAR", "")]);
    assert_eq!(problems(&root, &[]), ["this system does not run on Xen"]);
    let text = doctor(&root, &[]).stdout;
    assert!(text.contains("install Xen") && text.contains("the firmware describes an IOMMU (Intel VT-d)"), "{text}");
    assert!(text.ends_with("1 problem.\n"), "{text}");
}

#[test]
fn machine_without_iommu_is_told_to_switch_it_on() {
    let root = host(&[("sys/firmware/acpi/tables/FACP", "")]);
    let found = problems(&root, &[]);
    assert!(found.iter().any(|problem| problem.contains("describes no IOMMU")), "{found:?}");
    assert!(doctor(&root, &[]).stdout.contains("switch VT-d (Intel)"));
}

#[test]
fn guest_of_xen_is_sent_to_dom0() {
    let root =
        host(&[("sys/hypervisor/type", "xen\n"), ("sys/hypervisor/uuid", "5d0f8ad8-0000-0000-0000-000000000000\n")]);
    let found = problems(&root, &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("is a guest of Xen"), "{found:?}");
}

#[test]
fn dom0_without_a_daemon_lacks_nothing_else() {
    let found = problems(&host(DOM0), &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("there is no control socket /nowhere/control: is xenpcid running?"), "{found:?}");
}

#[test]
fn each_obstacle_in_dom0_is_a_problem_with_its_remedy() {
    for (obstacle, problem, remedy) in [
        (("sys/bus/pci/drivers/pciback/bind", ""), "xen-pciback is loaded", "modprobe -r xen-pciback"),
        (("sys/kernel/security/lockdown", "none [integrity]\n"), "kernel lockdown (integrity)", "lockdown=none"),
    ] {
        let root = host(&[DOM0, &[obstacle]].concat());
        let found = problems(&root, &[]);
        assert!(found.iter().any(|found| found.contains(problem)), "{found:?}");
        assert!(doctor(&root, &[]).stdout.contains(remedy));
    }
    for (path, problem, remedy) in [
        ("dev/xen/gntdev", "/dev/xen/gntdev is missing", "modprobe xen-gntdev"),
        ("run/xenstored/socket", "xenstored does not run", "systemctl start xenstored"),
    ] {
        let root = host(DOM0);
        fs::remove_file(root.path().join(path)).unwrap();
        let found = problems(&root, &[]);
        assert!(found.iter().any(|found| found.contains(problem)), "{found:?}");
        assert!(doctor(&root, &[]).stdout.contains(remedy));
    }
}

#[test]
fn wrong_configuration_is_a_problem_with_its_place() {
    let root = host(&[("etc/xenpcid.toml", "[[domain]]\nname = \"web1\"\ndevices = [\"00:1f\"]\n")]);
    let config = root.path().join("etc/xenpcid.toml");
    let found = problems(&root, &["--config", config.to_str().unwrap()]);
    assert!(found.iter().any(|found| found.contains("xenpcid.toml:3:12")), "{found:?}");
    let text = doctor(&root, &["--config", config.to_str().unwrap()]).stdout;
    assert!(text.contains("\n           |") && !text.contains(char::REPLACEMENT_CHARACTER), "{text}");
}

#[test]
fn declared_devices_are_looked_at_where_no_daemon_does() {
    const DEVICE: &str = "sys/bus/pci/devices/0000:03:00.0";
    let device = |name: &str, text: &str| (format!("{DEVICE}/{name}"), text.to_owned());
    let config = "[[domain]]\nname = \"web1\"\n\
                  devices = [{ bdf = \"0000:03:00.0\", name = \"disk\" }, \"0000:07:00.0\"]\n";
    let files = [
        device("vendor", "0x8086\n"),
        device("device", "0x10d3\n"),
        device("subsystem_vendor", "0x8086\n"),
        device("subsystem_device", "0xa01f\n"),
        device("class", "0x010802\n"),
        device("irq", "17\n"),
        device("resource", &"0x0 0x0 0x0\n".repeat(7)),
        device("power/control", "on\n"),
        device("reset_method", "flr\n"),
        ("etc/xenpcid.toml".to_owned(), config.to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let root = host(&files);
    let place = root.path().join("etc/xenpcid.toml");
    let places = ["--config", place.to_str().unwrap()];

    let found = problems(&root, &places);
    let text = doctor(&root, &places).stdout;
    assert!(text.contains("0000:03:00.0 disk is there, and can be given to a guest"), "{text}");
    assert!(found.iter().any(|found| found.starts_with("no device of this host is 0000:07:00.0")), "{found:?}");

    fs::write(root.path().join(DEVICE).join("reset_method"), "").unwrap();
    let found = problems(&root, &places);
    assert!(found.iter().any(|found| found.starts_with("0000:03:00.0 disk: there is no way to reset it")), "{found:?}");
    assert!(doctor(&root, &places).stdout.contains("reset = \"best-effort\" in its entry"));
}

fn device(address: Option<Sbdf>, state: DeviceState) -> Device {
    Device { address, identity: "port slot 3".to_owned(), state, ..samples::device(NETWORK) }
}

const OWN: &str = env!("CARGO_PKG_VERSION");

/// What a host with this daemon, and nothing else wrong, is told.
fn with_daemon(version: &str, recorded: Recorded) -> (Vec<String>, String) {
    let root = host(DOM0);
    let socket = root.path().join("control");
    let status = Status { version: version.to_owned(), xen: None, started: 0, configuration: None };
    let _serving = serve(&socket, Recorded { status: Some(status), ..recorded }).unwrap();
    let places = ["--socket", socket.to_str().unwrap()];
    (problems(&root, &places), doctor(&root, &places).stdout)
}

#[test]
fn host_with_a_daemon_and_a_ready_device_has_no_problem() {
    let address = NETWORK;
    let (found, text) = with_daemon(
        OWN,
        Recorded {
            devices: vec![device(Some(address), DeviceState::Quarantined)],
            findings: BTreeMap::from([(address.to_string(), Vec::new())]),
            ..Recorded::default()
        },
    );
    assert_eq!(found, Vec::<String>::new());
    assert!(
        text.contains(&format!("xenpcid {OWN} is running\n")) && text.contains("0000:03:00.0 is ready for a guest"),
        "{text}"
    );
    assert!(text.ends_with("Nothing is wrong.\n"), "{text}");
}

#[test]
fn what_the_daemon_knows_to_be_wrong_is_told() {
    let address = NETWORK;
    let problem = "no device of this host is port slot 3".to_owned();
    let reason = |message: &str, allowed| Finding {
        check: "host-use".to_owned(),
        message: message.to_owned(),
        key: Some("host-use".to_owned()),
        allowed,
    };
    let action = xenpcid_control::Action {
        kind: xenpcid_control::ActionKind::Claim,
        device: None,
        domain: None,
        text: "claim 0000:03:00.0".to_owned(),
    };
    let (found, text) = with_daemon(
        OWN,
        Recorded {
            devices: vec![
                device(Some(address), DeviceState::Unclaimed),
                Device { problem: Some(problem), ..device(None, DeviceState::Missing) },
            ],
            findings: BTreeMap::from([(
                address.to_string(),
                vec![reason("dom0 swaps to it", false), reason("no", true)],
            )]),
            plan: Plan { actions: vec![action], problems: vec!["web1 has no IOMMU".to_owned()] },
            ..Recorded::default()
        },
    );
    assert_eq!(
        found,
        [
            "0000:03:00.0: dom0 swaps to it",
            "port slot 3: no device of this host is port slot 3",
            "web1 has no IOMMU",
            "the configuration asks for this: claim 0000:03:00.0",
        ]
    );
    assert!(text.contains("allow = [\"host-use\"]") && text.contains("-> `xenpci apply`"), "{text}");
}

#[test]
fn device_that_cannot_be_examined_is_a_problem_and_the_others_are_looked_at_all_the_same() {
    let (first, second) = (NETWORK, samples::DISK);
    let broken = device(Some(first), DeviceState::Broken);
    let (found, text) = with_daemon(
        OWN,
        Recorded {
            devices: vec![broken, device(Some(second), DeviceState::Quarantined)],
            findings: BTreeMap::from([(second.to_string(), Vec::new())]),
            ..Recorded::default()
        },
    );
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], "0000:03:00.0: broken");
    assert!(found[1].starts_with("0000:03:00.0: 0000:03:00.0 is neither declared nor claimed"), "{found:?}");
    assert!(text.contains("0000:01:00.0 is ready for a guest"), "{text}");
}

#[test]
fn daemon_of_another_version_is_worth_a_note() {
    let (found, text) = with_daemon("0.0.0", Recorded::default());
    assert_eq!(found, Vec::<String>::new());
    assert!(text.contains("xenpcid 0.0.0 is running, and xenpci is "), "{text}");
}
