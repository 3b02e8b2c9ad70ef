//! Walks of the two capability lists (PCI Local Bus Specification 6.7, PCI Express Base Specification 7.6.3).

use crate::blocking::{Connection, RequestError};

use super::config::FunctionConfig;

/// A capability in one of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Capability ID: 8 bits below 0x100, 16 bits above.
    pub id: u16,
    /// Offset of its header, in bytes.
    pub offset: u16,
}

pub(super) const POWER_MANAGEMENT: u16 = 0x01;
pub(super) const MSI: u16 = 0x05;
pub(super) const PCI_EXPRESS: u16 = 0x10;
pub(super) const MSI_X: u16 = 0x11;

/// Where the extended list starts.
pub(super) const EXTENDED_START: u16 = 0x100;

const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES_LIST: u16 = 1 << 4;
const CAPABILITIES_POINTER: u16 = 0x34;
/// As many as fit between the header and 0x100: a list that is longer goes in circles.
const LIMIT: usize = (0x100 - 0x40) / 4;
/// As many as fit above 0x100.
const EXTENDED_LIMIT: usize = (0x1000 - 0x100) / 8;

/// The whole list.
pub(super) fn standard<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<Vec<Capability>, RequestError> {
    walk(config, None)
}

/// The offset of one capability; reads no further than to it.
pub(super) fn find<C: Connection>(config: &mut FunctionConfig<'_, C>, id: u16) -> Result<Option<u16>, RequestError> {
    let last = walk(config, Some(id))?.pop();
    Ok(last.filter(|capability| capability.id == id).map(|capability| capability.offset))
}

/// The list, up to and with the capability with the ID `until`.
fn walk<C: Connection>(
    config: &mut FunctionConfig<'_, C>,
    until: Option<u16>,
) -> Result<Vec<Capability>, RequestError> {
    let mut list = Vec::new();
    if config.word(STATUS)? & STATUS_CAPABILITIES_LIST == 0 {
        return Ok(list);
    }
    let mut pointer = config.byte(CAPABILITIES_POINTER)?;
    while pointer >= 0x40 && list.len() < LIMIT {
        let offset = u16::from(pointer & !3);
        let [id, next] = config.word(offset)?.to_le_bytes();
        if id == 0xff {
            break;
        }
        list.push(Capability { id: id.into(), offset });
        if until == Some(id.into()) {
            break;
        }
        pointer = next;
    }
    Ok(list)
}

/// The whole extended list.
pub(super) fn extended<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<Vec<Capability>, RequestError> {
    let mut list = Vec::new();
    let mut offset = EXTENDED_START;
    while offset >= EXTENDED_START && list.len() < EXTENDED_LIMIT {
        let header = config.dword(offset)?;
        if header == 0 || header == u32::MAX {
            break;
        }
        let [low, high, next_low, next_high] = header.to_le_bytes();
        list.push(Capability { id: u16::from_le_bytes([low, high]), offset });
        offset = u16::from_le_bytes([next_low, next_high]) >> 4 & !3;
    }
    Ok(list)
}
