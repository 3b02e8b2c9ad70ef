//! What Xen itself says about domains and devices, by its debug keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::error::{Error, Result, expect};
use crate::machine::{DEADLINE, Machine, follow};

/// The last thing that Xen prints for the debug key `t`, which follows the one that is asked for.
const END: &str = "Synced cycles skew";

/// What a domain may use of the machine, as far as devices have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Xen's numbers of interrupts.
    pub interrupts: BTreeSet<u32>,
    /// Ranges of pages of the machine's memory, in hexadecimal.
    pub memory: String,
    /// Ranges of I/O ports, in hexadecimal.
    pub ports: String,
}

impl Permissions {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Machine {
    /// What this domain may use; nothing if there is no such domain.
    ///
    /// # Errors
    /// If Xen does not answer.
    pub fn permissions(&self, domid: u32) -> Result<Permissions> {
        Ok(parse_permissions(&self.debug_key('q')?, domid))
    }

    /// Who has each PCI function, by address: `d0`, `d` and a domain's number, or `DomIO` for quarantine.
    ///
    /// # Errors
    /// If Xen does not answer.
    pub fn owners(&self) -> Result<BTreeMap<String, String>> {
        Ok(parse_owners(&self.debug_key('Q')?))
    }

    /// Expects that each of these functions belongs to `owner`, in the words of [`Machine::owners`].
    ///
    /// # Errors
    /// [`Error::Expectation`] with the first that does not.
    pub fn expect_owner(&self, functions: &[String], owner: &str) -> Result<()> {
        let owners = self.owners()?;
        let found = |sbdf: &str| owners.get(sbdf).map_or("nobody", String::as_str);
        functions.iter().try_for_each(|sbdf| expect(found(sbdf) == owner, format!("{sbdf} with {owner}"), found(sbdf)))
    }

    /// Waits until the function belongs to `owner`. Xen tells nobody when that changes.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not.
    pub fn wait_for_owner(&self, function: &str, owner: &str) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if self.owners()?.get(function).is_some_and(|found| found == owner) {
                return Ok(());
            }
        }
        Err(Error::Deadline { what: format!("{function} to be with {owner}"), deadline: DEADLINE })
    }

    fn debug_key(&self, key: char) -> Result<String> {
        let begin = self.xen_log()?.len();
        self.dom0().sh(&format!("xl debug-keys {key}t"))?;
        let answer = |log: &str| {
            let answer = log.get(begin..)?;
            answer.contains(END).then(|| answer.to_owned())
        };
        follow::wait_for(&self.files().xen_log(), &format!("Xen's answer to the debug key {key}"), DEADLINE, answer)
    }
}

/// Xen prints `Rangesets belonging to domain 1:`, and below it a line for each kind: `Interrupts { 20, 35-37 }`.
fn parse_permissions(text: &str, domid: u32) -> Permissions {
    let lines = text.lines().map(|line| line.trim_start_matches("(XEN)").trim());
    let title = format!("Rangesets belonging to domain {domid}:");
    let mut permissions = Permissions::default();
    for line in lines.skip_while(|line| *line != title).skip(1) {
        let Some((kind, rest)) = line.split_once('{') else { break };
        let ranges = rest.trim_end_matches('}').trim();
        match kind.trim() {
            "Interrupts" => permissions.interrupts = numbers(ranges),
            "I/O Memory" => ranges.clone_into(&mut permissions.memory),
            "I/O Ports" => ranges.clone_into(&mut permissions.ports),
            _ => {}
        }
    }
    permissions
}

/// Reads `20, 35-37`.
fn numbers(ranges: &str) -> BTreeSet<u32> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    };
    ranges.split(',').filter_map(range).flatten().collect()
}

/// Xen prints `0000:03:00.0 - d1 - node -1  - MSIs < 35 36 37 >`. Quarantine is a domain of its own for each device:
/// `DomIO:8009`.
fn parse_owners(text: &str) -> BTreeMap<String, String> {
    let owner = |line: &str| {
        let (address, rest) = line.trim_start_matches("(XEN)").trim().split_once(" - ")?;
        let owner = rest.split_whitespace().next()?.split(':').next()?;
        // Nothing else that Xen prints here has an address to begin with.
        (address.len() == "0000:00:00.0".len()).then(|| (address.to_owned(), owner.to_owned()))
    };
    text.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Xen 4.17 prints it.
    const DOMAINS: &str = "\
(XEN) Rangesets belonging to domain 0:
(XEN)     Interrupts { 1-23, 25-34 }
(XEN)     I/O Memory { 0-fed8f, fef00-fffffff }
(XEN)     I/O Ports  { 0-1f, 22-3f }
(XEN)     log-dirty  { }
(XEN) Memory pages belonging to domain 0:
(XEN) Rangesets belonging to domain 1:
(XEN)     Interrupts { 20, 23, 35-37 }
(XEN)     I/O Memory { fd600-fd643, fda00-fda03 }
(XEN)     I/O Ports  { 4000-401f }
(XEN)     log-dirty  { }
(XEN) Memory pages belonging to domain 1:
(XEN) Rangesets belonging to domain 12:
(XEN)     Interrupts { }
(XEN)     I/O Memory { }
(XEN)     I/O Ports  { }
(XEN)     log-dirty  { }
(XEN) Memory pages belonging to domain 12:
";

    #[test]
    fn permissions_are_those_of_the_domain() {
        let permissions = parse_permissions(DOMAINS, 1);
        assert_eq!(permissions.interrupts, BTreeSet::from([20, 23, 35, 36, 37]));
        assert_eq!(permissions.memory, "fd600-fd643, fda00-fda03");
        assert_eq!(permissions.ports, "4000-401f");
        assert!(parse_permissions(DOMAINS, 12).is_empty());
        assert!(parse_permissions(DOMAINS, 2).is_empty());
    }

    #[test]
    fn owners_are_domains_and_quarantine() {
        let text = "\
(XEN) ==== PCI devices ====
(XEN) ==== segment 0000 ====
(XEN) 0000:06:00.0 - d0 - node -1 
(XEN) 0000:04:00.0 - DomIO:8009 - node -1 
(XEN) 0000:03:00.0 - d1 - node -1  - MSIs < 35 36 37 >
(XEN) Synced stime skew: max=1252895ns avg=1252895ns samples=1 current=1252895ns
";
        let owners = parse_owners(text);
        let owner = |address: &str| owners.get(address).map(String::as_str);
        assert_eq!(owner("0000:06:00.0"), Some("d0"));
        assert_eq!(owner("0000:04:00.0"), Some("DomIO"));
        assert_eq!(owner("0000:03:00.0"), Some("d1"));
        assert_eq!(owners.len(), 3);
    }
}
