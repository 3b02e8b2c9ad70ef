//! A policy applied to one device: for each bit of its configuration space, what becomes of accesses, and why.
//!
//! ```text
//!  Snapshot ──► registers, placed ──┐
//!                                   ├──► guarded bits ──► layer by layer: rules ──► hidden capabilities ──► Plan
//!  Policy ──────────────────────────┘                                                                       │
//!                                                     ConfigView (compile.rs) ◄─────────────────────────────┤
//!                                                     explanations (explain.rs) ◄───────────────────────────┘
//! ```

mod place;
mod rules;
mod terms;

use std::ops::Range;

pub use terms::{CompileError, Terms, Treatment};

use crate::access::{ConfigSize, Width};
use crate::bar::{BaseAddress, BaseAddresses};
use crate::capability::Capabilities;
use crate::chain;
use crate::policy::{DeviceIdentity, Policy, ReadAction, WriteAction};
use crate::register::{Field, Register};
use crate::registers::AnyCapabilityId;
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;

/// A register at its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) offset: u16,
    pub(crate) width: Width,
    /// Its bytes: those of its width, or all of a hidden capability.
    pub(crate) length: u16,
    pub(crate) capability: Option<AnyCapabilityId>,
    /// `None` for bytes that only a rule names.
    pub(crate) register: Option<&'static Register>,
}

/// One bit of the space.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bit {
    /// What the tables know of it.
    pub(crate) field: Option<&'static Field>,
    /// Index of its treatment.
    pub(crate) treatment: u16,
}

/// A policy applied to one device.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) size: ConfigSize,
    pub(crate) base_addresses: BaseAddresses,
    pub(crate) capabilities: Capabilities,
    /// The capabilities and their bytes, in the order of the lists.
    pub(crate) extents: Vec<(AnyCapabilityId, Range<u16>)>,
    /// Kinds of capabilities that the policy hides.
    pub(crate) hidden: Vec<(AnyCapabilityId, Treatment)>,
    pub(crate) otherwise: Treatment,
    pub(crate) vectors: u16,
    /// In ascending order of offset.
    pub(crate) registers: Vec<Placed>,
    pub(crate) treatments: Vec<Treatment>,
    /// Eight for each byte.
    pub(crate) bits: Vec<Bit>,
    /// The space as the device showed it, without the capabilities that are hidden.
    listed: Vec<u8>,
    /// What emulated bits read at first.
    pub(crate) initial: Vec<u8>,
    /// The space as the device showed it.
    pub(crate) claimed: Vec<u8>,
}

const HEADER_TYPE: u16 = 0x0e;
const MULTI_FUNCTION: u8 = 0x80;
/// Treatment of bits that nothing is said of.
const OTHERWISE: u16 = 0;

impl Plan {
    /// Applies `terms` to a function.
    ///
    /// # Errors
    /// [`CompileError::Unsupported`] for anything but an endpoint, and for a configuration space that contradicts itself;
    /// the others for a policy that does not fit the device.
    pub fn new(snapshot: &Snapshot, terms: &Terms<'_>) -> Result<Self, CompileError> {
        let size = snapshot.size()?;
        let header_type = snapshot.byte(HEADER_TYPE) & !MULTI_FUNCTION;
        if header_type != 0 {
            return Err(Unsupported::HeaderType { header_type }.into());
        }
        let capabilities = snapshot.capabilities()?;
        let device = DeviceIdentity::new(snapshot, terms.name);
        let policy = terms.policy;
        if !policy.applies_to.matches(&device) {
            let DeviceIdentity { vendor, device, class, .. } = device;
            return Err(CompileError::NotForDevice { policy: policy.name.clone(), vendor, device, class });
        }
        let hidden = hidden_capabilities(policy);
        let otherwise = otherwise(policy);
        let bit = Bit { field: None, treatment: OTHERWISE };
        let listed = chain::without(snapshot, &capabilities, |id| hidden.iter().any(|(hidden, _)| *hidden == id));
        let vectors = capabilities.msix.map_or(0, |msix| msix.visible_table_size().min(terms.vectors.max(1)));
        let mut plan = Self {
            size,
            base_addresses: BaseAddress::from_resources(&snapshot.resources)?,
            extents: chain::all_extents(&capabilities, snapshot),
            vectors,
            registers: Vec::new(),
            treatments: vec![otherwise.clone()],
            otherwise,
            bits: vec![bit; snapshot.config.len().saturating_mul(8)],
            initial: listed.clone(),
            listed,
            claimed: snapshot.config.clone(),
            capabilities,
            hidden,
        };
        plan.place_registers(snapshot)?;
        for layer in &policy.layers {
            plan.apply_rules(layer, &device, snapshot)?;
        }
        plan.hide();
        plan.registers.sort_by_key(|placed| placed.offset);
        Ok(plan)
    }

