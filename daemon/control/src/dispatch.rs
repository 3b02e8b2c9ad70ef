//! From a call to the method of the service that answers it.

use std::future::Future;

use serde_json::Value;
use xenpcid_address::Sbdf;

use crate::interface::{
    DeniedReply, DescribeDevice, Description, DeviceReply, DevicesReply, GetInfo, GetInterfaceDescription, GetStatus,
    ListDenied, ListDevices, Method, ServiceInfo,
};
use crate::message::{Call, Reply, frame};
use crate::refusal::Refusal;
use crate::types::{Device, DeviceDescription, Status};
use crate::{CONTROL_DESCRIPTION, SERVICE_DESCRIPTION};

/// What the daemon does for whoever calls it. Calls of different connections are in progress at the same time, on one
/// thread.
pub trait Service {
    /// What the daemon is.
    fn status(&self) -> impl Future<Output = Result<Status, Refusal>>;

    /// All declared devices in ascending order of their addresses.
    fn devices(&self) -> impl Future<Output = Result<Vec<Device>, Refusal>>;

    /// What guests tried and did not get, of one device or of all; [`Refusal::DeviceNotFound`] for one that is not
    /// declared.
    fn denied(&self, device: Option<Sbdf>) -> impl Future<Output = Result<DeniedReply, Refusal>>;

    /// What a guest's view of a device is made from; [`Refusal::DeviceNotFound`] or [`Refusal::DeviceNotClaimed`] if
    /// there is none.
    fn describe(&self, device: Sbdf) -> impl Future<Output = Result<DeviceDescription, Refusal>>;
}

/// The interfaces with their descriptions.
const INTERFACES: &[(&str, &str)] =
    &[("org.varlink.service", SERVICE_DESCRIPTION), ("io.xenpcid.Control", CONTROL_DESCRIPTION)];

/// The reply to a call, as it goes over the socket.
pub(crate) async fn reply(service: &impl Service, call: Call) -> serde_json::Result<Vec<u8>> {
    match answer(service, call).await {
        Ok(parameters) => frame(&Reply { parameters: Some(parameters), ..Reply::default() }),
        // Written out, a refusal is a reply.
        Err(refusal) => frame(&refusal),
    }
}

async fn answer(service: &impl Service, call: Call) -> Result<Value, Refusal> {
    if call.upgrade {
        return Err(Refusal::InvalidParameter { parameter: "upgrade".to_owned() });
    }
    let parameters = call.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    match call.method.as_str() {
        GetInfo::NAME => {
            parsed::<GetInfo>(parameters)?;
            result::<GetInfo>(ServiceInfo {
                vendor: "xenpcid".to_owned(),
                product: "xenpcid".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                url: env!("CARGO_PKG_HOMEPAGE").to_owned(),
                interfaces: INTERFACES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            })
        }
        GetInterfaceDescription::NAME => {
            let GetInterfaceDescription { interface } = parsed(parameters)?;
            match INTERFACES.iter().find(|(name, _)| *name == interface) {
                Some((_, text)) => result::<GetInterfaceDescription>(Description { description: (*text).to_owned() }),
                None => Err(Refusal::InterfaceNotFound { interface }),
            }
        }
        GetStatus::NAME => {
            parsed::<GetStatus>(parameters)?;
            result::<GetStatus>(service.status().await?)
        }
        ListDevices::NAME => {
            parsed::<ListDevices>(parameters)?;
            result::<ListDevices>(DevicesReply { devices: service.devices().await? })
        }
        ListDenied::NAME => {
            let ListDenied { device } = parsed(parameters)?;
            result::<ListDenied>(service.denied(device).await?)
        }
        DescribeDevice::NAME => {
            let DescribeDevice { device } = parsed(parameters)?;
            result::<DescribeDevice>(DeviceReply { description: service.describe(device).await? })
        }
        _ => Err(no_method(call.method)),
    }
}

fn no_method(method: String) -> Refusal {
    let interface = method.rsplit_once('.').map_or("", |(interface, _)| interface);
    if INTERFACES.iter().any(|(name, _)| *name == interface) {
        Refusal::MethodNotFound { method }
    } else {
        Refusal::InterfaceNotFound { interface: interface.to_owned() }
    }
}

fn parsed<M: Method>(parameters: Value) -> Result<M, Refusal> {
    serde_path_to_error::deserialize(parameters).map_err(|error| {
        let path = error.path().to_string();
        // A parameter that is missing has no path, and is only named in the message.
        let message = error.inner().to_string();
        let named = message.split('`').nth(1).filter(|_| path == ".");
        Refusal::InvalidParameter { parameter: named.map_or(path, str::to_owned) }
    })
}

fn result<M: Method>(reply: M::Reply) -> Result<Value, Refusal> {
    serde_json::to_value(reply).map_err(|error| Refusal::Failed { reason: error.to_string() })
}
