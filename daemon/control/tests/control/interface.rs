//! The interface file and the Rust types say the same.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use varlink_parser::{IDL, VStruct, VStructOrEnum, VType, VTypeExt};
use xenpcid_control::{
    Action, ActionKind, Apply, AttachDevice, Attached, BusDevice, CONTROL_DESCRIPTION, Claimed, Denied, DeniedReply,
    DescribeDevice, Description, Device, DeviceDescription, DeviceReply, DeviceState, DevicesReply, Domain,
    DomainsReply, Event, EventKind, EventReply, Examine, FailedReset, Finding, FindingsReply, Function, FunctionsReply,
    GetInfo, GetInterfaceDescription, GetPlan, GetStatus, Guest, Interrupt, InterruptKind, InterruptsReply, ListDenied,
    ListDevices, ListDomains, ListFunctions, ListInterrupts, Method, Operation, Options, Outcome, Plan, PlanReply,
    Refusal, Release, ReservedMemory, Reset, ResetReport, Resource, SERVICE_DESCRIPTION, ServiceInfo, Status, Step,
    Watch,
};

use crate::samples;

/// Whether `value` is of the type, with every field that can be there.
fn conforms(value: &Value, expected: &VTypeExt<'_>, idl: &IDL<'_>) -> bool {
    match expected {
        VTypeExt::Option(inner) => conforms(value, inner, idl),
        VTypeExt::Array(inner) => value.as_array().is_some_and(|values| values.iter().all(|v| conforms(v, inner, idl))),
        VTypeExt::Dict(_) => false,
        VTypeExt::Plain(plain) => match plain {
            VType::Bool => value.is_boolean(),
            VType::Int => value.is_u64() || value.is_i64(),
            VType::Float => value.is_f64(),
            VType::String => value.is_string(),
            VType::Object => value.is_object(),
            VType::Struct(fields) => has_fields(value, fields, idl),
            VType::Enum(variants) => value.as_str().is_some_and(|variant| variants.elts.contains(&variant)),
            VType::Typename(name) => match &idl.typedefs[name].elt {
                VStructOrEnum::VStruct(fields) => has_fields(value, fields, idl),
                VStructOrEnum::VEnum(variants) => {
                    value.as_str().is_some_and(|variant| variants.elts.contains(&variant))
                }
            },
        },
    }
}

fn has_fields(value: &Value, fields: &VStruct<'_>, idl: &IDL<'_>) -> bool {
    let Some(object) = value.as_object() else { return false };
    let expected: BTreeSet<&str> = fields.elts.iter().map(|field| field.name).collect();
    let found: BTreeSet<&str> = object.keys().map(String::as_str).collect();
    expected == found && fields.elts.iter().all(|field| conforms(&object[field.name], &field.vtype, idl))
}

/// That a full sample of the Rust type is of the type in the file, and that exactly what is optional there may be null
/// or missing here.
fn agree<T: Serialize + DeserializeOwned>(sample: &T, fields: &VStruct<'_>, idl: &IDL<'_>, name: &str) {
    let value = serde_json::to_value(sample).unwrap();
    assert!(has_fields(&value, fields, idl), "{name}: {value}");
    for field in &fields.elts {
        let is_optional = matches!(field.vtype, VTypeExt::Option(_));
        let mut without = value.clone();
        without.as_object_mut().unwrap().remove(field.name);
        assert_eq!(serde_json::from_value::<T>(without.clone()).is_ok(), is_optional, "{name} without {}", field.name);
        without[field.name] = Value::Null;
        assert_eq!(serde_json::from_value::<T>(without).is_ok(), is_optional, "{name} with {}: null", field.name);
    }
}

fn agree_type<T: Serialize + DeserializeOwned>(sample: &T, idl: &IDL<'_>, name: &str) {
    match &idl.typedefs[name].elt {
        VStructOrEnum::VStruct(fields) => agree(sample, fields, idl, name),
        VStructOrEnum::VEnum(_) => panic!("{name} is an enum"),
    }
}

fn agree_enum<T: Serialize + DeserializeOwned>(all: &[T], idl: &IDL<'_>, name: &str) {
    let VStructOrEnum::VEnum(variants) = &idl.typedefs[name].elt else { panic!("{name} is no enum") };
    let ours: Vec<Value> = all.iter().map(|variant| serde_json::to_value(variant).unwrap()).collect();
    assert_eq!(ours, variants.elts, "{name}");
}

