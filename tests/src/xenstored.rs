//! Debian's real xenstored, without Xen: its own process, its own folder, and the preload library that stands in for the
//! hypervisor.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use xenpcid_address::DomainId;

/// Where the testbed unpacks Debian's packages, below its cache.
const PACKAGES: &str = "packages";
/// The program, in its package.
const PROGRAM: &str = "usr/lib/xen-4.17/bin/xenstored";
/// Xen's libraries, in their packages.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A running xenstored. Dropped, it is ended.
#[derive(Debug)]
pub struct Xenstored {
    process: Child,
    folder: TempDir,
}

/// The folder in which Debian's packages are unpacked.
///
/// # Panics
/// They are not; the message names the remedy.
#[must_use]
pub fn packages() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    let cache = set("XENPCID_TESTBED_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("xenpcid-testbed")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/xenpcid-testbed")))
        .unwrap_or_default();
    let packages = cache.join(PACKAGES);
    let program = packages.join(PROGRAM);
    assert!(program.exists(), "{} is not there: run `cargo testbed setup`, which downloads it", program.display());
    packages
}

/// A program of the packages, to be run with their libraries.
///
/// # Panics
/// The packages are not there.
#[must_use]
pub fn program(path: &str) -> Command {
    let packages = packages();
    let mut command = Command::new(packages.join(path));
    command.env("LD_LIBRARY_PATH", packages.join(LIBRARIES));
    command
}

/// The library that Cargo has built beside the running test.
fn preload() -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    let library = test.with_file_name("libxenstored_preload.so");
    assert!(library.exists(), "{} is not there: run the tests with cargo, which builds it", library.display());
    library
}

impl Xenstored {
    /// Starts a server with an empty tree, and waits until it takes connections.
    ///
    /// # Panics
    /// It is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("xenstored-").expect("a folder for temporary files");
        let mut process = program(PROGRAM)
            .arg("--no-fork")
            .env("LD_PRELOAD", preload())
            .env("XENSTORED_RUNDIR", folder.path())
            .env("XENSTORED_PATH", folder.path().join("socket"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("xenstored to start");
        let mut line = String::new();
        let output = process.stdout.take().map(BufReader::new);
        let read = output.map(|mut output| output.read_line(&mut line));
        assert_eq!(line, "ready\n", "xenstored did not start: {read:?}");
        Self { process, folder }
    }

    /// Its socket, on which every client is domain 0.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Lets a domain exist, so that nodes can be given to it.
    ///
    /// # Panics
    /// The file that says so cannot be written.
    pub fn create_domain(&self, domain: DomainId) {
        fs::write(self.of_domain(domain, ""), "").expect("a file in the server's folder");
    }

    /// Lets a domain exist no more. The server learns of it by RELEASE.
    ///
    /// # Panics
    /// It does not exist.
    pub fn destroy_domain(&self, domain: DomainId) {
        fs::remove_file(self.of_domain(domain, "")).expect("a domain that exists");
    }

    /// The socket that leads to the ring of a domain, once it has been introduced. One client at a time.
    #[must_use]
    pub fn guest_socket(&self, domain: DomainId) -> PathBuf {
        self.of_domain(domain, ".socket")
    }

    fn of_domain(&self, domain: DomainId, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("domain-{domain}{suffix}"))
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Xenstored {
    fn drop(&mut self) {
        // It has nothing to save; if it is gone already, so much the better.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
