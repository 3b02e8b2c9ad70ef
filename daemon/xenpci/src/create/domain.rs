use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Why `xl` did not do it.
#[derive(Debug, thiserror::Error)]
pub enum XlError {
    /// It is not there, or cannot be run.
    #[error("cannot run xl: is xen-utils installed, and is this root?")]
    Run(#[source] io::Error),
    /// It said why on standard error.
    #[error("`xl {command}` ended with {status}")]
    Ended {
        /// What it was to do.
        command: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// A domain of that name runs.
    #[error("a domain {0} exists already: see `xl list`")]
    Exists(String),
    /// `xl domid` prints no number.
    #[error("`xl domid {name}` says {answer:?}")]
    NoNumber {
        /// The domain.
        name: String,
        /// What it printed.
        answer: String,
    },
}

/// A domain, by way of `xl`.
#[derive(Debug)]
pub struct Xl {
    name: String,
}

impl Xl {
    /// A domain of that name that there is not yet, so that whatever has the name later is ours.
    pub fn find(name: &str) -> Result<Self, XlError> {
        let xl = Self { name: name.to_owned() };
        let output = xl.command("domid").arg(name).stderr(Stdio::null()).output().map_err(XlError::Run)?;
        if output.status.success() { Err(XlError::Exists(xl.name)) } else { Ok(xl) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Creates it, paused.
    pub fn create_paused(&self, configuration: &Path, options: &[String]) -> Result<(), XlError> {
        let configuration = [OsStr::new("-p"), configuration.as_os_str()];
        self.run("create", configuration.into_iter().chain(options.iter().map(OsStr::new)))
    }

    /// Its number.
    pub fn number(&self) -> Result<String, XlError> {
        let output = self.command("domid").arg(&self.name).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(XlError::Run)?;
        if !output.status.success() {
            return Err(XlError::Ended { command: "domid", status: output.status });
        }
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match answer.parse::<u16>() {
            Ok(_) => Ok(answer),
            Err(_) => Err(XlError::NoNumber { name: self.name.clone(), answer }),
        }
    }

    /// Whether there is a domain of that name now.
    pub fn exists(&self) -> bool {
        let status = self.command("domid").arg(&self.name).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Lets it run.
    pub fn unpause(&self) -> Result<(), XlError> {
        self.run("unpause", [&self.name])
    }

    /// Ends it.
    pub fn destroy(&self) -> Result<(), XlError> {
        self.run("destroy", [&self.name])
    }

    fn command(&self, command: &str) -> Command {
        let mut xl = Command::new("xl");
        xl.arg(command);
        xl
    }

    fn run<A: AsRef<OsStr>>(
        &self,
        command: &'static str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<(), XlError> {
        match self.command(command).args(arguments).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(XlError::Ended { command, status }),
            Err(error) => Err(XlError::Run(error)),
        }
    }
}
