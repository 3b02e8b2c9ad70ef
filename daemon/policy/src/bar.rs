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
    size: u32,
    /// Bits that need not be one in a write for it to ask for the size.
    ignored: u32,
    /// Bits that a guest can switch although nothing follows them: the ROM's enable bit.
    switch: u32,
}

const IO: u32 = 0x1;
const IO_TYPE: u32 = 0x3;
const MEMORY_TYPE: u32 = 0xf;
const MEMORY_64: u32 = 0x4;
const ROM_RESERVED: u32 = 0x7ff;
const ROM_ENABLE: u32 = 0x1;
const NAMES: [&str; 7] = ["BAR 0", "BAR 1", "BAR 2", "BAR 3", "BAR 4", "BAR 5", "the expansion ROM"];

impl BaseAddress {
    /// What the register reads after `value` was written to all of it.
    pub(crate) fn after_dword(&self, value: u32) -> u32 {
        let shown = if value | self.ignored == u32::MAX { self.size } else { self.address };
        shown & !self.switch | value & self.switch
    }

    /// What the register reads after only the bits `covered` of it were written, when it read `shown` before: the
    /// address, for only a whole dword can ask for the size.
    pub(crate) fn after_part(&self, covered: u32, value: u32, shown: u32) -> u32 {
        let switched = shown & !covered | value & covered;
        self.address & !self.switch | switched & self.switch
    }

    /// All seven from the resource table. It, not the device's registers, says what the device has: a virtual
    /// function's registers read zero.
    pub(crate) fn from_resources(resources: &[Resource; 7]) -> Result<BaseAddresses, Unsupported> {
        let mut registers = BaseAddresses::default();
        let mut rest = registers.iter_mut().zip(resources).zip(NAMES).enumerate();
        while let Some((number, ((register, resource), name))) = rest.next() {
            let Resource { start, end, flags } = *resource;
            let refuse = |reason| Err(Unsupported::Resource { register: name, start, end, reason });
            let is_rom = number == Snapshot::ROM;
            let is_elsewhere = is_rom && (resource.is_io() || flags & Resource::ROM_SHADOW != 0);
            if !resource.is_present() || is_elsewhere {
                continue;
            }
            let size = resource.size();
            let (ignored, type_bits, switch) = match (is_rom, resource.is_io(), resource.is_64_bit()) {
                (true, ..) => (ROM_RESERVED, 0, ROM_ENABLE),
                (_, true, _) => (IO_TYPE, IO, 0),
                (.., true) => (MEMORY_TYPE, low(flags) & MEMORY_TYPE | MEMORY_64, 0),
                (.., false) => (MEMORY_TYPE, low(flags) & MEMORY_TYPE, 0),
            };
            if !size.is_power_of_two() || size <= u64::from(ignored) || start & size.wrapping_sub(1) != 0 {
                return refuse("it is not a power of two in size, too small, or not aligned to its size");
            }
            let sizing = size.wrapping_neg();
            *register = Self { address: low(start) | type_bits, size: low(sizing) | type_bits, ignored, switch };
            if is_rom || !resource.is_64_bit() {
                if high(end) != 0 {
                    return refuse("it is above 4 GiB and the register has 32 bits");
                }
                continue;
            }
            match rest.next() {
                Some((next, ((upper, resource), _))) if next != Snapshot::ROM && !resource.is_present() => {
                    *upper = Self { address: high(start), size: high(sizing), ignored: 0, switch: 0 };
                }
                _ => return refuse("it is 64 bits wide and the next register is not free for the upper half"),
            }
        }
        Ok(registers)
    }

    /// Whether the device has nothing behind this register.
    pub(crate) fn is_absent(&self) -> bool {
        self.size == 0
    }
}

/// The lower 32 bits.
fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The upper 32 bits.
fn high(value: u64) -> u32 {
    low(value >> 32)
}