fn agree_method<M: Method>(parameters: &M, reply: &M::Reply, idl: &IDL<'_>) {
    let name = M::NAME.strip_prefix(idl.name).and_then(|name| name.strip_prefix('.')).unwrap();
    let method = &idl.methods[name];
    agree(parameters, &method.input, idl, name);
    agree(reply, &method.output, idl, name);
}

#[test]
fn types_of_the_control_interface_are_the_rust_types() {
    let idl = IDL::try_from(CONTROL_DESCRIPTION).unwrap();
    let attach = samples::attach();
    agree_type::<Guest>(&samples::guest(), &idl, "Guest");
    let device = samples::device();
    agree_type::<Device>(&device, &idl, "Device");
    let reset = device.last_reset.unwrap();
    agree_type::<ResetReport>(&reset, &idl, "ResetReport");
    agree_type::<FailedReset>(&reset.failed[0], &idl, "FailedReset");
    agree_type::<Function>(&samples::function(), &idl, "Function");
    agree_type::<Domain>(&samples::domain(), &idl, "Domain");
    agree_type::<BusDevice>(&samples::domain().bus[0], &idl, "BusDevice");
    agree_type::<Interrupt>(&samples::interrupt(), &idl, "Interrupt");
    agree_type::<Finding>(&samples::finding(), &idl, "Finding");
    agree_type::<Plan>(&samples::plan(), &idl, "Plan");
    agree_type::<Action>(&samples::plan().actions[0], &idl, "Action");
    agree_type::<Event>(&samples::event(), &idl, "Event");
    agree_type::<AttachDevice>(&attach.devices[0], &idl, "AttachDevice");
    agree_type::<Options>(&attach.devices[0].options, &idl, "Options");
    agree_type::<Attached>(&attached(), &idl, "Attached");
    agree_type::<Claimed>(&claimed(), &idl, "Claimed");
    agree_type::<Denied>(&samples::denied(), &idl, "Denied");
    agree_type::<Resource>(&Resource::default(), &idl, "Resource");
    agree_type::<DeviceDescription>(&samples::description(), &idl, "DeviceDescription");
    assert_eq!(idl.typedefs.len(), 19 + 8, "a type was added to the file and not here");
}

#[test]
fn enums_of_the_control_interface_are_the_rust_enums() {
    let idl = IDL::try_from(CONTROL_DESCRIPTION).unwrap();
    let states = {
        use DeviceState::{Assigned, Broken, Claiming, Missing, Quarantined, Unclaimed};
        [Missing, Unclaimed, Claiming, Quarantined, Assigned, Broken]
    };
    let events = {
        use EventKind as E;
        let devices = [E::Found, E::Missing, E::Claimed, E::Released, E::Reset, E::Attached, E::Detached];
        [&devices[..], &[E::Held, E::Resumed, E::Configured, E::Failed, E::Broken, E::Lost]].concat()
    };
    let actions = {
        use ActionKind::{Attach, Claim, Detach, Release, VirtualFunctions};
        [Claim, Release, Attach, Detach, VirtualFunctions]
    };
    agree_enum(&states, &idl, "DeviceState");
    agree_enum(&events, &idl, "EventKind");
    agree_enum(&actions, &idl, "ActionKind");
    agree_enum(&[InterruptKind::Intx, InterruptKind::Msi, InterruptKind::Msix], &idl, "InterruptKind");
    agree_enum(&[ReservedMemory::Strict, ReservedMemory::Relaxed], &idl, "ReservedMemory");
    agree_enum(&[Reset::Required, Reset::BestEffort], &idl, "Reset");
    agree_enum(&[Operation::Read, Operation::Write], &idl, "Operation");
    agree_enum(&[Outcome::Discarded, Outcome::Denied], &idl, "Outcome");
}

fn attached() -> Attached {
    Attached { device: samples::NETWORK, guest_address: "05.0".to_owned() }
}

fn claimed() -> Claimed {
    Claimed { device: samples::NETWORK, name: Some("uplink1".to_owned()), already: true }
}

