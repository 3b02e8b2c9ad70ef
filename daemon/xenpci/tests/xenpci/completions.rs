//! What shells are told.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use xenpcid_control::memory::{Recorded, Serving, serve};

use crate::{Ended, ended, samples, xenpci};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xenpci");

fn daemon(folder: &TempDir) -> Serving {
    serve(folder.path().join("control"), Recorded { ..samples::recorded() }).unwrap()
}

/// Asks as fish does, for the last of `words`.
fn ask(folder: &TempDir, words: &[&str]) -> Ended {
    let mut command = Command::new(PROGRAM);
    command.args(["--", "xenpci"]).args(words).env("XENPCI_COMPLETE", "fish");
    ended(command.env("XENPCID_SOCKET", folder.path().join("control")))
}

fn answers(folder: &TempDir, words: &[&str]) -> Vec<String> {
    ask(folder, words).good().lines().map(str::to_owned).collect()
}

#[test]
fn domains_and_devices_are_those_that_the_daemon_has() {
    let folder = TempDir::new().unwrap();
    let _daemon = daemon(&folder);
    assert!(answers(&folder, &["pci-list", "we"]).contains(&"web1\tdomain 7".to_owned()));
    assert!(answers(&folder, &["detach", "web1", ""]).contains(&"uplink0\t8086:10d3, in web1".to_owned()));
    assert_eq!(answers(&folder, &["pci-detach", "web1", "name="]), ["name=uplink0\t8086:10d3, in web1"]);
    assert!(answers(&folder, &["pci-assignable-add", "0000:01"])[0].starts_with("0000:01:00.0\t8086:"));
}

#[test]
fn devices_are_those_that_the_command_is_for() {
    let folder = TempDir::new().unwrap();
    let _daemon = daemon(&folder);
    let has = |words: &[&str], text: &str| answers(&folder, words).iter().any(|answer| answer.starts_with(text));
    assert!(!has(&["attach", "web1", ""], "uplink0"), "web1 has it");
    assert!(!has(&["release", ""], "uplink0"), "web1 has it");
    assert!(has(&["explain", ""], "0000:03:00.0"));
}

#[test]
fn address_may_be_typed_without_its_segment() {
    let folder = TempDir::new().unwrap();
    let _daemon = daemon(&folder);
    assert!(answers(&folder, &["detach", "web1", "03:"])[0].starts_with("03:00.0\t"));
}

#[test]
fn socket_on_the_command_line_is_asked() {
    let (folder, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let _daemon = daemon(&folder);
    let socket = folder.path().join("control");
    let words = ["--socket", socket.to_str().unwrap(), "pci-list", "web"];
    assert!(!answers(&elsewhere, &words).is_empty());
}

#[test]
fn without_a_daemon_there_are_only_commands_and_options() {
    let folder = TempDir::new().unwrap();
    assert!(answers(&folder, &["pci-det"]).iter().any(|answer| answer.starts_with("pci-detach\t")));
    assert!(answers(&folder, &["pci-list", "w"]).is_empty());
}

#[test]
fn each_shell_gets_a_script_that_asks_this_program() {
    for shell in ["bash", "zsh", "fish"] {
        let script = xenpci(["completions", shell]).good();
        assert!(
            script.contains(&format!("XENPCI_COMPLETE={shell}")) || script.contains("XENPCI_COMPLETE=\"zsh\""),
            "{script}"
        );
    }
    assert_eq!(xenpci(["completions", "tcsh"]).status, 2);
}

/// What Bash has in COMPREPLY after the key was pressed at the end of `line`.
fn bash(folder: &TempDir, line: &str) -> String {
    let script = "source <(xenpci completions bash); COMP_LINE=$1; COMP_POINT=${#1}; _xenpci; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let path = format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash", line]).env("PATH", path);
    ended(command.env("XENPCID_SOCKET", folder.path().join("control"))).good()
}

#[test]
fn bash_replaces_only_what_follows_the_last_colon() {
    let folder = TempDir::new().unwrap();
    let _daemon = daemon(&folder);
    assert_eq!(bash(&folder, "xenpci detach web1 0000:03:"), "00.0\n");
    assert_eq!(bash(&folder, "xenpci pci-detach web1 name=up"), "uplink0\n");
    assert_eq!(bash(&folder, "xenpci pci-detach we"), "web1\n");
    assert_eq!(bash(&folder, "xenpci pci-detac"), "pci-detach\n");
}

#[test]
fn scripts_are_understood_by_their_shells_where_these_are_installed() {
    let folder = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let file = folder.path().join(shell);
        std::fs::write(&file, xenpci(["completions", shell]).good()).unwrap();
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{shell}"),
        }
    }
}
