//! `xenpci create`, with an `xl` that records what it is called with.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use xenpcid_control::memory::{Called, Recorded, Serving, serve};
use xenpcid_control::{Attach, AttachDevice, Options, Refusal};

use crate::{Ended, ended};

/// A domain exists while there is a file of that name. `fail` names what does not work. `create` keeps its file.
const XL: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
if [ "$1" = "$(cat "$here/fail" 2>/dev/null)" ]; then echo "xl: no $1" >&2; exit 1; fi
case $1 in
    domid) [ -e "$here/domain" ] && echo 7 ;;
    create) cp "$3" "$here/configuration" && stat -c %a "$3" > "$here/mode" && touch "$here/domain" ;;
    destroy) rm "$here/domain" ;;
esac
"#;

const CONFIGURATION: &str = "\
name = 'web1'
type = 'pv'      # as ever
memory = 512
pci_permissive = 1
pci = [ '03:00.0@4,permissive=0',
        'name=disk', '04:00.*' ]
e820_host = 0
";

struct Host {
    folder: TempDir,
    called: Arc<Mutex<Vec<Called>>>,
    _serving: Serving,
}

impl Host {
    fn new(refusal: Option<Refusal>) -> Self {
        let folder = TempDir::new().unwrap();
        let called = Arc::default();
        let recorded = Recorded { refusal, called: Arc::clone(&called), ..Recorded::default() };
        let serving = serve(folder.path().join("control"), recorded).unwrap();
        let host = Self { folder, called, _serving: serving };
        host.write("xl", XL);
        std::fs::set_permissions(host.folder.path().join("xl"), PermissionsExt::from_mode(0o755)).unwrap();
        host.write("web1.cfg", CONFIGURATION);
        host
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The first words of the calls of `xl`.
    fn calls(&self) -> Vec<String> {
        self.read("calls").lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
        command.arg("--socket").arg(self.folder.path().join("control"));
        command.arg("create").arg(self.folder.path().join("web1.cfg")).args(arguments).env("PATH", path);
        command
    }

    fn create(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }
}

#[test]
fn domain_is_created_paused_gets_its_devices_in_one_operation_and_runs() {
    let host = Host::new(None);

    let printed = host.create(&["--", "-q", "memory=1024"]).good();

    assert_eq!(printed, "0000:03:00.0 is 04.0 in web1\n", "names and * have no address for the recorded daemon");
    assert_eq!(host.calls(), ["domid", "create", "domid", "unpause"]);
    let create = host.read("calls").lines().nth(1).unwrap().to_owned();
    assert!(create.starts_with("create -p ") && create.ends_with(".cfg -q"), "{create}");
    let permissive = |permissive| Options { permissive, ..Options::default() };
    let device = |device: &str, slot, options| AttachDevice {
        device: device.to_owned(),
        slot,
        options,
        ..AttachDevice::default()
    };
    let devices = vec![
        device("0000:03:00.0", Some(4), permissive(false)),
        device("disk", None, permissive(true)),
        device("0000:04:00.*", None, permissive(true)),
    ];
    let attach = Called::Attach(Attach { domain: "7".to_owned(), devices, timeout: None, wait: true });
    assert_eq!(*host.called.lock().unwrap(), [attach]);
}

#[test]
fn copy_for_xl_has_no_devices_and_what_a_guest_with_devices_needs() {
    let host = Host::new(None);
    host.create(&["--", "memory=1024"]).good();
    assert_eq!(
        host.read("configuration"),
        "name = 'web1'\ntype = 'pv'      # as ever\nmemory = 512\npci_permissive = 1\n\n\n\nmemory=1024\npassthrough = \
         \"enabled\"\ne820_host = 1\n"
    );
    assert_eq!(host.read("mode"), "600\n");
    let copy = host.read("calls").lines().nth(1).unwrap().split(' ').nth(2).unwrap().to_owned();
    assert!(!std::path::Path::new(&copy).exists(), "{copy}");
}

#[test]
fn passthrough_that_the_file_chooses_is_kept() {
    let host = Host::new(None);
    host.write("web1.cfg", &format!("{CONFIGURATION}passthrough = \"sync_pt\"\n"));
    host.create(&[]).good();
    assert!(host.read("configuration").contains("passthrough = \"sync_pt\"\n"));
}

#[test]
fn without_devices_the_file_is_as_it_was() {
    let host = Host::new(None);
    host.write("web1.cfg", "name = 'web1'\ntype = 'hvm'\npci = []\n");
    assert_eq!(host.create(&[]).good(), "");
    assert_eq!(host.read("configuration"), "name = 'web1'\ntype = 'hvm'\n\n");
    assert_eq!(host.calls(), ["domid", "create", "unpause"]);
    assert!(host.called.lock().unwrap().is_empty());
}

#[test]
fn devices_that_are_refused_undo_the_domain() {
    let host = Host::new(Some(Refusal::DeviceNotFound { device: "disk".to_owned() }));
    let error = host.create(&[]).bad(1);
    assert!(error.starts_with("xenpci: its devices were not attached: xenpcid says: disk "), "{error}");
    assert!(error.trim_end().ends_with("; domain web1 was destroyed again"), "{error}");
    assert_eq!(host.calls(), ["domid", "create", "domid", "domid", "destroy"]);
}

#[test]
fn whatever_fails_is_told_and_undone() {
    for (fail, calls, told) in [
        ("create", &["domid", "create", "domid"][..], "`xl create` ended with exit status: 1\n"),
        (
            "unpause",
            &["domid", "create", "domid", "unpause", "domid", "destroy"],
            "; domain web1 was destroyed again\n",
        ),
    ] {
        let host = Host::new(None);
        host.write("fail", fail);
        let error = host.create(&[]).bad(1);
        assert!(error.ends_with(told), "{error}");
        assert_eq!(host.calls(), calls);
    }
}

#[test]
fn domain_that_cannot_be_destroyed_again_is_told_of() {
    let host = Host::new(Some(Refusal::DeviceNotFound { device: "disk".to_owned() }));
    host.write("fail", "destroy");
    let error = host.create(&[]).bad(1);
    assert!(
        error.contains("domain web1 could not be destroyed again") && error.contains("`xl destroy web1`"),
        "{error}"
    );
}

#[test]
fn nothing_is_done_where_something_is_wrong_beforehand() {
    for (text, told) in [
        ("name = 'web1'\npci = [ 'zz' ]\n", "unable to parse PCI_SPEC_STRING `zz' for passthrough"),
        ("name = 'web1'\npci = [ '03:00.0,colour=1' ]\n", "Unknown PCI_SPEC_STRING option: colour"),
        ("name = 'web1'\npci = '03:00.0'\n", "pci is not a list"),
        ("name = 'web1'\npci_seize = 'yes'\npci = []\n", "pci_seize is not a number"),
        ("name = 'web1'\ntype = 'pvh'\npci = ['03:00.0']\n", "is of type pvh: xenpcid gives devices to PV guests only"),
        ("name = 'web1'\nbuilder = 'hvm'\npci = ['03:00.0']\n", "is of type hvm"),
        (
            "name = 'web1'\npassthrough = 'disabled'\npci = ['03:00.0']\n",
            "passthrough disabled but devices are specified",
        ),
        ("pci = ['03:00.0']\n", "does not name the domain"),
        ("name = 'web1'\npci = [ '03:00.0'\n", "line 3: the values of a list have commas between them"),
    ] {
        let host = Host::new(None);
        host.write("web1.cfg", text);
        let error = host.create(&[]).bad(1);
        assert!(error.contains(told), "{error}");
        assert!(host.calls().is_empty(), "{text}");
    }
}

#[test]
fn options_that_go_against_it_are_refused() {
    for option in ["-c", "--dryrun", "-F", "-h"] {
        let host = Host::new(None);
        let error = host.create(&["--", option]).bad(1);
        assert!(error.contains(&format!("{option} is not for `xenpci create`")), "{error}");
        assert!(host.calls().is_empty());
    }
}

#[test]
fn domain_of_that_name_is_left_alone() {
    let host = Host::new(None);
    host.write("domain", "");
    let error = host.create(&[]).bad(1);
    assert!(error.contains("a domain web1 exists already"), "{error}");
    assert_eq!(host.calls(), ["domid"]);
}

#[test]
fn without_a_daemon_or_xl_nothing_is_done() {
    let host = Host::new(None);
    let file = host.folder.path().join("web1.cfg");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
    let error = ended(command.args(["--socket", "/nowhere/control", "create"]).arg(&file)).bad(3);
    assert!(error.contains("is xenpcid running?"), "{error}");
    let error = ended(host.command(&[]).env("PATH", "/nowhere")).bad(1);
    assert!(error.contains("cannot run xl: is xen-utils installed"), "{error}");
}

#[test]
fn interrupt_undoes_the_domain() {
    let host = Host::new(None);
    // A daemon that accepts, and never answers.
    let path = host.folder.path().join("silent");
    let silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
    let search = format!("{}:{}", host.folder.path().display(), std::env::var("PATH").unwrap());
    command.arg("--socket").arg(&path).arg("create").arg(host.folder.path().join("web1.cfg")).env("PATH", search);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    let mut attach = silent.accept().unwrap().0;
    // It asks when the domain has been created.
    std::io::Read::read_exact(&mut attach, &mut [0]).unwrap();

    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "xenpci: interrupted; domain web1 was destroyed again\n");
    assert_eq!(host.calls().last().unwrap(), "destroy");
}
