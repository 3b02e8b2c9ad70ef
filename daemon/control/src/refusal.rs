use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

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
    /// The device is not declared.
    #[error(
        "{device} is not declared: add it to the devices of a domain in the configuration (`xenpcid --help` says where that is)"
    )]
    #[serde(rename = "io.xenpcid.Control.DeviceNotFound")]
    DeviceNotFound {
        /// The device.
        device: Sbdf,
    },
    /// The device is declared and has not been claimed.
    #[error("{device} is declared, but has not been claimed; the log of xenpcid says why (`journalctl -u xenpcid`)")]
    #[serde(rename = "io.xenpcid.Control.DeviceNotClaimed")]
    DeviceNotClaimed {
        /// The device.
        device: Sbdf,
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
