//! Safety checks: what would go wrong if a device were claimed, or given to a guest.
//!
//! ```text
//!  host, owners ──► picture of a moment ──► each check of CHECKS ──► findings ──► refusals: those that are not allowed
//!                                              └► isolation groups
//! ```
//! Each check is a row of a table. All are asked, whatever the first one says, and each finding names the object, the reason and
//! the remedy. What concerns only a device that runs (its group, its line, its interrupts) is asked when a domain is named: in
//! quarantine a device reaches nothing.

pub mod isolation;
mod picture;
mod questions;

use std::fmt;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Override, ResetRequirement};
use xenpcid_host::{Host, HostError};

use picture::{Functions, Picture};

/// Who has a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// dom0, with or without a driver.
    Dom0,
    /// Nobody: it is claimed.
    Quarantine,
    /// A guest.
    Guest(DomainId),
}

/// Whether a finding keeps the device from being attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does, unless it is allowed.
    Refusal,
    /// It is only worth knowing.
    Note,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whether it is a device at all, and answers.
    Header,
    /// Whether another guest has it.
    Ownership,
    /// Whether Xen knows the device.
    KnownToXen,
    /// Whether Xen, and the domain, have an IOMMU.
    Iommu,
    /// Whether the device can be reset.
    Reset,
    /// Whether dom0 uses the device.
    HostUse,
    /// Whether virtual functions would vanish with the device.
    VirtualFunctions,
    /// Whether a page of the device's memory also holds registers of another device (XSA-461).
    SharedPage,
    /// Whether another function of its isolation group belongs elsewhere.
    SplitGroup,
    /// Whether its INTx line is also that of a device that belongs elsewhere.
    SharedInterrupt,
    /// Whether firmware reserves memory for it.
    ReservedMemory,
    /// Whether the domain can have as many interrupts as it shows.
    Interrupts,
}

/// A check: its name, and what to write into `allow` to accept what it finds.
struct Row {
    check: Check,
    name: &'static str,
    key: Option<Override>,
    ask: fn(&Picture<'_>) -> Vec<(Severity, String)>,
}

/// Every check, in the order in which they are asked and told.
const CHECKS: [Row; 12] = [
    Row { check: Check::Header, name: "header", key: None, ask: questions::header },
    Row { check: Check::Ownership, name: "ownership", key: None, ask: questions::ownership },
    Row { check: Check::KnownToXen, name: "known-to-xen", key: None, ask: questions::known_to_xen },
    Row { check: Check::Iommu, name: "iommu", key: None, ask: questions::io_mmu },
    // What it finds is accepted by the device's `reset`.
    Row { check: Check::Reset, name: "reset", key: None, ask: questions::reset },
    Row { check: Check::HostUse, name: "host-use", key: Some(Override::HostUse), ask: questions::host_use },
    Row {
        check: Check::VirtualFunctions,
        name: "virtual-functions",
        key: Some(Override::VirtualFunctions),
        ask: questions::virtual_functions,
    },
    Row {
        check: Check::SharedPage,
        name: "shared-page",
        key: Some(Override::SharedPage),
        ask: questions::shared_pages,
    },
    Row { check: Check::SplitGroup, name: "split-group", key: Some(Override::SplitGroup), ask: questions::split_group },
    Row {
        check: Check::SharedInterrupt,
        name: "shared-interrupt",
        key: Some(Override::SharedInterrupt),
        ask: questions::shared_interrupt,
    },
    Row {
        check: Check::ReservedMemory,
        name: "reserved-memory",
        key: Some(Override::ReservedMemory),
        ask: questions::reserved_memory,
    },
    Row { check: Check::Interrupts, name: "interrupts", key: None, ask: questions::interrupts },
];

impl Check {
    fn row(self) -> Option<&'static Row> {
        CHECKS.iter().find(|row| row.check == self)
    }

    /// What to write into `allow` to accept what it finds; `None` if that cannot be accepted so.
    #[must_use]
    pub fn key(self) -> Option<Override> {
        self.row().and_then(|row| row.key)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().map_or("", |row| row.name))
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// Object, reason and remedy.
    pub message: String,
}

impl Finding {
    /// Whether it does not keep the device, as it is declared, from being claimed or attached.
    #[must_use]
    pub fn is_accepted(&self, device: &Device) -> bool {
        let by_reset = self.check == Check::Reset && device.reset == ResetRequirement::BestEffort;
        let by_key = self.check.key().is_some_and(|key| device.allow.contains(&key));
        self.severity == Severity::Note || by_reset || by_key
    }
}

/// The findings that keep a device from being claimed or attached, as it is declared.
#[must_use]
pub fn refusals(findings: Vec<Finding>, device: &Device) -> Vec<Finding> {
    findings.into_iter().filter(|finding| !finding.is_accepted(device)).collect()
}

/// Every finding about a device that is to show at most `vectors` MSI-X vectors: for this domain, or for any.
///
/// # Errors
/// The host cannot be looked at.
pub fn examine(
    host: &Host,
    owners: &dyn Fn(Sbdf) -> Owner,
    function: Sbdf,
    domain: Option<DomainId>,
    vectors: u16,
) -> Result<Vec<Finding>, HostError> {
    Ok(examine_all(host, owners, &[(function, vectors)], domain)?.into_iter().flatten().collect())
}

/// As [`examine`], for several devices, which are asked about at the same moment; the findings of each, in their order.
///
/// # Errors
/// As there.
pub fn examine_all(
    host: &Host,
    owners: &dyn Fn(Sbdf) -> Owner,
    asked: &[(Sbdf, u16)],
    domain: Option<DomainId>,
) -> Result<Vec<Vec<Finding>>, HostError> {
    let addresses: Vec<Sbdf> = asked.iter().map(|(function, _)| *function).collect();
    let functions = Functions::take(host, owners, &addresses, domain)?;
    let examine = |(function, vectors): &(Sbdf, u16)| {
        let picture = Picture::take(host, &functions, *function, domain, *vectors)?;
        let findings = CHECKS.iter().flat_map(|row| {
            let found = (row.ask)(&picture);
            found.into_iter().map(|(severity, message)| Finding { check: row.check, severity, message })
        });
        Ok(findings.collect())
    };
    asked.iter().map(examine).collect()
}
