//! xenpcid in dom0, as a person would run it: in the foreground of some shell, its messages in a file.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::{DEADLINE, Machine, follow};
use crate::workspace::Program;

/// A started xenpcid, perhaps ended by now.
#[derive(Clone)]
pub struct Daemon {
    /// Names its files: `/host/<name>.log` and so on.
    name: String,
    log: PathBuf,
    exit: PathBuf,
}

/// What became of a start.
pub enum Startup {
    /// It said that it is ready.
    Ready(Daemon),
    /// It ended first.
    Ended {
        /// Its exit status.
        status: i32,
        /// All that it wrote.
        log: String,
    },
}

impl Machine {
    /// Puts a program into dom0.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn install(&mut self, program: Program, path: &Path) -> Result<()> {
        fs::copy(path, self.share().join(program.name())).map_err(Error::io("copy", path))?;
        self.installed.push(program);
        self.copy_to_dom0(program)
    }

    /// From the folder that the host shares into dom0's own file system, which is new at each boot.
    pub(super) fn copy_to_dom0(&self, program: Program) -> Result<()> {
        let name = program.name();
        self.dom0().sh(&format!("cp /host/{name} /usr/sbin/{name} && chmod 755 /usr/sbin/{name}")).map(drop)
    }

    /// Starts xenpcid with this configuration and waits until it is ready or has ended.
    ///
    /// # Errors
    /// If neither happens in time.
    pub fn try_daemon(&mut self, configuration: &str) -> Result<Startup> {
        self.progress.note("xenpcid starts");
        self.daemon_count += 1;
        let name = format!("xenpcid-{}", self.daemon_count);
        let share = self.share();
        let file = |extension: &str| share.join(format!("{name}.{extension}"));
        let daemon = Daemon { log: file("log"), exit: file("exit"), name: name.clone() };
        self.daemons.push(daemon.clone());
        fs::write(file("toml"), configuration).map_err(Error::io("write", file("toml")))?;
        let log = if self.is_verbose { "XENPCID_LOG=debug" } else { "" };
        // MALLOC_ARENA_MAX as in the systemd unit, so that the memory that is measured is what a host has to spare.
        self.dom0().sh(&format!(
            "cat > /run/{name}.sh <<'END'\n\
             MALLOC_ARENA_MAX=1 {log} xenpcid --config /host/{name}.toml < /dev/null > /host/{name}.log 2>&1 &\n\
             echo $! > /run/{name}.pid\n\
             wait $!\n\
             echo $? > /host/{name}.exit\n\
             END\n\
             setsid sh /run/{name}.sh < /dev/null > /dev/null 2>&1 &"
        ))?;
        // Either file may change first, and the log is written before the exit status.
        let ended = follow::wait_for(&daemon.log, "xenpcid to be ready, or to end", DEADLINE, |log| {
            // As a word of its own: an error may say "already".
            let is_ready = log.split_whitespace().any(|word| word == "ready");
            if is_ready { Some(None) } else { daemon.exit_status().map(Some) }
        })?;
        match ended {
            None => Ok(Startup::Ready(daemon)),
            Some(status) => Ok(Startup::Ended { status, log: daemon.log()? }),
        }
    }

    /// As [`Machine::try_daemon`], for a start that has to succeed.
    ///
    /// # Errors
    /// Also if xenpcid ends.
    pub fn start_daemon(&mut self, configuration: &str) -> Result<Daemon> {
        match self.try_daemon(configuration)? {
            Startup::Ready(daemon) => Ok(daemon),
            Startup::Ended { status, log } => Err(Error::Expectation {
                expected: "xenpcid to be ready".to_owned(),
                found: format!("that it ended with status {status}: {}", log.trim()),
            }),
        }
    }

    /// Stops those that still run, and forgets all.
    ///
    /// # Errors
    /// If one does not stop as it should.
    pub fn stop_daemons(&mut self) -> Result<()> {
        for daemon in &self.daemons {
            if daemon.exit_status().is_none() {
                daemon.stop(self)?;
            }
        }
        self.daemons.clear();
        Ok(())
    }

    /// A title and the text for the log of each xenpcid that was started.
    pub fn daemon_logs(&self) -> Vec<(String, String)> {
        let text = |daemon: &Daemon| daemon.log().unwrap_or_else(|error| error.to_string());
        self.daemons.iter().map(|daemon| (daemon.name.clone(), text(daemon))).collect()
    }
}

impl Daemon {
    /// All that it has written.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).map_err(Error::io("read", &self.log))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its exit status, once it has ended.
    #[must_use]
    pub fn exit_status(&self) -> Option<i32> {
        fs::read_to_string(&self.exit).ok()?.trim().parse().ok()
    }

    /// Waits until it has written `count` lines that have all of `words` in them, and returns these lines.
    ///
    /// # Errors
    /// If it does not, or ends without having done so.
    pub fn wait_for_lines(&self, count: usize, words: &[&str]) -> Result<Vec<String>> {
        let what = format!("{count} lines of xenpcid with {words:?}");
        let found = |log: &str| {
            let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            if lines.len() >= count { Some(Ok(lines)) } else { self.exit_status().map(Err) }
        };
        follow::wait_for(&self.log, &what, DEADLINE, found)?.map_err(|status| Error::Expectation {
            expected: what,
            found: format!("that it ended with status {status}"),
        })
    }

    /// The number of its process in dom0.
    ///
    /// # Errors
    /// If it was never started.
    pub fn process(&self, machine: &Machine) -> Result<String> {
        Ok(machine.dom0().sh(&format!("cat /run/{}.pid", self.name))?.trim().to_owned())
    }

    /// Asks it to stop, and expects that it does so without an error.
    ///
    /// # Errors
    /// If it does not end, or with another status than 0.
    pub fn stop(&self, machine: &Machine) -> Result<()> {
        machine.progress.note("xenpcid stops");
        machine.dom0().sh(&format!("kill -TERM {}", self.process(machine)?))?;
        match follow::wait_for(&self.exit, "the end of xenpcid after SIGTERM", DEADLINE, |_| self.exit_status())? {
            0 => Ok(()),
            status => Err(Error::Expectation {
                expected: "xenpcid to end with status 0 after SIGTERM".to_owned(),
                found: status.to_string(),
            }),
        }
    }
}
