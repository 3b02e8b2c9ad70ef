//! From a call to the method of the service that answers it.

use std::future::Future;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;
use tokio::task::spawn_local;
use xenpcid_address::Sbdf;

use crate::admission::Rights;
use crate::description::DeviceDescription;
use crate::events::Watcher;
use crate::interface::{
    DeniedReply, DescribeDevice, Description, DeviceReply, DevicesReply, DomainsReply, Examine, FindingsReply,
    FunctionsReply, GetInfo, GetInterfaceDescription, GetPlan, GetStatus, InterruptsReply, ListDenied, ListDevices,
    ListDomains, ListFunctions, ListInterrupts, Method, PlanReply, ServiceInfo, Watch,
};
use crate::message::Call;
use crate::operations::{Apply, Attach, Attached, Claim, Claimed, Detach, Release, Step};
use crate::progress::{Progress, Running};
use crate::refusal::Refusal;
use crate::types::{Device, Domain, Finding, Function, Interrupt, Plan, Status};
use crate::{CONTROL_DESCRIPTION, SERVICE_DESCRIPTION};

/// What the daemon does for whoever calls it. Calls of different connections are in progress at the same time, on one
/// thread.
///
/// The methods with a [`Progress`] each run in a task of their own, to their end even if the caller goes away. They call
/// [`Progress::accept`] when what can be wrong with the call was looked at, so that a caller who does not wait hears of that.
pub trait Service {
    /// What the daemon is.
    fn status(&self) -> impl Future<Output = Result<Status, Refusal>>;

    /// All devices that are declared or were claimed, in ascending order of their addresses, missing ones last.
    fn devices(&self) -> impl Future<Output = Result<Vec<Device>, Refusal>>;

    /// All functions of the host in ascending order of their addresses.
    fn functions(&self) -> impl Future<Output = Result<Vec<Function>, Refusal>>;

    /// All domains but dom0 in ascending order of their numbers.
    fn domains(&self) -> impl Future<Output = Result<Vec<Domain>, Refusal>>;

    /// All interrupt vectors of assigned devices.
    fn interrupts(&self) -> impl Future<Output = Result<Vec<Interrupt>, Refusal>>;

    /// What guests tried and did not get, of one device or of all; [`Refusal::DeviceNotFound`] for one that is neither
    /// declared nor claimed.
    fn denied(&self, device: Option<Sbdf>) -> impl Future<Output = Result<DeniedReply, Refusal>>;

    /// What a guest's view of a device is made from; [`Refusal::DeviceNotFound`] or [`Refusal::DeviceNotClaimed`] if
    /// there is none.
    fn describe(&self, device: Sbdf) -> impl Future<Output = Result<DeviceDescription, Refusal>>;

    /// Every reason why a device could not be attached.
    fn examine(&self, request: Examine) -> impl Future<Output = Result<Vec<Finding>, Refusal>>;

    /// What [`Service::apply`] would do, from the files as they are now.
    fn plan(&self) -> impl Future<Output = Result<Plan, Refusal>>;

    /// Makes true what the files declare now.
    fn apply(&self, request: Apply, progress: Progress) -> impl Future<Output = Result<Plan, Refusal>>;

    /// Gives devices to a domain, all or none.
    fn attach(&self, request: Attach, progress: Progress) -> impl Future<Output = Result<Vec<Attached>, Refusal>>;

    /// Takes devices from a domain.
    fn detach(&self, request: Detach, progress: Progress) -> impl Future<Output = Result<Vec<Sbdf>, Refusal>>;

    /// Takes a device from dom0's driver.
    fn claim(&self, request: Claim, progress: Progress) -> impl Future<Output = Result<Vec<Claimed>, Refusal>>;

    /// Gives a device back to dom0.
    fn release(&self, request: Release, progress: Progress) -> impl Future<Output = Result<Vec<Sbdf>, Refusal>>;

    /// What happens from now on.
    fn watch(&self) -> Watcher;
}

/// The interfaces with their descriptions.
const INTERFACES: &[(&str, &str)] =
    &[("org.varlink.service", SERVICE_DESCRIPTION), ("io.xenpcid.Control", CONTROL_DESCRIPTION)];

/// What a call is answered with.
pub(crate) enum Answer {
    /// One reply.
    Once(Value),
    /// Progress, then the result.
    Operation(Running),
    /// Events without an end.
    Events(Watcher),
}