#[test]
fn methods_of_the_control_interface_are_the_rust_methods() {
    let idl = IDL::try_from(CONTROL_DESCRIPTION).unwrap();
    let status: Status = samples::status();
    agree_method(&GetStatus {}, &status, &idl);
    agree_method(&ListDevices {}, &DevicesReply { devices: vec![samples::device()] }, &idl);
    agree_method(&ListFunctions {}, &FunctionsReply { functions: vec![samples::function()] }, &idl);
    agree_method(&ListDomains {}, &DomainsReply { domains: vec![samples::domain()] }, &idl);
    agree_method(&ListInterrupts {}, &InterruptsReply { interrupts: vec![samples::interrupt()] }, &idl);
    let denied = DeniedReply { denied: vec![samples::denied()], uncounted: 7 };
    agree_method(&ListDenied { device: Some(samples::NETWORK) }, &denied, &idl);
    let description = DeviceReply { description: samples::description() };
    agree_method(&DescribeDevice { device: samples::NETWORK }, &description, &idl);
    let examine = Examine { device: "uplink0".to_owned(), domain: Some("web1".to_owned()) };
    agree_method(&examine, &FindingsReply { findings: vec![samples::finding()] }, &idl);
    agree_method(&GetPlan {}, &PlanReply { plan: samples::plan() }, &idl);
    agree_method(&Watch {}, &EventReply { event: Some(samples::event()) }, &idl);
    agree_method(&Apply { wait: true }, &step(samples::plan()), &idl);
    agree_method(&samples::attach(), &step(vec![attached()]), &idl);
    agree_method(&samples::detach(), &step(vec![samples::NETWORK]), &idl);
    agree_method(&samples::claim(), &step(vec![claimed()]), &idl);
    let release = Release { device: "uplink0".to_owned(), rebind: true };
    agree_method(&release, &step(vec![samples::NETWORK]), &idl);
    assert_eq!(idl.methods.len(), 15, "a method was added to the file and not here");
}

fn step<T>(result: T) -> Step<T> {
    Step { progress: Some("resetting it".to_owned()), result: Some(result) }
}

#[test]
fn methods_of_the_service_interface_are_the_rust_methods() {
    let idl = IDL::try_from(SERVICE_DESCRIPTION).unwrap();
    let text = String::new;
    let info = ServiceInfo { vendor: text(), product: text(), version: text(), url: text(), interfaces: vec![text()] };
    agree_method(&GetInfo {}, &info, &idl);
    agree_method(&GetInterfaceDescription { interface: text() }, &Description { description: text() }, &idl);
    assert_eq!(idl.methods.len(), 2);
}

#[test]
fn errors_of_both_interfaces_are_the_refusals() {
    let text = String::new;
    let refusals = [
        Refusal::InterfaceNotFound { interface: text() },
        Refusal::MethodNotFound { method: text() },
        Refusal::MethodNotImplemented { method: text() },
        Refusal::InvalidParameter { parameter: text() },
        Refusal::PermissionDenied {},
        Refusal::ExpectedMore {},
        Refusal::DomainNotFound { domain: text() },
        Refusal::DomainNotSuitable { domain: text(), reason: text() },
        Refusal::DeviceNotFound { device: text() },
        Refusal::DeviceNotClaimed { device: text() },
        Refusal::NotAssignable { device: text() },
        Refusal::AlreadyAssigned { device: text(), guest: samples::guest() },
        Refusal::NotAttached { device: text(), domain: text() },
        Refusal::Busy { object: text() },
        Refusal::ChecksFailed { device: text(), findings: vec![samples::finding()] },
        Refusal::UnknownKey { key: text(), known: vec![text()] },
        Refusal::GuestTimeout { domain: text(), reason: text() },
        Refusal::ConfigurationInvalid { text: text() },
        Refusal::Failed { reason: text() },
        Refusal::BadMessage { reason: text() },
    ];
    let mut names = BTreeSet::new();
    for description in [SERVICE_DESCRIPTION, CONTROL_DESCRIPTION] {
        let idl = IDL::try_from(description).unwrap();
        for (name, error) in &idl.errors {
            let full = format!("{}.{name}", idl.name);
            let of_that_name = |value: &Value| value["error"] == json!(full);
            let values: Vec<Value> = refusals.iter().map(|refusal| serde_json::to_value(refusal).unwrap()).collect();
            let value = values.iter().find(|value| of_that_name(value)).unwrap_or_else(|| panic!("{full}"));
            assert!(has_fields(&value["parameters"], &error.parm, &idl), "{value}");
            names.insert(full);
        }
    }
    assert_eq!(names.len(), refusals.len());
}