    /// Whether the guest finds this kind of capability, if the device has it.
    #[must_use]
    pub fn shows(&self, capability: AnyCapabilityId) -> bool {
        !self.hidden.iter().any(|(hidden, _)| *hidden == capability)
    }

    /// Takes hidden capabilities out of everything but the list, which does not lead to them.
    fn hide(&mut self) {
        for (capability, treatment) in self.hidden.clone() {
            let index = self.treatment(treatment);
            for (_, range) in self.extents.clone().into_iter().filter(|(id, _)| *id == capability) {
                self.registers.retain(|placed| !range.contains(&placed.offset));
                let first = usize::from(range.start) << 3;
                let end = usize::from(range.end) << 3;
                for bit in self.bits.iter_mut().take(end).skip(first) {
                    *bit = Bit { field: None, treatment: index };
                }
                let shown = self.initial.iter_mut().zip(&self.listed).skip(usize::from(range.start)).take(range.len());
                shown.for_each(|(initial, listed)| *initial = *listed);
                self.registers.push(Placed {
                    offset: range.start,
                    width: Width::Dword,
                    length: range.end.saturating_sub(range.start),
                    capability: Some(capability),
                    register: None,
                });
            }
        }
    }

    pub(crate) fn treatment_of(&self, bit: &Bit) -> &Treatment {
        self.treatments.get(usize::from(bit.treatment)).unwrap_or(&self.otherwise)
    }

    fn treatment(&mut self, treatment: Treatment) -> u16 {
        let index = u16::try_from(self.treatments.len()).unwrap_or(OTHERWISE);
        self.treatments.push(treatment);
        index
    }

    /// The bits of a register, lowest first.
    pub(crate) fn bits_at(&self, offset: u16, width: Width) -> impl Iterator<Item = &Bit> {
        self.bits.iter().skip(usize::from(offset) << 3).take(usize::from(width.bytes()) << 3)
    }

    fn set_bits(&mut self, offset: u16, mask: u32, set: impl Fn(&mut Bit)) {
        let from = self.bits.iter_mut().skip(usize::from(offset) << 3);
        for (_, bit) in (0..32_u32).zip(from).filter(|(n, _)| mask >> n & 1 != 0) {
            set(bit);
        }
    }

    fn set_initial(&mut self, offset: u16, mask: u32, value: u32) {
        let bytes = self.initial.iter_mut().skip(usize::from(offset));
        for ((byte, mask), value) in bytes.zip(mask.to_le_bytes()).zip(value.to_le_bytes()) {
            *byte = *byte & !mask | value & mask;
        }
    }

    /// What the four bytes at `offset` read at first, where they are emulated.
    pub(crate) fn initial_at(&self, offset: u16) -> u32 {
        dword_at(&self.initial, offset)
    }

    /// What the device had in the four bytes at `offset` at the time of the claim.
    pub(crate) fn claimed_at(&self, offset: u16) -> u32 {
        dword_at(&self.claimed, offset)
    }
}

/// The four bytes at `offset`; 0 for those beyond the end.
fn dword_at(space: &[u8], offset: u16) -> u32 {
    let mut bytes = [0; 4];
    for (byte, value) in bytes.iter_mut().zip(space.iter().skip(usize::from(offset))) {
        *byte = *value;
    }
    u32::from_le_bytes(bytes)
}

fn otherwise(policy: &Policy) -> Treatment {
    match policy.layers.iter().rev().find_map(|layer| layer.otherwise.as_ref()) {
        Some(otherwise) => Treatment {
            read: otherwise.read,
            write: otherwise.write,
            undo: None,
            why: otherwise.why.clone(),
            origin: Some(otherwise.origin.clone()),
            hides: false,
        },
        None => Treatment {
            read: ReadAction::Pass,
            write: WriteAction::Discard,
            undo: None,
            why: "no rule lets a guest write here".into(),
            origin: None,
            hides: false,
        },
    }
}

/// The capabilities that the policy hides, each by its topmost layer that mentions it.
fn hidden_capabilities(policy: &Policy) -> Vec<(AnyCapabilityId, Treatment)> {
    let mut seen = Vec::new();
    let mut hidden = Vec::new();
    for visibility in policy.layers.iter().rev().flat_map(|layer| &layer.visibility) {
        if seen.contains(&visibility.capability) {
            continue;
        }
        seen.push(visibility.capability);
        if visibility.hidden {
            let treatment = Treatment {
                read: ReadAction::Emulate,
                write: WriteAction::Discard,
                undo: None,
                why: visibility.why.clone(),
                origin: Some(visibility.origin.clone()),
                hides: true,
            };
            hidden.push((visibility.capability, treatment));
        }
    }
    hidden
}
