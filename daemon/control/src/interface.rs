//! The methods that tell something, each a struct of its parameters.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

use crate::admission::Rights;
use crate::denied::Denied;
use crate::description::DeviceDescription;
use crate::events::Event;
use crate::types::{Device, Domain, Finding, Function, Interrupt, Plan, Status};

/// A method of a varlink interface. The type itself holds the parameters.
pub trait Method: Serialize + DeserializeOwned {
    /// Interface and method, with a dot between.
    const NAME: &'static str;
    /// What a caller must be allowed to.
    const RIGHTS: Rights;
    /// What a reply carries.
    type Reply: Serialize + DeserializeOwned;
}

macro_rules! method {
    ($method:ident, $name:literal, $reply:ty, $rights:ident) => {
        impl $crate::interface::Method for $method {
            const NAME: &'static str = $name;
            const RIGHTS: $crate::admission::Rights = $crate::admission::Rights::$rights;
            type Reply = $reply;
        }
    };
}
pub(crate) use method;

/// What the service is, and which interfaces it has. Answered with [`ServiceInfo`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}
method!(GetInfo, "org.varlink.service.GetInfo", ServiceInfo, Reads);

/// The description of one interface. Answered with [`Description`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInterfaceDescription {
    /// Its name.
    pub interface: String,
}
method!(GetInterfaceDescription, "org.varlink.service.GetInterfaceDescription", Description, Reads);

/// What the daemon is. Answered with [`Status`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}
method!(GetStatus, "io.xenpcid.Control.GetStatus", Status, Reads);

/// All devices that are declared or were claimed. Answered with [`DevicesReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDevices {}
method!(ListDevices, "io.xenpcid.Control.ListDevices", DevicesReply, Reads);

/// All functions of the host. Answered with [`FunctionsReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFunctions {}
method!(ListFunctions, "io.xenpcid.Control.ListFunctions", FunctionsReply, Reads);

/// All domains but dom0. Answered with [`DomainsReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDomains {}
method!(ListDomains, "io.xenpcid.Control.ListDomains", DomainsReply, Reads);

/// All interrupt vectors of assigned devices. Answered with [`InterruptsReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListInterrupts {}
method!(ListInterrupts, "io.xenpcid.Control.ListInterrupts", InterruptsReply, Reads);

/// Why a device could not be attached. Answered with [`FindingsReply`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examine {
    /// Address or name.
    pub device: String,
    /// To which domain; `None` for any.
    pub domain: Option<String>,
}
method!(Examine, "io.xenpcid.Control.Examine", FindingsReply, Reads);

/// What [`Apply`](crate::Apply) would do. Answered with [`PlanReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetPlan {}
method!(GetPlan, "io.xenpcid.Control.GetPlan", PlanReply, Reads);

/// What happens from now on; to be called with [`Client::call_more`](crate::Client::call_more). Answered with
/// [`EventReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}
method!(Watch, "io.xenpcid.Control.Watch", EventReply, Reads);

/// What guests tried and did not get. Answered with [`DeniedReply`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListDenied {
    /// Only of this device.
    pub device: Option<Sbdf>,
}
method!(ListDenied, "io.xenpcid.Control.ListDenied", DeniedReply, Reads);

/// What a guest's view of a claimed device is made from. Answered with [`DeviceReply`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeDevice {
    /// Which device.
    pub device: Sbdf,
}
method!(DescribeDevice, "io.xenpcid.Control.DescribeDevice", DeviceReply, Changes);

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
    /// In ascending order of their addresses; missing ones are last.
    pub devices: Vec<Device>,
}

/// Answer to [`ListFunctions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionsReply {
    /// In ascending order of their addresses.
    pub functions: Vec<Function>,
}

/// Answer to [`ListDomains`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainsReply {
    /// In ascending order of their numbers.
    pub domains: Vec<Domain>,
}

/// Answer to [`ListInterrupts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptsReply {
    /// In ascending order of device and entry.
    pub interrupts: Vec<Interrupt>,
}

/// Answer to [`Examine`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingsReply {
    /// Every reason, not only the first.
    pub findings: Vec<Finding>,
}

/// Answer to [`GetPlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReply {
    /// The plan.
    pub plan: Plan,
}

/// Answer to [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReply {
    /// What happened; `None` in the first reply, which says that the watch has begun.
    pub event: Option<Event>,
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
