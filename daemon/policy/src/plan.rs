//! A policy applied to one device: for each bit of its configuration space, what becomes of accesses, and why.
//!
//! ```text
//!  Snapshot ──► registers, placed ──┐
//!                                   ├──► guarded bits ──► layer by layer: rules ──► hidden capabilities ──► Plan
//!  Policy ──────────────────────────┘                                                                       │
//!                                                     ConfigView (compile.rs) ◄─────────────────────────────┤
//!                                                     explanations (explain.rs) ◄───────────────────────────┘
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::access::{ConfigSize, Width};
use crate::bar::{BaseAddress, BaseAddresses};
use crate::capability::Capabilities;
use crate::chain;
use crate::policy::{DeviceIdentity, Layer, Origin, Place, Policy, ReadAction, Rule, RuleFault, WriteAction};
use crate::register::{Field, Kind, Register, Shown};
use crate::registers::{self, AnyCapabilityId};
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;

/// On what terms a guest gets a device.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the guest may do with its registers.
    pub policy: &'a Policy,
    /// What the operator calls the device, for rules that match by name.
    pub name: Option<&'a str>,
    /// Most MSI-X vectors that the guest is to be shown: its domain's budget. At least 1 is shown.
    pub vectors: u16,
}

/// Why a device cannot be given to a guest under a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The device itself.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The policy is for other devices.
    #[error(
        "policy {policy} is not for {vendor:04x}:{device:04x} of class {class:06x}: its [match] names others; choose another policy, or write one that extends it"
    )]
    NotForDevice {
        /// The policy.
        policy: Arc<str>,
        /// The device's vendor ID.
        vendor: u16,
        /// Its device ID.
        device: u16,
        /// Its class, 24 bits.
        class: u32,
    },
    /// A rule asks on this device for what it must not.
    #[error("{origin}: on this device {place} is at {offset:#05x}, and {fault}")]
    Rule {
        /// Where the rule was written.
        origin: Origin,
        /// Its place.
        place: Place,
        /// Where that is.
        offset: u16,
        /// What is wrong.
        fault: RuleFault,
    },
    /// Two rules of one policy meet on this device.
    #[error(
        "{first} and line {} of the same policy both say what becomes of bit {bit} of the byte at {offset:#05x}: one of them must leave it out", .second.line
    )]
    Overlap {
        /// Where the first was written.
        first: Origin,
        /// Where the second was.
        second: Origin,
        /// The byte.
        offset: u16,
        /// The bit of it.
        bit: u32,
    },
}

