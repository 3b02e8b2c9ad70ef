//! What a plan does, for people: register by register, and why.

use std::borrow::Cow;
use std::ops::Range;

use crate::access::Access;
use crate::plan::{Bit, Placed, Plan, Treatment};
use crate::policy::{Origin, ReadAction, WriteAction};
use crate::register::{Field, Kind, Shown};
use crate::registers::{self, AnyCapabilityId};

/// A register of one device, under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRegister {
    /// Where it is.
    pub access: Access,
    /// Its name; of bytes that only a rule names, the capability and the offset in it, or the offset in the space.
    pub name: Cow<'static, str>,
    /// The capability that it is in; `None` for the header and for what is in none.
    pub capability: Option<AnyCapabilityId>,
    /// Where it is specified, if the tables have it.
    pub spec: Option<&'static str>,
    /// What the device had there at the time of the claim.
    pub claimed: u32,
    /// What a new guest reads there, while the device has that.
    pub shown: u32,
    /// Its bits, grouped by what becomes of them, lowest first.
    pub bits: Vec<ExplainedBits>,
}

/// Bits of a register of which the same is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedBits {
    /// Which, in the register.
    pub mask: u32,
    /// What the specification calls them; empty if it is the whole register, or not known.
    pub name: &'static str,
    /// Reads.
    pub read: ReadAction,
    /// Writes.
    pub write: WriteAction,
    /// For guarded bits: what a guest finds there, and why none may write them in hardware.
    pub guarded: Option<(Shown, &'static str)>,
    /// Why it is so.
    pub why: std::sync::Arc<str>,
    /// The rule that says so; `None` for guarded bits that no rule names, and where no policy says anything.
    pub origin: Option<Origin>,
    /// Whether they belong to a capability that is hidden.
    pub is_hidden: bool,
}

/// A capability of one device, under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedCapability {
    /// What it is.
    pub id: AnyCapabilityId,
    /// Its title, for a heading.
    pub title: Cow<'static, str>,
    /// Its bytes, as far as they are known to be its own.
    pub extent: Range<u16>,
    /// Why the guest does not find it, if it does not.
    pub hidden: Option<Treatment>,
}

impl Plan {
    /// Every register that the tables or a rule name, by offset. Bytes that are in none of them are treated as
    /// [`Plan::otherwise`] says.
    #[must_use]
    pub fn explain(&self) -> Vec<ExplainedRegister> {
        self.registers.iter().map(|placed| self.explain_register(placed)).collect()
    }

    /// The capabilities of the device, the conventional list first, each in the order of its list.
    pub fn explain_capabilities(&self) -> impl Iterator<Item = ExplainedCapability> {
        self.extents.iter().map(|(id, extent)| {
            let index = self.hidden.iter().find(|(hidden, _)| hidden == id).map(|(_, treatment)| treatment.clone());
            ExplainedCapability { id: *id, title: title(*id), extent: extent.clone(), hidden: index }
        })
    }

    /// What becomes of bits that neither the tables nor a rule name.
    #[must_use]
    pub fn otherwise(&self) -> &Treatment {
        &self.otherwise
    }

    /// The register that a byte belongs to.
    #[must_use]
    pub fn register_at(&self, offset: u16) -> Option<ExplainedRegister> {
        let is_inside = |placed: &&Placed| (placed.offset..placed.end()).contains(&offset);
        self.registers.iter().find(is_inside).map(|placed| self.explain_register(placed))
    }

    fn explain_register(&self, placed: &Placed) -> ExplainedRegister {
        let Placed { offset, width, capability, register, .. } = *placed;
        let mut groups: Vec<(Bit, ExplainedBits)> = Vec::new();
        for (n, bit) in (0_u32..).zip(self.bits_at(offset, width)) {
            let mask = 1_u32.wrapping_shl(n);
            let is_same = |of: &Bit| of.treatment == bit.treatment && of.field == bit.field;
            match groups.iter_mut().find(|(of, _)| is_same(of)) {
                Some((_, group)) => group.mask |= mask,
                None => groups.push((*bit, self.explain_bits(mask, bit))),
            }
        }
        let claimed = self.claimed_at(offset) & width.mask();
        let bits: Vec<ExplainedBits> = groups.into_iter().map(|(_, group)| group).collect();
        let shown = bits.iter().fold(0, |shown, group| {
            let from = match group.read {
                ReadAction::Pass => claimed,
                ReadAction::Emulate => self.initial_at(offset),
                ReadAction::Deny => 0,
            };
            shown | from & group.mask
        });
        let (name, spec) = match register {
            Some(register) => (Cow::Borrowed(register.name), Some(register.spec)),
            None => (self.made_up_name(placed), None),
        };
        ExplainedRegister { access: Access::within(offset, 0, width), name, capability, spec, claimed, shown, bits }
    }

    fn explain_bits(&self, mask: u32, bit: &Bit) -> ExplainedBits {
        let treatment = self.treatment_of(bit);
        let guarded = bit.field.and_then(|Field { kind, .. }| match kind {
            Kind::Guarded { shown, why } => Some((*shown, *why)),
            _ => None,
        });
        ExplainedBits {
            mask,
            name: bit.field.map_or("", |field| field.name),
            read: treatment.read,
            write: treatment.write,
            guarded,
            why: treatment.why.clone(),
            origin: treatment.origin.clone(),
            is_hidden: treatment.hides,
        }
    }

    fn made_up_name(&self, placed: &Placed) -> Cow<'static, str> {
        let Placed { offset, capability, .. } = *placed;
        let start = capability.and_then(|id| self.capabilities.starts(id).filter(|start| *start <= offset).max());
        match (capability, start) {
            (Some(id), Some(start)) if start == offset => id.to_string().into(),
            (Some(id), Some(start)) => format!("{id}+{:#04x}", offset.saturating_sub(start)).into(),
            _ => format!("{offset:#05x}").into(),
        }
    }
}

impl Placed {
    fn end(&self) -> u16 {
        self.offset.saturating_add(self.length)
    }
}

/// Title of a capability, for a heading.
fn title(capability: AnyCapabilityId) -> Cow<'static, str> {
    match registers::capability(capability) {
        Some(kind) => Cow::Borrowed(kind.title),
        None => format!("capability {capability}").into(),
    }
}
