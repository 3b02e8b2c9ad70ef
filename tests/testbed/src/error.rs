//! What can go wrong outside the thing under test, and what a scenario found wrong with it.

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a step could not be done, or what a scenario found instead of what it expected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation of this machine failed.
    #[error("cannot {operation} {object}: {source}")]
    Io {
        /// What was tried, as a verb: "read", "create".
        operation: &'static str,
        /// The file, folder or socket.
        object: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A program of this machine failed.
    #[error("{command}: {status}\n{output}")]
    Program {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// This machine cannot do it as it is; the text says what to do.
    #[error("{0}")]
    Unsuitable(String),
    /// A downloaded file is not what it should be.
    #[error("{object}: {problem}")]
    Malformed {
        /// The file.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The emulated machine ended while it was needed.
    #[error("QEMU has ended: {0}")]
    MachineEnded(String),
    /// The emulator has lost an interrupt, so nothing that the machine did afterwards says anything.
    #[error("QEMU has lost the end of an interrupt: {what}; what was seen of it: {error}")]
    LostInterrupt {
        /// Which CPU hangs, and how.
        what: String,
        /// What failed.
        error: Box<Error>,
    },
    /// xen-pciback, which the scenario compares xenpcid with, did not do its half. That says nothing about xenpcid.
    #[error("with xen-pciback: {0}")]
    Reference(Box<Error>),
    /// Nothing came back in time.
    #[error("{what}: no answer after {} s", deadline.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
    },
    /// A command in dom0 or in a guest did not succeed.
    #[error("in {place}, `{command}` {ending}{}", indented(output))]
    Command {
        /// "dom0", or the guest's name.
        place: String,
        /// The command as it was sent.
        command: String,
        /// How it ended.
        ending: String,
        /// Its output.
        output: String,
    },
    /// A scenario saw something else than it should have.
    #[error("expected {expected}, found {found}")]
    Expectation {
        /// What the scenario asserts.
        expected: String,
        /// What there was.
        found: String,
    },
    /// Ctrl-C, or a request to terminate.
    #[error("interrupted")]
    Interrupted,
}

/// Result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the failure says nothing about xenpcid, so that the scenario is to be run anew.
    #[must_use]
    pub const fn is_not_ours(&self) -> bool {
        matches!(self, Self::LostInterrupt { .. } | Self::Reference(_))
    }

    /// For `map_err`: names the operation and the file.
    pub fn io(operation: &'static str, object: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let object = object.as_ref().display().to_string();
        move |source| Self::Io { operation, object, source }
    }
}

/// Fails a scenario unless `holds`.
///
/// # Errors
/// [`Error::Expectation`] with both texts.
pub fn expect(holds: bool, expected: impl Into<String>, found: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Expectation { expected: expected.into(), found: found.into() }) }
}

/// Several lines are set off from the sentence before them.
fn indented(output: &str) -> String {
    output.trim_end().lines().fold(String::new(), |text, line| format!("{text}\n    {line}"))
}
