use crate::access::{ConfigSize, Width};
use crate::bar::BaseAddress;
use crate::capability::{Capabilities, CapabilityId, MsixCapability};
use crate::register::{Class, Register, Value};
use crate::registers;
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;
use crate::view::{Behaviour, ConfigView, Dword};

const HEADER_TYPE: u16 = 0x0e;
const MULTI_FUNCTION: u8 = 0x80;

impl ConfigView {
    /// Makes the view of a new guest from what is known of the function.
    ///
    /// # Errors
    /// [`Unsupported`] for anything but an endpoint, and for a configuration space that contradicts itself.
    pub fn compile(snapshot: &Snapshot) -> Result<Self, Unsupported> {
        let size = snapshot.size()?;
        let header_type = snapshot.byte(HEADER_TYPE) & !MULTI_FUNCTION;
        if header_type != 0 {
            return Err(Unsupported::HeaderType { header_type });
        }
        let capabilities = snapshot.capabilities()?;
        let base_addresses = BaseAddress::from_resources(&snapshot.resources)?;
        let dwords = vec![Dword::READ_THROUGH; usize::from(size.bytes() >> 2)].into_boxed_slice();
        let view = Self { size, dwords, base_addresses, registers: Vec::new(), enabled: Vec::new() };
        let mut compiler = Compiler { snapshot, msix: capabilities.msix, taken: vec![0; view.dwords.len()], view };

        compiler.place(0, registers::HEADER, ConfigSize::Conventional)?;
        for capability in &capabilities.conventional {
            compiler.place(capability.offset, layout(capability.id, &capabilities), ConfigSize::Conventional)?;
        }
        for capability in &capabilities.extended {
            compiler.place(capability.offset, registers::EXTENDED_CAPABILITY_HEADER, ConfigSize::Express)?;
        }
        compiler.view.registers.sort_unstable_by_key(|(offset, _)| *offset);
        Ok(compiler.view)
    }
}

/// The registers of a conventional capability.
fn layout(id: CapabilityId, capabilities: &Capabilities) -> &'static [Register] {
    match (id, capabilities.msi) {
        (CapabilityId::POWER_MANAGEMENT, _) => registers::POWER_MANAGEMENT,
        (CapabilityId::VITAL_PRODUCT_DATA, _) => registers::VITAL_PRODUCT_DATA,
        (CapabilityId::MSIX, _) => registers::MSIX,
        (CapabilityId::MSI, Some(msi)) => match (msi.is_64_bit, msi.is_maskable) {
            (false, false) => registers::MSI_32,
            (true, false) => registers::MSI_64,
            (false, true) => registers::MSI_32_MASKABLE,
            (true, true) => registers::MSI_64_MASKABLE,
        },
        _ => registers::CAPABILITY_HEADER,
    }
}

struct Compiler<'a> {
    snapshot: &'a Snapshot,
    msix: Option<MsixCapability>,
    /// Bytes of each dword that a register has, as a mask of four.
    taken: Vec<u8>,
    view: ConfigView,
}

impl Compiler<'_> {
    /// Puts the registers of `table` from `start`, before the end of `space`.
    fn place(&mut self, start: u16, table: &'static [Register], space: ConfigSize) -> Result<(), Unsupported> {
        for register in table {
            let offset = start.saturating_add(register.offset);
            if offset >= space.bytes() {
                return Err(Unsupported::CapabilityList { offset: start, reason: "it does not fit into the space" });
            }
            self.place_register(start, offset, register)?;
        }
        Ok(())
    }

    fn place_register(&mut self, capability: u16, offset: u16, register: &'static Register) -> Result<(), Unsupported> {
        let index = usize::from(offset >> 2);
        let shift = (u32::from(offset) & 3) << 3;
        let bytes: u8 = match register.width {
            Width::Byte => 0b0001,
            Width::Word => 0b0011,
            Width::Dword => 0b1111,
        } << (offset & 3);
        let (taken, dword) = match (self.taken.get_mut(index), self.view.dwords.get_mut(index)) {
            (Some(taken), Some(dword)) if *taken & bytes == 0 => (taken, dword),
            _ => return Err(Unsupported::Overlap { capability, offset }),
        };
        *taken |= bytes;
        for (byte, owner) in dword.registers.iter_mut().enumerate() {
            if bytes >> byte & 1 != 0 {
                *owner = bytes;
            }
        }
        for &(bits, class) in register.bits {
            let mask = (bits & register.width.mask()) << shift;
            place_bits(dword, mask, class);
            match class {
                Class::Shadow(value) => dword.reset |= value << shift,
                Class::Fixed(value) => {
                    let value = fixed_value(self.snapshot, self.msix, value, offset) << shift & mask;
                    dword.reset |= value;
                }
                Class::PowerState => {
                    let supported = supported_power_states(self.snapshot.word(capability | 2));
                    dword.behaviour = Behaviour::PowerState { mask, supported };
                }
                Class::BaseAddress(number) => {
                    if let Some(base) =
                        self.view.base_addresses.get(usize::from(number)).filter(|base| !base.is_absent())
                    {
                        dword.reset = base.address;
                        dword.store = mask;
                        dword.behaviour = Behaviour::BaseAddress(number);
                    }
                }
                Class::Enabled(mode) => self.view.enabled.push((index, mask, mode)),
                _ => {}
            }
        }
        dword.shadow = dword.reset;
        self.view.registers.push((offset, register));
        Ok(())
    }
}

/// Sets what follows from the class alone.
fn place_bits(dword: &mut Dword, mask: u32, class: Class) {
    match class {
        Class::HardwareReadOnly => {}
        Class::HardwareReadWrite => dword.pass |= mask,
        Class::HardwareWriteOneToClear => {
            dword.pass |= mask;
            dword.clear |= mask;
        }
        Class::HardwareZeroOnly => {
            dword.pass |= mask;
            dword.clear |= mask;
            dword.deny |= mask;
        }
        Class::BusMaster => {
            dword.pass |= mask;
            dword.store |= mask;
            dword.behaviour = Behaviour::BusMaster { mask };
        }
        Class::Shadow(_) | Class::PowerState => {
            dword.hardware &= !mask;
            dword.store |= mask;
        }
        Class::BaseAddress(_) | Class::Enabled(_) | Class::Fixed(_) => dword.hardware &= !mask,
    }
}

fn fixed_value(snapshot: &Snapshot, msix: Option<MsixCapability>, value: Value, offset: u16) -> u32 {
    match value {
        Value::Constant(value) => value,
        Value::Claimed => snapshot.dword(offset),
        Value::Vendor => u32::from(snapshot.vendor),
        Value::Device => u32::from(snapshot.device),
        Value::InterruptLine => u32::from(snapshot.interrupt_line),
        Value::InterruptPin if snapshot.interrupt_line == 0 || snapshot.is_virtual_function => 0,
        Value::InterruptPin => u32::from(snapshot.byte(offset)),
        Value::MsixTableSize => msix.map_or(0, |msix| u32::from(msix.visible_table_size().saturating_sub(1))),
    }
}

/// States by number of bit, from Power Management Capabilities: D0 and D3 always (PM 3.2.3).
fn supported_power_states(capabilities: u16) -> u8 {
    let d1 = if capabilities & 0x0200 != 0 { 0b0010 } else { 0 };
    let d2 = if capabilities & 0x0400 != 0 { 0b0100 } else { 0 };
    0b1001 | d1 | d2
}