/// What becomes of accesses to some bits, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// Reads.
    pub read: ReadAction,
    /// Writes.
    pub write: WriteAction,
    /// Why.
    pub why: Arc<str>,
    /// The rule; `None` for guarded bits that no rule names, and where no policy says anything.
    pub origin: Option<Origin>,
    /// Whether it hides a capability.
    pub hides: bool,
}

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
        let bit = Bit { field: None, treatment: OTHERWISE };
        let vectors = capabilities.msix.map_or(0, |msix| msix.visible_table_size().min(terms.vectors.max(1)));
        let mut plan = Self {
            size,
            base_addresses: BaseAddress::from_resources(&snapshot.resources)?,
            extents: chain::all_extents(&capabilities, snapshot),
            otherwise: otherwise(policy),
            vectors,
            registers: Vec::new(),
            treatments: vec![otherwise(policy)],
            bits: vec![bit; snapshot.config.len().saturating_mul(8)],
            initial: chain::without(snapshot, &capabilities, |id| hidden.iter().any(|(hidden, _)| *hidden == id)),
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

    fn place_registers(&mut self, snapshot: &Snapshot) -> Result<(), Unsupported> {
        self.place(0, None, registers::HEADER, ConfigSize::Conventional, snapshot)?;
        for capability in self.capabilities.conventional.clone() {
            let id = AnyCapabilityId::Conventional(capability.id);
            let layout = chain::layout(id, capability.offset, snapshot);
            self.place(capability.offset, Some(id), layout, ConfigSize::Conventional, snapshot)?;
        }
        for capability in self.capabilities.extended.clone() {
            let id = AnyCapabilityId::Extended(capability.id);
            let layout = chain::layout(id, capability.offset, snapshot);
            self.place(capability.offset, Some(id), layout, ConfigSize::Express, snapshot)?;
        }
        Ok(())
    }

    /// Puts the registers of `table` from `start`, before the end of `space`. Where one does not fit that the filter does
    /// not depend on, its bytes stay without a name.
    fn place(
        &mut self,
        start: u16,
        capability: Option<AnyCapabilityId>,
        table: &'static [Register],
        space: ConfigSize,
        snapshot: &Snapshot,
    ) -> Result<(), Unsupported> {
        for register in table {
            let offset = start.saturating_add(register.offset);
            let end = offset.saturating_add(register.width.bytes());
            let is_inside = end <= space.bytes();
            let is_free = self.bits_at(offset, register.width).all(|bit| bit.field.is_none());
            if is_inside && is_free {
                self.place_register(offset, capability, register, snapshot);
            } else if register.is_essential() {
                return Err(if is_inside {
                    Unsupported::Overlap { capability: start, offset }
                } else {
                    Unsupported::CapabilityList { offset: start, reason: "it does not fit into the space" }
                });
            }
        }
        Ok(())
    }

    fn place_register(
        &mut self,
        offset: u16,
        capability: Option<AnyCapabilityId>,
        register: &'static Register,
        snapshot: &Snapshot,
    ) {
        self.registers.push(Placed {
            offset,
            width: register.width,
            length: register.width.bytes(),
            capability,
            register: Some(register),
        });
        for field in register.fields {
            let mask = field.mask & register.width.mask();
            let treatment = match field.kind {
                Kind::Guarded { shown, why } => {
                    let (read, write) = natural(shown);
                    self.set_initial(offset, mask, self.natural_value(shown, offset, snapshot));
                    self.treatment(Treatment { read, write, why: why.into(), origin: None, hides: false })
                }
                _ => OTHERWISE,
            };
            self.set_bits(offset, mask, |bit| *bit = Bit { field: Some(field), treatment });
        }
    }

    fn apply_rules(&mut self, layer: &Layer, device: &DeviceIdentity, snapshot: &Snapshot) -> Result<(), CompileError> {
        // Bits that a rule of this layer has spoken of: treatments from here on are the layer's.
        let first_of_layer = self.treatments.len();
        for rule in layer.rules.iter().filter(|rule| rule.when.matches(device)) {
            let Rule { read, write, ref why, ref origin, .. } = *rule;
            let places = self.places(&rule.place);
            if places.is_empty() {
                continue;
            }
            let treatment = Treatment { read, write, why: why.clone(), origin: Some(origin.clone()), hides: false };
            let treatment = self.treatment(treatment);
            for offset in places {
                self.apply_rule(rule, treatment, first_of_layer, offset, snapshot)?;
            }
        }
        Ok(())
    }

    fn apply_rule(
        &mut self,
        rule: &Rule,
        treatment: u16,
        first_of_layer: usize,
        offset: u16,
        snapshot: &Snapshot,
    ) -> Result<(), CompileError> {
        let width = rule.place.width();
        for placed in &self.registers {
            let Some(register) = placed.register else { continue };
            let distance = i32::from(placed.offset).saturating_sub(i32::from(offset));
            let mask = shifted(rule.mask, distance) & register.width.mask();
            rule.check_register(register, mask).map_err(|fault| CompileError::Rule {
                origin: rule.origin.clone(),
                place: rule.place,
                offset,
                fault,
            })?;
        }
        for (n, bit) in (0_u32..).zip(self.bits_at(offset, width)) {
            let taken = usize::from(bit.treatment);
            if rule.mask >> n & 1 == 0 || taken < first_of_layer || bit.treatment == treatment {
                continue;
            }
            if let Some(first) = self.treatments.get(taken).and_then(|treatment| treatment.origin.clone()) {
                let offset = offset.saturating_add(u16::try_from(n >> 3).unwrap_or_default());
                return Err(CompileError::Overlap { first, second: rule.origin.clone(), offset, bit: n & 7 });
            }
        }
        if self.bits_at(offset, width).all(|bit| bit.field.is_none())
            && !self.registers.iter().any(|placed| placed.offset == offset)
        {
            let capability = rule.place.capability();
            self.registers.push(Placed { offset, width, length: width.bytes(), capability, register: None });
        }
        self.set_rule_value(rule, offset, snapshot);
        self.set_bits(offset, rule.mask, |bit| bit.treatment = treatment);
        Ok(())
    }

    /// What the bits of a rule read at first, if it emulates them.
    fn set_rule_value(&mut self, rule: &Rule, offset: u16, snapshot: &Snapshot) {
        if let Some(value) = rule.reset_value {
            return self.set_initial(offset, rule.mask, value);
        }
        // An extended policy may have set another value.
        let guarded: Vec<_> = (0_u16..)
            .zip(self.bits_at(offset, rule.place.width()))
            .filter(|(n, _)| rule.mask >> n & 1 != 0)
            .map(|(n, bit)| (n, bit.field.is_some_and(|field| matches!(field.kind, Kind::Guarded { .. }))))
            .collect();
        for (n, is_guarded) in guarded {
            if !is_guarded {
                let claimed = snapshot.dword(offset) & 1 << n;
                self.set_initial(offset, 1 << n, claimed);
            }
        }
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

    /// Where a rule's place is on this device.
    fn places(&self, place: &Place) -> Vec<u16> {
        let size = self.size.bytes();
        match place {
            Place::Named { name, .. } => {
                let is_it = |placed: &&Placed| placed.register.is_some_and(|register| register.name == *name);
                self.registers.iter().filter(is_it).map(|placed| placed.offset).collect()
            }
            Place::InCapability { capability, offset, width } => {
                let starts = self.capabilities.starts(*capability);
                let end = match capability {
                    AnyCapabilityId::Conventional(_) => ConfigSize::Conventional.bytes(),
                    AnyCapabilityId::Extended(_) => size,
                };
                let fits = |start: &u16| start.saturating_add(width.bytes()) <= end;
                starts.map(|start| start.saturating_add(*offset)).filter(fits).collect()
            }
            Place::At { offset, .. } => {
                if *offset < size {
                    vec![*offset]
                } else {
                    Vec::new()
                }
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

    /// What guarded bits read at first, in the register's position.
    fn natural_value(&self, shown: Shown, offset: u16, snapshot: &Snapshot) -> u32 {
        match shown {
            Shown::Zero | Shown::Enabled(_) | Shown::PowerState | Shown::FunctionReset { .. } => 0,
            Shown::Kept(value) => value,
            // Already there, as the guest is to see it.
            Shown::Claimed | Shown::Hardware => self.initial_at(offset),
            Shown::Vendor => u32::from(snapshot.vendor),
            Shown::Device => u32::from(snapshot.device),
            Shown::InterruptLine => u32::from(snapshot.interrupt_line),
            Shown::InterruptPin if snapshot.interrupt_line == 0 || snapshot.is_virtual_function => 0,
            Shown::InterruptPin => u32::from(snapshot.byte(offset)),
            Shown::MsixTableSize => u32::from(self.vectors.saturating_sub(1)),
            Shown::BaseAddress(number) => {
                self.base_addresses.get(usize::from(number)).map_or(0, |register| register.address)
            }
        }
    }

    /// What the four bytes at `offset` read at first, where they are emulated.
    pub(crate) fn initial_at(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        for (byte, value) in bytes.iter_mut().zip(self.initial.iter().skip(usize::from(offset))) {
            *byte = *value;
        }
        u32::from_le_bytes(bytes)
    }

    /// What the device had in the four bytes at `offset` at the time of the claim.
    pub(crate) fn claimed_at(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        for (byte, value) in bytes.iter_mut().zip(self.claimed.iter().skip(usize::from(offset))) {
            *byte = *value;
        }
        u32::from_le_bytes(bytes)
    }
}

/// A mask as seen from a register that starts `distance` bytes later.
fn shifted(mask: u32, distance: i32) -> u32 {
    let by = distance.unsigned_abs().saturating_mul(8);
    let shifted = if distance < 0 { mask.checked_shl(by) } else { mask.checked_shr(by) };
    shifted.unwrap_or(0)
}

/// What becomes of accesses to guarded bits that no rule names.
pub(crate) const fn natural(shown: Shown) -> (ReadAction, WriteAction) {
    match shown {
        Shown::Hardware => (ReadAction::Pass, WriteAction::Discard),
        Shown::Kept(_) | Shown::PowerState | Shown::BaseAddress(_) | Shown::FunctionReset { .. } => {
            (ReadAction::Emulate, WriteAction::Emulate)
        }
        _ => (ReadAction::Emulate, WriteAction::Discard),
    }
}

fn otherwise(policy: &Policy) -> Treatment {
    match policy.layers.iter().rev().find_map(|layer| layer.otherwise.as_ref()) {
        Some(otherwise) => Treatment {
            read: otherwise.read,
            write: otherwise.write,
            why: otherwise.why.clone(),
            origin: Some(otherwise.origin.clone()),
            hides: false,
        },
        None => Treatment {
            read: ReadAction::Pass,
            write: WriteAction::Discard,
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
                why: visibility.why.clone(),
                origin: Some(visibility.origin.clone()),
                hides: true,
            };
            hidden.push((visibility.capability, treatment));
        }
    }
    hidden
}
