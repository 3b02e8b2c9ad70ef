//! What passthrough to a domain has left behind: in Xen, in xenstore, in the daemon.

use crate::error::{Error, Result};
use crate::machine::xen_state::Permissions;
use crate::machine::{Daemon, Guest, Machine};

/// How much there is of each at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// What the domain may use.
    pub permissions: Permissions,
    /// xenstore nodes about PCI devices.
    pub nodes: Vec<String>,
    /// Open files of the daemon.
    pub descriptors: usize,
    /// Threads of the daemon.
    pub threads: usize,
    /// Memory of the daemon that is no file's, in KiB.
    pub memory: usize,
}

impl Machine {
    /// Takes them down.
    ///
    /// # Errors
    /// If somebody does not answer, or the daemon is not there.
    pub fn traces(&self, daemon: &Daemon, guest: &Guest) -> Result<Traces> {
        let process = daemon.process(self)?;
        let number = |command: &str| {
            let text = self.dom0().sh(command)?;
            let number = text.trim().parse::<usize>();
            number.map_err(|_| Error::Expectation { expected: format!("a number from `{command}`"), found: text })
        };
        Ok(Traces {
            permissions: self.permissions(guest.domid)?,
            nodes: self.pci_nodes()?,
            descriptors: number(&format!("ls /proc/{process}/fd | wc -l"))?,
            threads: number(&format!("ls /proc/{process}/task | wc -l"))?,
            memory: number(&format!("awk '/^RssAnon:/ {{ print $2 }}' /proc/{process}/status"))?,
        })
    }

    /// The paths of all xenstore nodes that are about PCI devices.
    ///
    /// # Errors
    /// If xenstored does not answer.
    pub fn pci_nodes(&self) -> Result<Vec<String>> {
        let tree = self.dom0().sh("xenstore-ls -f /")?;
        let paths = tree.lines().filter_map(|line| line.split_once(" = ")).map(|(path, _)| path);
        Ok(paths.filter(|path| path.contains("/pci/")).map(str::to_owned).collect())
    }
}