/// Begins what is called for.
pub(crate) async fn answer<S: Service + 'static>(
    service: &Rc<S>,
    call: Call,
    rights: Rights,
) -> Result<Answer, Refusal> {
    if call.upgrade {
        return Err(Refusal::InvalidParameter { parameter: "upgrade".to_owned() });
    }
    let more = call.more;
    let asked = Asked { parameters: call.parameters, rights };
    match call.method.as_str() {
        GetInfo::NAME => {
            asked.parsed::<GetInfo>()?;
            once::<GetInfo>(ServiceInfo {
                vendor: "xenpcid".to_owned(),
                product: "xenpcid".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                url: env!("CARGO_PKG_HOMEPAGE").to_owned(),
                interfaces: INTERFACES.iter().map(|(name, _)| (*name).to_owned()).collect(),
            })
        }
        GetInterfaceDescription::NAME => {
            let GetInterfaceDescription { interface } = asked.parsed()?;
            match INTERFACES.iter().find(|(name, _)| *name == interface) {
                Some((_, text)) => once::<GetInterfaceDescription>(Description { description: (*text).to_owned() }),
                None => Err(Refusal::InterfaceNotFound { interface }),
            }
        }
        GetStatus::NAME => {
            asked.parsed::<GetStatus>()?;
            once::<GetStatus>(service.status().await?)
        }
        ListDevices::NAME => {
            asked.parsed::<ListDevices>()?;
            once::<ListDevices>(DevicesReply { devices: service.devices().await? })
        }
        ListFunctions::NAME => {
            asked.parsed::<ListFunctions>()?;
            once::<ListFunctions>(FunctionsReply { functions: service.functions().await? })
        }
        ListDomains::NAME => {
            asked.parsed::<ListDomains>()?;
            once::<ListDomains>(DomainsReply { domains: service.domains().await? })
        }
        ListInterrupts::NAME => {
            asked.parsed::<ListInterrupts>()?;
            once::<ListInterrupts>(InterruptsReply { interrupts: service.interrupts().await? })
        }
        ListDenied::NAME => {
            let ListDenied { device } = asked.parsed()?;
            once::<ListDenied>(service.denied(device).await?)
        }
        DescribeDevice::NAME => {
            let DescribeDevice { device } = asked.parsed()?;
            once::<DescribeDevice>(DeviceReply { description: service.describe(device).await? })
        }
        Examine::NAME => once::<Examine>(FindingsReply { findings: service.examine(asked.parsed()?).await? }),
        GetPlan::NAME => {
            asked.parsed::<GetPlan>()?;
            once::<GetPlan>(PlanReply { plan: service.plan().await? })
        }
        Apply::NAME => {
            let apply: Apply = asked.parsed()?;
            let work = |service: Rc<S>, progress| async move { service.apply(apply, progress).await };
            Ok(begin::<Apply, _, _, _>(service, apply.wait, work))
        }
        Attach::NAME => {
            let attach: Attach = asked.parsed()?;
            let waits = attach.wait;
            let work = |service: Rc<S>, progress| async move { service.attach(attach, progress).await };
            Ok(begin::<Attach, _, _, _>(service, waits, work))
        }
        Detach::NAME => {
            let detach: Detach = asked.parsed()?;
            let waits = detach.wait;
            let work = |service: Rc<S>, progress| async move { service.detach(detach, progress).await };
            Ok(begin::<Detach, _, _, _>(service, waits, work))
        }
        Claim::NAME => {
            let claim: Claim = asked.parsed()?;
            let work = |service: Rc<S>, progress| async move { service.claim(claim, progress).await };
            Ok(begin::<Claim, _, _, _>(service, true, work))
        }
        Release::NAME => {
            let release: Release = asked.parsed()?;
            let work = |service: Rc<S>, progress| async move { service.release(release, progress).await };
            Ok(begin::<Release, _, _, _>(service, true, work))
        }
        Watch::NAME => {
            asked.parsed::<Watch>()?;
            if more { Ok(Answer::Events(service.watch())) } else { Err(Refusal::ExpectedMore {}) }
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

/// Begins an operation in a task of its own.
fn begin<M, S, T, F>(service: &Rc<S>, waits: bool, work: impl FnOnce(Rc<S>, Progress) -> F) -> Answer
where
    M: Method<Reply = Step<T>>,
    T: Serialize,
    F: Future<Output = Result<T, Refusal>> + 'static,
{
    let (progress, running) = Running::new(waits);
    let work = work(service.clone(), progress.clone());
    spawn_local(async move {
        let outcome = work.await.and_then(|result| serde_json::to_value(result).map_err(unwritten));
        progress.end(M::NAME, outcome);
    });
    Answer::Operation(running)
}

/// What a caller wants.
struct Asked {
    parameters: Option<Value>,
    rights: Rights,
}

impl Asked {
    /// The parameters, if the caller may call that at all.
    fn parsed<M: Method>(self) -> Result<M, Refusal> {
        if self.rights < M::RIGHTS {
            return Err(Refusal::PermissionDenied {});
        }
        let parameters = self.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        serde_path_to_error::deserialize(parameters).map_err(|error| {
            let path = error.path().to_string();
            // A parameter that is missing has no path, and is only named in the message.
            let message = error.inner().to_string();
            let named = message.split('`').nth(1).filter(|_| path == ".");
            Refusal::InvalidParameter { parameter: named.map_or(path, str::to_owned) }
        })
    }
}

fn once<M: Method>(reply: M::Reply) -> Result<Answer, Refusal> {
    serde_json::to_value(reply).map(Answer::Once).map_err(unwritten)
}

#[expect(clippy::needless_pass_by_value, reason = "how map_err calls it")]
fn unwritten(error: serde_json::Error) -> Refusal {
    Refusal::Failed { reason: error.to_string() }
}
