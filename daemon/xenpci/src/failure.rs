//! Why a command did not work, and what the process ends with.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use xenpcid_address::Sbdf;
use xenpcid_config::{ChoiceError, ConfigError};
use xenpcid_control::{ClientError, WrongDescription};
use xenpcid_host::HostError;
use xenpcid_policy::{CompileError, RecordingError};

/// Exit status when the command line is wrong, as clap has it.
const USAGE: u8 = 2;
/// Exit status when there is no daemon to be talked to.
const UNREACHABLE: u8 = 3;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    #[error(transparent)]
    Description(#[from] WrongDescription),
    #[error("{device} cannot be given to a guest under policy {policy}")]
    Compile { device: String, policy: String, source: Box<CompileError> },
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Host(#[from] HostError),
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no recorded device; `lspci -vv -xxxx -s BDF`, as root, makes one", .path.display())]
    Recording { path: PathBuf, source: RecordingError },
    #[error("{} has no device {device}; it has {}", .path.display(), .present.join(", "))]
    NotRecorded { path: PathBuf, device: Sbdf, present: Vec<String> },
    #[error("{} has several devices: name one of {}", .path.display(), .present.join(", "))]
    SeveralRecorded { path: PathBuf, present: Vec<String> },
    #[error("cannot write the result")]
    Write(#[from] std::io::Error),
    #[error("cannot write the result as JSON")]
    Json(#[from] serde_json::Error),
    #[error("--slot is for one device: attach the others by commands of their own")]
    SlotOfSeveral,
    #[error("Ctrl-C cannot be caught")]
    Interrupt(#[from] ctrlc::Error),
    #[error(transparent)]
    Create(#[from] crate::create::CreateError),
    #[error("xl's commands stand directly after the options that hold for all commands: see `xenpci --help`")]
    Misplaced,
    #[error("")]
    Reported,
}

fn remedy(error: &HostError) -> &'static str {
    match error.errno {
        xenpcid_host::Errno::EACCES | xenpcid_host::Errno::EPERM if error.remedy().is_none() => "; run as root",
        _ => "",
    }
}

/// What an error says, and all that it comes from and has not said already.
pub fn chain(error: &dyn Error) -> String {
    let sources = std::iter::successors(error.source(), |&source| source.source()).map(ToString::to_string);
    sources
        .fold(error.to_string(), |text, source| if text.contains(&source) { text } else { format!("{text}: {source}") })
}

impl Failure {
    /// Says it on standard error.
    pub fn report(&self) -> ExitCode {
        match self {
            // Whoever reads has read enough.
            Self::Write(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Reported => return ExitCode::FAILURE,
            _ => {}
        }
        anstream::eprintln!("xenpci: {}", chain(self));
        match self {
            Self::Client(error) if error.is_unreachable() => ExitCode::from(UNREACHABLE),
            Self::SlotOfSeveral => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}
