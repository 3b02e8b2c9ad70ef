//! The same for programs.

use serde::Serialize;
use xenpcid_address::Sbdf;
use xenpcid_policy::policy::Origin;
use xenpcid_policy::{ExplainedBits, ExplainedCapability, ExplainedRegister, Shown};

use super::Explanation;
use crate::failure::Failure;

#[derive(Serialize)]
struct Document<'e> {
    device: Option<Sbdf>,
    name: Option<&'e str>,
    vendor: u16,
    device_id: u16,
    class: u32,
    revision: u8,
    policy: &'e str,
    source: String,
    vectors: u16,
    otherwise: Actions<'e>,
    capabilities: Vec<Capability>,
    registers: Vec<Register<'e>>,
}

#[derive(Serialize)]
struct Actions<'e> {
    read: String,
    write: String,
    why: &'e str,
    origin: Option<Place<'e>>,
}

#[derive(Serialize)]
struct Place<'e> {
    policy: &'e str,
    line: usize,
}

#[derive(Serialize)]
struct Capability {
    name: String,
    title: String,
    offset: u16,
    length: u16,
    hidden: bool,
    why: Option<String>,
}

#[derive(Serialize)]
struct Register<'e> {
    offset: u16,
    width: u16,
    name: &'e str,
    capability: Option<String>,
    spec: Option<&'static str>,
    device_value: u32,
    guest_value: u32,
    bits: Vec<Bits<'e>>,
}

#[derive(Serialize)]
struct Bits<'e> {
    mask: u32,
    name: &'static str,
    #[serde(flatten)]
    actions: Actions<'e>,
    hidden: bool,
    /// What a guest finds in bits that no policy gives away.
    guarded: Option<Guarded>,
}

#[derive(Serialize)]
struct Guarded {
    shown: &'static str,
    why: &'static str,
}

pub fn render(explanation: &Explanation) -> Result<String, Failure> {
    let identity = explanation.subject.identity();
    let otherwise = explanation.plan.otherwise();
    let registers = explanation.plan.explain();
    let document = Document {
        device: explanation.subject.address,
        name: explanation.subject.name.as_deref(),
        vendor: identity.vendor,
        device_id: identity.device,
        class: identity.class,
        revision: identity.revision,
        policy: &explanation.policy.name,
        source: explanation.subject.source.to_string(),
        vectors: explanation.subject.vectors,
        otherwise: Actions {
            read: otherwise.read.to_string(),
            write: otherwise.write.to_string(),
            why: &otherwise.why,
            origin: otherwise.origin.as_ref().map(Place::from),
        },
        capabilities: explanation.plan.explain_capabilities().map(Capability::from).collect(),
        registers: registers.iter().map(Register::from).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

impl<'e> From<&'e Origin> for Place<'e> {
    fn from(origin: &'e Origin) -> Self {
        Self { policy: &origin.policy, line: origin.line }
    }
}

impl From<ExplainedCapability> for Capability {
    fn from(capability: ExplainedCapability) -> Self {
        Self {
            name: capability.id.to_string(),
            title: capability.title.into_owned(),
            offset: capability.extent.start,
            length: capability.extent.end.saturating_sub(capability.extent.start),
            hidden: capability.hidden.is_some(),
            why: capability.hidden.map(|treatment| treatment.why.to_string()),
        }
    }
}

impl<'e> From<&'e ExplainedRegister> for Register<'e> {
    fn from(register: &'e ExplainedRegister) -> Self {
        Self {
            offset: register.access.offset(),
            width: register.access.width().bytes(),
            name: &register.name,
            capability: register.capability.map(|id| id.to_string()),
            spec: register.spec,
            device_value: register.claimed,
            guest_value: register.shown,
            bits: register.bits.iter().map(Bits::from).collect(),
        }
    }
}

impl<'e> From<&'e ExplainedBits> for Bits<'e> {
    fn from(bits: &'e ExplainedBits) -> Self {
        Self {
            mask: bits.mask,
            name: bits.name,
            actions: Actions {
                read: bits.read.to_string(),
                write: bits.write.to_string(),
                why: &bits.why,
                origin: bits.origin.as_ref().map(Place::from),
            },
            hidden: bits.is_hidden,
            guarded: bits.guarded.map(|(shown, why)| Guarded { shown: self::shown(shown), why }),
        }
    }
}

fn shown(shown: Shown) -> &'static str {
    match shown {
        Shown::Hardware => "hardware",
        Shown::Zero => "zero",
        Shown::Trigger => "trigger",
        Shown::Claimed => "claimed",
        Shown::Listed => "listed",
        Shown::Kept(_) => "kept",
        Shown::Vendor => "vendor",
        Shown::Device => "device",
        Shown::InterruptLine => "interrupt_line",
        Shown::InterruptPin => "interrupt_pin",
        Shown::MsixTableSize => "msix_table_size",
        Shown::Enabled(_) => "enabled",
        Shown::PowerState => "power_state",
        Shown::BaseAddress(_) => "base_address",
        Shown::FunctionReset { .. } => "function_reset",
    }
}
