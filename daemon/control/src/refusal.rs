use serde::{Deserialize, Serialize};

use crate::types::{Finding, Guest};

/// An error as it goes over the socket: what a call is refused with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum Refusal {
    /// There is no such interface.
    #[error("it has no interface {interface}; do xenpci and xenpcid have the same version?")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// As it was called.
        interface: String,
    },
    /// There is no such method.
    #[error("it has no method {method}; do xenpci and xenpcid have the same version?")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// As it was called.
        method: String,
    },
    /// The interface has the method, this service does not.
    #[error("it does not implement {method}; do xenpci and xenpcid have the same version?")]
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented {
        /// As it was called.
        method: String,
    },
    /// A parameter is missing, unknown, or not of its type.
    #[error("it does not take the parameter {parameter}; do xenpci and xenpcid have the same version?")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// Its name.
        parameter: String,
    },
    /// The caller may not do that.
    #[error("it does not take commands from this user; run as root")]
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied {},
    /// The method gives several replies.
    #[error("the method gives several replies and has to be called with \"more\"")]
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
    /// There is no such domain.
    #[error("there is no domain {domain}: see `xl list`")]
    #[serde(rename = "io.xenpcid.Control.DomainNotFound")]
    DomainNotFound {
        /// As it was called.
        domain: String,
    },
    /// The domain cannot have devices.
    #[error("domain {domain} cannot have devices: {reason}")]
    #[serde(rename = "io.xenpcid.Control.DomainNotSuitable")]
    DomainNotSuitable {
        /// Its name.
        domain: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Nothing has that address or name.
    #[error("{device} is neither declared nor claimed: `xenpci status` lists what is, `xenpci tree` all of the host")]
    #[serde(rename = "io.xenpcid.Control.DeviceNotFound")]
    DeviceNotFound {
        /// As it was called.
        device: String,
    },
    /// The device is declared and has not been claimed.
    #[error("{device} is declared, but has not been claimed: `xenpci status` says why")]
    #[serde(rename = "io.xenpcid.Control.DeviceNotClaimed")]
    DeviceNotClaimed {
        /// The device.
        device: String,
    },
    /// The device is dom0's.
    #[error("{device} is dom0's: claim it first (`xenpci claim {device}`), or attach it with --seize")]
    #[serde(rename = "io.xenpcid.Control.NotAssignable")]
    NotAssignable {
        /// The device.
        device: String,
    },
    /// A guest has the device already.
    #[error(
        "{device} is assigned to {} ({}) already: detach it there first (`xenpci detach {} {device}`)",
        .guest.name, .guest.id, .guest.id
    )]
    #[serde(rename = "io.xenpcid.Control.AlreadyAssigned")]
    AlreadyAssigned {
        /// The device.
        device: String,
        /// Who has it.
        guest: Guest,
    },
    /// The domain does not have the device.
    #[error("domain {domain} does not have {device}: `xenpci status` says who has what")]
    #[serde(rename = "io.xenpcid.Control.NotAttached")]
    NotAttached {
        /// As it was called.
        device: String,
        /// As it was called.
        domain: String,
    },
    /// Something else is being done with the device or domain.
    #[error("{object} is busy with another operation: try again when that has ended (`xenpci watch` shows it)")]
    #[serde(rename = "io.xenpcid.Control.Busy")]
    Busy {
        /// The device or domain.
        object: String,
    },
    /// Safety checks failed.
    #[error("{device} cannot be had: {}", messages(.findings))]
    #[serde(rename = "io.xenpcid.Control.ChecksFailed")]
    ChecksFailed {
        /// The device.
        device: String,
        /// Every reason that is not allowed.
        findings: Vec<Finding>,
    },
    /// There is no safety check with such a key.
    #[error("no safety check has the key {key}; there are {}", .known.join(", "))]
    #[serde(rename = "io.xenpcid.Control.UnknownKey")]
    UnknownKey {
        /// As it was called.
        key: String,
        /// All that there are.
        known: Vec<String>,
    },
    /// The guest did not do its part in time. Nothing has changed.
    #[error("domain {domain} did not answer in time: {reason}")]
    #[serde(rename = "io.xenpcid.Control.GuestTimeout")]
    GuestTimeout {
        /// Its name.
        domain: String,
        /// What it did not do, and what to do.
        reason: String,
    },
    /// The configuration is wrong. Nothing has changed.
    #[error("the configuration is wrong, and nothing was changed: {text}")]
    #[serde(rename = "io.xenpcid.Control.ConfigurationInvalid")]
    ConfigurationInvalid {
        /// What is wrong, and where.
        text: String,
    },
    /// It was tried and did not work.
    #[error("{reason}")]
    #[serde(rename = "io.xenpcid.Control.Failed")]
    Failed {
        /// Why.
        reason: String,
    },
    /// What came over the connection is no varlink message.
    #[error("it did not understand the message: {reason}")]
    #[serde(rename = "io.xenpcid.Control.BadMessage")]
    BadMessage {
        /// Why.
        reason: String,
    },
}

fn messages(findings: &[Finding]) -> String {
    findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ")
}
