use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;

/// What the seven base address registers (six BARs and the expansion ROM) show.
pub(crate) type BaseAddresses = [BaseAddress; 7];

/// One base address register: answers with its address, or with its size after a dword of ones was written
/// (PCI Local Bus Specification 6.2.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BaseAddress {
    /// Address and type bits. All zero, with `size`, where the device has nothing.
    pub(crate) address: u32,
    /// What a sizing write leaves: address bits that can be set, and type bits.
    pub(crate) size: u32,
    /// Bits that need not be one in a write for it to ask for the size.
    ignored: u32,
    /// Bits that a guest can switch although nothing follows them: the ROM's enable bit.
    pub(crate) switch: u32,
}

const IO_TYPE: u32 = 0x3;
const MEMORY_TYPE: u32 = 0xf;
const MEMORY_64: u32 = 0x4;
const ROM_RESERVED: u32 = 0x7ff;
const ROM_ENABLE: u32 = 0x1;
const ROM_INDEX_NAME: &str = "the expansion ROM";
const NAMES: [&str; 7] = ["BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5", ROM_INDEX_NAME];

impl BaseAddress {
    /// What the register reads after `value` was written to all of it, when it read `shown` before.
    pub(crate) fn after_dword(&self, value: u32) -> u32 {
        let shown = if value | self.ignored == u32::MAX { self.size } else { self.address };
        shown & !self.switch | value & self.switch
    }

    /// What the register reads after the bits `covered` of it were written: the address, for only a whole dword can
    /// ask for the size.
    pub(crate) fn after_part(&self, covered: u32, value: u32, shown: u32) -> u32 {
        let switched = shown & !covered | value & covered;
        self.address & !self.switch | switched & self.switch
    }

    /// All seven from the resource table. It, not the device's registers, says what the device has: a virtual function's
    /// registers read zero.
    pub(crate) fn from_resources(resources: &[Resource; 7]) -> Result<BaseAddresses, Unsupported> {
        let mut registers = BaseAddresses::default();
        let mut slots = registers.iter_mut().zip(resources).zip(NAMES);
        while let Some(((register, resource), name)) = slots.next() {
            let refuse = |reason| {
                let Resource { start, end, .. } = *resource;
                Err(Unsupported::Resource { register: name, start, end, reason })
            };
            if !resource.is_present() {
                continue;
            }
            let is_rom = name == ROM_INDEX_NAME;
            if is_rom && (resource.is_io() || resource.flags & Resource::ROM_SHADOW != 0) {
                continue;
            }
            let (ignored, type_bits) = match (is_rom, resource.is_io()) {
                (true, _) => (ROM_RESERVED, 0),
                (false, true) => (IO_TYPE, 0x1),
                (false, false) if resource.is_64_bit() => (MEMORY_TYPE, low(resource.flags) & MEMORY_TYPE | MEMORY_64),
                (false, false) => (MEMORY_TYPE, low(resource.flags) & MEMORY_TYPE),
            };
            let size = resource.size();
            if !size.is_power_of_two() || size <= u64::from(ignored) || resource.start & size.wrapping_sub(1) != 0 {
                return refuse("it is not a power of two in size, too small, or not aligned to its size");
            }
            let sizing = size.wrapping_neg();
            *register = Self {
                address: low(resource.start) | type_bits,
                size: low(sizing) | type_bits,
                ignored,
                switch: if is_rom { ROM_ENABLE } else { 0 },
            };
            if resource.is_64_bit() && !is_rom {
                match slots.next() {
                    Some(((upper, next), next_name)) if next_name != ROM_INDEX_NAME && !next.is_present() => {
                        *upper = Self { address: high(resource.start), size: high(sizing), ignored: 0, switch: 0 };
                    }
                    _ => return refuse("it is 64 bits wide and the next register is not free for the upper half"),
                }
            } else if high(resource.end) != 0 {
                return refuse("it is above 4 GiB and the register has 32 bits");
            }
        }
        Ok(registers)
    }

    /// Whether the device has nothing behind this register.
    pub(crate) fn is_absent(&self) -> bool {
        self.size == 0
    }
}

const _: () = assert!(NAMES.len() == Snapshot::ROM.saturating_add(1));

/// The lower 32 bits.
fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The upper 32 bits.
fn high(value: u64) -> u32 {
    low(value >> 32)
}
