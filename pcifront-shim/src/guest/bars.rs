//! Sizing of BARs and expansion ROM (PCI Local Bus Specification 6.2.5.1 and 6.2.5.2).

use crate::blocking::{Connection, RequestError};

use super::capabilities::ReadConfig;
use super::config::{COMMAND, COMMAND_IO, COMMAND_MEMORY, FunctionConfig};

/// An address range of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Number of its (lower) register, 0 to 5; [`Bar::EXPANSION_ROM`] for the ROM.
    pub index: u8,
    /// Where it starts: a bus address, or an I/O port.
    pub address: u64,
    /// Length in bytes, a power of two.
    pub size: u64,
    /// What is there.
    pub kind: BarKind,
}

/// What a [`Bar`] decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; takes two registers.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// The expansion ROM.
    ExpansionRom {
        /// The ROM's own enable bit is set.
        enabled: bool,
    },
}

impl Bar {
    /// [`Bar::index`] of the expansion ROM.
    pub const EXPANSION_ROM: u8 = 6;
}

const BAR0: u16 = 0x10;
const BAR_COUNT: u8 = 6;
const EXPANSION_ROM: u16 = 0x30;
const EXPANSION_ROM_ENABLE: u32 = 1 << 0;
const EXPANSION_ROM_ADDRESS: u32 = !0x7ff;
const IO_SPACE: u32 = 1 << 0;
const IO_FLAGS: u32 = 0x3;
const MEMORY_TYPE: u32 = 0x6;
const MEMORY_TYPE_64: u32 = 0x4;
const MEMORY_PREFETCHABLE: u32 = 1 << 3;
const MEMORY_FLAGS: u32 = 0xf;

/// Sizes each BAR of a type 0 header and its ROM, with decoding switched off while the register has no address in it.
pub(super) fn size_all<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<Vec<Bar>, RequestError> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < BAR_COUNT {
        let bar = with_decode_off(config, |config| size_bar(config, index))?;
        let is_64 = bar.is_some_and(|bar| matches!(bar.kind, BarKind::Memory64 { .. }));
        bars.extend(bar.filter(|bar| bar.size != 0));
        index += if is_64 { 2 } else { 1 };
    }
    bars.extend(with_decode_off(config, size_expansion_rom)?);
    Ok(bars)
}

fn with_decode_off<C: Connection, T>(
    config: &mut FunctionConfig<'_, C>,
    size: impl FnOnce(&mut FunctionConfig<'_, C>) -> Result<T, RequestError>,
) -> Result<T, RequestError> {
    let command = config.change_word(COMMAND, COMMAND_IO | COMMAND_MEMORY, 0)?;
    let sized = size(config);
    if command & (COMMAND_IO | COMMAND_MEMORY) != 0 {
        config.set_word(COMMAND, command)?;
    }
    sized
}

/// Value of a register, and what it reads after `probe` was written to it; restores it.
fn probe<C: Connection>(
    config: &mut FunctionConfig<'_, C>,
    offset: u16,
    probe: u32,
) -> Result<(u32, u32), RequestError> {
    let value = config.dword(offset)?;
    config.set_dword(offset, probe)?;
    let mask = config.dword(offset);
    config.set_dword(offset, value)?;
    Ok((value, mask?))
}

/// `None` for a register that is not implemented; a 64-bit BAR always gives one, so that its upper half is not taken
/// for a BAR, though its size may be 0.
fn size_bar<C: Connection>(config: &mut FunctionConfig<'_, C>, index: u8) -> Result<Option<Bar>, RequestError> {
    let offset = BAR0 + u16::from(index) * 4;
    let (value, mask) = probe(config, offset, u32::MAX)?;
    if mask == 0 || mask == u32::MAX {
        return Ok(None);
    }
    if mask & IO_SPACE != 0 {
        return Ok(bar(index, value, mask, !IO_FLAGS, BarKind::Io));
    }
    let prefetchable = mask & MEMORY_PREFETCHABLE != 0;
    if mask & MEMORY_TYPE != MEMORY_TYPE_64 || index + 1 == BAR_COUNT {
        return Ok(bar(index, value, mask, !MEMORY_FLAGS, BarKind::Memory32 { prefetchable }));
    }
    let (upper_value, upper_mask) = probe(config, offset + 4, u32::MAX)?;
    let address = u64::from(upper_value) << 32 | u64::from(value & !MEMORY_FLAGS);
    let size = lowest_bit(u64::from(upper_mask) << 32 | u64::from(mask & !MEMORY_FLAGS));
    Ok(Some(Bar { index, address, size, kind: BarKind::Memory64 { prefetchable } }))
}

fn size_expansion_rom<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<Option<Bar>, RequestError> {
    let (value, mask) = probe(config, EXPANSION_ROM, EXPANSION_ROM_ADDRESS)?;
    let enabled = value & EXPANSION_ROM_ENABLE != 0;
    let kind = BarKind::ExpansionRom { enabled };
    if mask == u32::MAX {
        return Ok(None);
    }
    Ok(bar(Bar::EXPANSION_ROM, value, mask, EXPANSION_ROM_ADDRESS, kind))
}

/// A range whose register has its address in `address_bits`; `None` if none of them can be written.
fn bar(index: u8, value: u32, mask: u32, address_bits: u32, kind: BarKind) -> Option<Bar> {
    let size = lowest_bit(u64::from(mask & address_bits));
    (size != 0).then(|| Bar { index, address: u64::from(value & address_bits), size, kind })
}

/// The lowest address bit that can be written is the length of the range.
fn lowest_bit(mask: u64) -> u64 {
    mask & mask.wrapping_neg()
}
