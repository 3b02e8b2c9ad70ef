//! The methods, each a struct of its parameters.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

use crate::types::{Denied, Device, DeviceDescription, Status};

/// A method of a varlink interface. The type itself holds the parameters.
pub trait Method: Serialize + DeserializeOwned {
    /// Interface and method, with a dot between.
    const NAME: &'static str;
    /// What a reply carries.
    type Reply: Serialize + DeserializeOwned;
}

macro_rules! method {
    ($method:ident, $name:literal, $reply:ty) => {
        impl Method for $method {
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

/// What the service is, and which interfaces it has. Answered with [`ServiceInfo`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}
method!(GetInfo, "org.varlink.service.GetInfo", ServiceInfo);

/// The description of one interface. Answered with [`Description`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInterfaceDescription {
    /// Its name.
    pub interface: String,
}
method!(GetInterfaceDescription, "org.varlink.service.GetInterfaceDescription", Description);

/// What the daemon is. Answered with [`Status`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}
method!(GetStatus, "io.xenpcid.Control.GetStatus", Status);

/// All declared devices. Answered with [`DevicesReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDevices {}
method!(ListDevices, "io.xenpcid.Control.ListDevices", DevicesReply);

/// What guests tried and did not get. Answered with [`DeniedReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDenied {
    /// Only of this device.
    pub device: Option<Sbdf>,
}
method!(ListDenied, "io.xenpcid.Control.ListDenied", DeniedReply);

/// What a guest's view of a claimed device is made from. Answered with [`DeviceReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeDevice {
    /// Which device.
    pub device: Sbdf,
}
method!(DescribeDevice, "io.xenpcid.Control.DescribeDevice", DeviceReply);

/// What a varlink service tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Where to read more.
    pub url: String,
    /// Its interfaces.
    pub interfaces: Vec<String>,
}

/// An interface in varlink's own language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The text.
    pub description: String,
}

/// Answer to [`ListDevices`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicesReply {
    /// In ascending order of their addresses.
    pub devices: Vec<Device>,
}

/// Answer to [`ListDenied`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedReply {
    /// In ascending order of device, guest and offset.
    pub denied: Vec<Denied>,
    /// Accesses to further registers, which found the table of a device full.
    pub uncounted: u64,
}

/// Answer to [`DescribeDevice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReply {
    /// The description.
    pub description: DeviceDescription,
}
