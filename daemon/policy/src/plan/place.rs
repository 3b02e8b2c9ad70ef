//! Registers at their places, and guarded bits as a guest finds them unless a policy says otherwise.

use super::{Bit, OTHERWISE, Placed, Plan, Treatment, dword_at};
use crate::access::ConfigSize;
use crate::chain;
use crate::policy::{ReadAction, WriteAction};
use crate::register::{Kind, Register, Shown};
use crate::registers::{self, AnyCapabilityId};
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;

impl Plan {
    pub(super) fn place_registers(&mut self, snapshot: &Snapshot) -> Result<(), Unsupported> {
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
        if self.size == ConfigSize::Express && self.capabilities.extended.is_empty() {
            // A device that has shown no list shall not come up with one.
            let layout = registers::EXTENDED_CAPABILITY_HEADER;
            self.place(chain::FIRST_EXTENDED, None, layout, ConfigSize::Express, snapshot)?;
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
                    self.treatment(Treatment { read, write, undo: None, why: why.into(), origin: None, hides: false })
                }
                _ => OTHERWISE,
            };
            self.set_bits(offset, mask, |bit| *bit = Bit { field: Some(field), treatment });
        }
    }

    /// What guarded bits read at first, in the register's position.
    pub(super) fn natural_value(&self, shown: Shown, offset: u16, snapshot: &Snapshot) -> u32 {
        match shown {
            Shown::Zero | Shown::Enabled(_) | Shown::PowerState | Shown::FunctionReset { .. } => 0,
            Shown::Kept(value) => value,
            Shown::Listed | Shown::Claimed | Shown::Hardware | Shown::Trigger => dword_at(&self.listed, offset),
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
}

/// What becomes of accesses to guarded bits that no rule names.
const fn natural(shown: Shown) -> (ReadAction, WriteAction) {
    match shown {
        Shown::Hardware | Shown::Trigger => (ReadAction::Pass, WriteAction::Discard),
        Shown::Kept(_) | Shown::PowerState | Shown::BaseAddress(_) | Shown::FunctionReset { .. } => {
            (ReadAction::Emulate, WriteAction::Emulate)
        }
        _ => (ReadAction::Emulate, WriteAction::Discard),
    }
}
