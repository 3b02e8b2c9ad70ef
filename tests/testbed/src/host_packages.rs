//! What the host must have installed to build the project: Debian packages, installed with apt where missing.

use std::process::Command;

use crate::error::{Error, Result};
use crate::process;
use crate::progress::Progress;

/// Packages that the workspace needs to compile and the testbed to run, each with what it is for.
const NEEDED: &[(&str, &str)] = &[
    ("gcc", "links Rust programs"),
    ("libc6-dev", "links Rust programs"),
    ("libclang-dev", "xenctrl-sys reads Xen's headers with it"),
    ("libxen-dev", "headers and libraries of Xen's control interface"),
    ("pkg-config", "finds them"),
    ("debian-archive-keyring", "checks the packages that only the testbed needs"),
    ("util-linux", "setpriv lets QEMU end with its test"),
];

/// Installs what is missing.
///
/// # Errors
/// Without root rights, [`Error::Unsuitable`] with the command to run; or apt's own failure.
pub fn provide(progress: &Progress) -> Result<()> {
    let missing: Vec<&str> = NEEDED.iter().map(|(name, _)| *name).filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Unsuitable(format!(
            "packages that the build needs are missing. Install them, then run this command again:\n    \
             sudo apt-get update && sudo apt-get install --no-install-recommends {names}"
        )));
    }
    let step = progress.step(format!("installing {names}"));
    process::run(apt_get().arg("update"))?;
    process::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&missing))?;
    step.done();
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(package: &str) -> bool {
    let status = Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]).output();
    status.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}
