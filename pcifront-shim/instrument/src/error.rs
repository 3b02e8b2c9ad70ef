use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use pcifront_shim::RequestError;
use xenpcid_address::Sbdf;
use xenpcid_host::HostError;
use xenstore_protocol::XenbusState;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This is not a place where a frontend can run.
    #[error("{problem}; {remedy}")]
    NotAGuest {
        /// What is missing or in the way.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// Another process runs this program.
    #[error("another pcifront-shim is running in this guest; a guest has one PCI bus, with one frontend")]
    AnotherRuns,
    /// The toolstack has not given this guest a bus, or has taken it away.
    #[error(
        "this guest has no PCI bus: there is no {frontend} in xenstore; give it a device (a [[domain]] of xenpcid's \
         configuration, or pci=[...] in its xl.cfg) and start it again"
    )]
    NoBus {
        /// The directory that is not there.
        frontend: String,
    },
    /// The backend is not there, or does not take part in the handshake.
    #[error(
        "the backend is in state {state} and was not {wanted} after {} s; is it running in dom0?",
        after.as_secs_f64()
    )]
    NoBackend {
        /// Its state.
        state: XenbusState,
        /// What was waited for.
        wanted: &'static str,
        /// How long.
        after: Duration,
    },
    /// The backend has closed and does not start again.
    #[error(
        "the backend stays in state {state}: it does not connect again to a frontend that has closed, as xen-pciback \
         cannot; detach the devices and attach them again (xl pci-detach, xl pci-attach), or start the guest again, and \
         do everything in one run (pcifront-shim session)"
    )]
    CannotReconnect {
        /// Its state.
        state: XenbusState,
    },
    /// The backend refuses this frontend.
    #[error("the backend closed the connection (state {state}) instead of connecting; dom0's log says why")]
    BackendRefuses {
        /// Its state.
        state: XenbusState,
    },
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// xenstore cannot be used, or refused.
    #[error(transparent)]
    Xenstore(#[from] xenstore_protocol::Error),
    /// A device of this guest's kernel refused.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Nothing answers at an address that was named, or anywhere.
    #[error("there is no function {0} on this guest's bus; pcifront-shim probe shows what there is")]
    NoFunction(Sbdf),
    /// The bus is empty.
    #[error("there is no function on this guest's bus")]
    EmptyBus,
    /// A file cannot be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(String),
    /// The user wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// The answer was given, and is no.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A file that cannot be used.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }

    /// A file with a wrong content.
    pub(crate) fn malformed(path: &Path, problem: impl ToString) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.to_string() }
    }

    /// The status with which the program ends, as its help has it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NotAGuest { .. }
            | Self::AnotherRuns
            | Self::NoBus { .. }
            | Self::NoBackend { .. }
            | Self::CannotReconnect { .. }
            | Self::BackendRefuses { .. } => 3,
            Self::Interrupted => 130,
            _ => 1,
        })
    }
}
