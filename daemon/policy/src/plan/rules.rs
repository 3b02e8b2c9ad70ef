//! The rules of a layer, on the bits that they name.

use super::{Placed, Plan, Treatment, dword_at};
use crate::access::ConfigSize;
use crate::plan::terms::CompileError;
use crate::policy::{DeviceIdentity, Layer, Place, Rule};
use crate::register::Kind;
use crate::registers::AnyCapabilityId;
use crate::snapshot::Snapshot;

impl Plan {
    pub(super) fn apply_rules(
        &mut self,
        layer: &Layer,
        device: &DeviceIdentity,
        snapshot: &Snapshot,
    ) -> Result<(), CompileError> {
        // Bits that a rule of this layer has spoken of: treatments from here on are the layer's.
        let first_of_layer = self.treatments.len();
        for rule in layer.rules.iter().filter(|rule| rule.when.matches(device)) {
            let Rule { read, write, undo, ref why, ref origin, .. } = *rule;
            let places = self.places(&rule.place);
            if places.is_empty() {
                continue;
            }
            let (undo, why, origin) = (Some(undo), why.clone(), Some(origin.clone()));
            let treatment = self.treatment(Treatment { read, write, undo, why, origin, hides: false });
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
            let mask = shifted(rule.mask, distance(offset, placed)) & register.width.mask();
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
        if self.bits_at(offset, width).all(|bit| bit.field.is_none()) {
            match self.registers.iter_mut().find(|placed| placed.offset == offset) {
                // The widest of several rules, whatever their order.
                Some(placed) => {
                    placed.width = placed.width.max(width);
                    placed.length = placed.length.max(width.bytes());
                }
                None => {
                    let capability = rule.place.capability();
                    self.registers.push(Placed { offset, width, length: width.bytes(), capability, register: None });
                }
            }
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
        self.set_initial(offset, rule.mask, dword_at(&self.listed, offset));
        let mut guarded = Vec::new();
        for placed in &self.registers {
            let mask = shifted(rule.mask, distance(offset, placed)) & placed.width.mask();
            for field in placed.register.into_iter().flat_map(|register| register.fields_in(mask)) {
                if let Kind::Guarded { shown, .. } = field.kind {
                    let value = self.natural_value(shown, placed.offset, snapshot);
                    guarded.push((placed.offset, field.mask & mask, value));
                }
            }
        }
        for (offset, mask, value) in guarded {
            self.set_initial(offset, mask, value);
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
}

/// How many bytes after `offset` a register starts.
fn distance(offset: u16, placed: &Placed) -> i32 {
    i32::from(placed.offset).saturating_sub(i32::from(offset))
}

/// A mask as seen from a register that starts `distance` bytes later.
fn shifted(mask: u32, distance: i32) -> u32 {
    let by = distance.unsigned_abs().saturating_mul(8);
    let shifted = if distance < 0 { mask.checked_shl(by) } else { mask.checked_shr(by) };
    shifted.unwrap_or(0)
}
