//! What can be said of rules without a device.

use super::{Place, ReadAction, Rule, WriteAction};
use crate::register::{Kind, Register, Shown};

/// What is wrong with a rule by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The mask has bits that the register has not.
    #[error("the mask {mask:#x} has bits that {place}, of {} bytes, has not", .place.width().bytes())]
    MaskTooWide {
        /// The rule's place.
        place: Place,
        /// The rule's mask.
        mask: u32,
    },
    /// No bits.
    #[error("the mask is empty, so the rule says nothing")]
    MaskEmpty,
    /// The reset value has bits outside of the mask.
    #[error("the reset value {value:#x} has bits outside of the mask {mask:#x}")]
    ResetValueTooWide {
        /// The value.
        value: u32,
        /// The rule's mask.
        mask: u32,
    },
    /// Reading and writing do not go together.
    #[error("{0}")]
    Contradiction(&'static str),
    /// Guests would reach what no guest may.
    #[error("no guest may write {register} ({bits:#x} of the register): {why}")]
    Forbidden {
        /// The register.
        register: &'static str,
        /// Bits of that register.
        bits: u32,
        /// What a guest could do with it.
        why: &'static str,
    },
    /// The bits have a meaning of their own that a policy cannot change.
    #[error("{register} ({bits:#x} of the register) is always emulated: {why}")]
    Fixed {
        /// The register.
        register: &'static str,
        /// Bits of that register.
        bits: u32,
        /// Why.
        why: &'static str,
    },
}

impl Rule {
    /// Whether the rule makes sense, as far as can be said without a device.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), RuleFault> {
        let Self { place, mask, read, write, reset_value, .. } = self;
        if *mask == 0 {
            return Err(RuleFault::MaskEmpty);
        }
        if mask & !place.width().mask() != 0 {
            return Err(RuleFault::MaskTooWide { place: *place, mask: *mask });
        }
        match (read, write) {
            (ReadAction::Pass | ReadAction::Deny, WriteAction::Emulate) => {
                return Err(RuleFault::Contradiction(
                    "writes are kept but reads are not emulated, so the guest would never see what it wrote: \
                     read = \"emulate\", or write = \"discard\"",
                ));
            }
            (ReadAction::Emulate, WriteAction::Pass) => {
                return Err(RuleFault::Contradiction(
                    "writes reach the device but reads do not, so the guest would never see what it wrote: \
                     read = \"pass\", or write = \"emulate\"",
                ));
            }
            _ => {}
        }
        match reset_value {
            Some(_) if *read != ReadAction::Emulate => {
                return Err(RuleFault::Contradiction(
                    "a reset value is what emulated bits read at first: read = \"emulate\"",
                ));
            }
            Some(value) if value & !mask != 0 => {
                return Err(RuleFault::ResetValueTooWide { value: *value, mask: *mask });
            }
            _ => {}
        }
        place.registers().into_iter().try_for_each(|(distance, register)| {
            let bits = match distance {
                0.. => u64::from(*mask) >> bits_of(distance),
                _ => u64::from(*mask) << bits_of(distance),
            };
            let [a, b, c, d, ..] = bits.to_le_bytes();
            self.check_register(register, u32::from_le_bytes([a, b, c, d]) & register.width.mask())
        })
    }

    /// Whether the rule leaves guarded bits of `register` what they are; `mask` are the rule's bits in it.
    pub(crate) fn check_register(&self, register: &'static Register, mask: u32) -> Result<(), RuleFault> {
        for field in register.fields_in(mask) {
            let Kind::Guarded { shown, why } = field.kind else { continue };
            let bits = field.mask & mask & register.width.mask();
            if bits == 0 {
                continue;
            }
            if self.write == WriteAction::Pass {
                return Err(RuleFault::Forbidden { register: register.name, bits, why });
            }
            let reads_otherwise = self.read != ReadAction::Emulate || self.reset_value.is_some();
            if reads_otherwise && !shown.can_be_read_otherwise()
                || !shown.can_be_written_otherwise()
                || matches!(shown, Shown::FunctionReset { .. }) && self.reset_value.is_some()
            {
                return Err(RuleFault::Fixed { register: register.name, bits, why });
            }
        }
        Ok(())
    }
}

/// Bits between two registers that are so many bytes apart.
fn bits_of(distance: i32) -> u32 {
    distance.unsigned_abs().min(7) << 3
}

/// Whether two rules of one layer speak of the same bit, as far as can be said without a device.
#[must_use]
pub fn overlap(a: &Rule, b: &Rule) -> bool {
    if a.when.excludes(&b.when) {
        return false;
    }
    // Registers with different names are never at one place of one device, though they are in layouts of one capability.
    if let (Place::Named { name: a, .. }, Place::Named { name: b, .. }) = (a.place, b.place) {
        if a != b {
            return false;
        }
    }
    let spans = |rule: &Rule| -> Vec<(Option<crate::registers::AnyCapabilityId>, u64)> {
        match rule.place {
            Place::At { offset, .. } => vec![(None, u64::from(offset) << 3)],
            Place::InCapability { capability, offset, .. } => vec![(Some(capability), u64::from(offset) << 3)],
            Place::Named { name, .. } => crate::registers::named(name)
                .map(|(capability, register)| (capability, u64::from(register.offset) << 3))
                .collect(),
        }
    };
    let (spans_a, spans_b) = (spans(a), spans(b));
    spans_a.iter().any(|(space_a, first_a)| {
        spans_b.iter().any(|(space_b, first_b)| {
            // Bits of both, counted from the lower of the two starts; registers more than 32 bits apart have none.
            let from = *first_a.min(first_b);
            let bits = |first: u64, mask: u32| match first.wrapping_sub(from) {
                distance @ 0..32 => u64::from(mask) << distance,
                _ => 0,
            };
            space_a == space_b && bits(*first_a, a.mask) & bits(*first_b, b.mask) != 0
        })
    })
}
