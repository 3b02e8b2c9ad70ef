//! The binary `xenpci`: what it prints and how it ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests stop where something is wrong")]

mod arguments;
mod completions;
mod create;
mod daemon;
mod doctor;
mod explain;
mod files;
mod host;
mod man_pages;
mod packaging;
mod samples;
mod toolstack;
mod xl;

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run of the command ended with.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs `xenpci` in the folder of recorded devices, where there is no daemon, no configuration and no policies but the
/// shipped ones, unless `arguments` say otherwise.
fn xenpci<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(arguments: I) -> Ended {
    let arguments: Vec<std::ffi::OsString> =
        arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xenpci"));
    for (option, nowhere) in
        [("--socket", "/nowhere/control"), ("--config", "/nowhere/xenpcid.toml"), ("--policies", "/nowhere/policies")]
    {
        if !arguments.iter().any(|argument| argument == option) {
            command.args([option, nowhere]);
        }
    }
    command.current_dir(recordings());
    ended(command.args(&arguments))
}

/// Runs a command to its end.
fn ended(command: &mut Command) -> Ended {
    let output = command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").output().unwrap();
    Ended {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// The output of a run that worked and had nothing to complain of.
    fn good(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// The complaint of a run that printed nothing else.
    fn bad(self, status: i32) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (status, ""), "{}", self.stderr);
        self.stderr
    }
}

/// A file of this folder.
fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xenpci").join(path)
}

/// Where the devices are recorded.
fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/devices")
}

/// The text of a recording, by the device's name.
fn recording(name: &str) -> String {
    std::fs::read_to_string(recordings().join(format!("{name}.txt"))).unwrap()
}
