//! Capability lists as a guest finds them: without those that are hidden.

use std::ops::Range;

use crate::access::ConfigSize;
use crate::capability::{Capabilities, CapabilityId, MsiCapability};
use crate::register::Register;
use crate::registers::{self, AnyCapabilityId};
use crate::snapshot::Snapshot;

const CAPABILITIES_POINTER: u16 = 0x34;
/// Where the extended list starts. What is there can be emptied but not skipped.
const FIRST_EXTENDED: u16 = ConfigSize::Conventional.bytes();

/// The layout of a capability, of those that its kind may have.
pub(crate) fn layout(id: AnyCapabilityId, offset: u16, snapshot: &Snapshot) -> &'static [Register] {
    const EXPRESS_VERSION: u16 = 0x000f;
    match id {
        AnyCapabilityId::Conventional(CapabilityId::MSI) => match MsiCapability::at(snapshot, offset) {
            MsiCapability { is_64_bit: false, is_maskable: false, .. } => registers::MSI_32,
            MsiCapability { is_64_bit: true, is_maskable: false, .. } => registers::MSI_64,
            MsiCapability { is_64_bit: false, is_maskable: true, .. } => registers::MSI_32_MASKABLE,
            MsiCapability { is_64_bit: true, is_maskable: true, .. } => registers::MSI_64_MASKABLE,
        },
        AnyCapabilityId::Conventional(CapabilityId::EXPRESS) => {
            if snapshot.word(offset | 2) & EXPRESS_VERSION < 2 {
                registers::EXPRESS
            } else {
                registers::EXPRESS_2
            }
        }
        _ => match (registers::capability(id).and_then(|kind| kind.layouts.first()), id) {
            (Some(layout), _) => layout,
            (None, AnyCapabilityId::Conventional(_)) => registers::CAPABILITY_HEADER,
            (None, AnyCapabilityId::Extended(_)) => registers::EXTENDED_CAPABILITY_HEADER,
        },
    }
}

/// The bytes of each capability of a kind. One whose length is not known goes on to the next capability above it, or to
/// the end of its space.
pub(crate) fn extents(id: AnyCapabilityId, capabilities: &Capabilities, snapshot: &Snapshot) -> Vec<Range<u16>> {
    let (space_end, starts): (u16, Vec<u16>) = match id {
        AnyCapabilityId::Conventional(_) => {
            (FIRST_EXTENDED, capabilities.conventional.iter().map(|capability| capability.offset).collect())
        }
        AnyCapabilityId::Extended(_) => {
            (ConfigSize::Express.bytes(), capabilities.extended.iter().map(|capability| capability.offset).collect())
        }
    };
    let extent = |start: u16| {
        let next = starts.iter().copied().filter(|other| *other > start).min().unwrap_or(space_end);
        let layout = layout(id, start, snapshot);
        let known = layout.last().map_or(0, |last| last.offset.saturating_add(last.width.bytes()));
        let end = if id == AnyCapabilityId::Conventional(CapabilityId::VENDOR_SPECIFIC) {
            start.saturating_add(u16::from(snapshot.byte(start | 2)).max(known))
        } else if layout.len() > 1 {
            start.saturating_add(known)
        } else {
            next
        };
        start..end.min(next)
    };
    capabilities.starts(id).map(extent).collect()
}

/// The space at the time of the claim, without the capabilities that are hidden: the lists lead past them, and their
/// bytes are zero.
pub(crate) fn without(
    snapshot: &Snapshot,
    capabilities: &Capabilities,
    is_hidden: impl Fn(AnyCapabilityId) -> bool,
) -> Vec<u8> {
    let mut config = snapshot.config.clone();
    let conventional: Vec<(u16, bool)> = capabilities
        .conventional
        .iter()
        .map(|capability| (capability.offset, is_hidden(AnyCapabilityId::Conventional(capability.id))))
        .collect();
    let extended: Vec<(u16, bool)> = capabilities
        .extended
        .iter()
        .map(|capability| (capability.offset, is_hidden(AnyCapabilityId::Extended(capability.id))))
        .collect();
    let kinds = capabilities.conventional.iter().map(|capability| AnyCapabilityId::Conventional(capability.id));
    let kinds = kinds.chain(capabilities.extended.iter().map(|capability| AnyCapabilityId::Extended(capability.id)));
    for range in kinds.filter(|id| is_hidden(*id)).flat_map(|id| extents(id, capabilities, snapshot)) {
        let (start, length) = (usize::from(range.start), usize::from(range.end.saturating_sub(range.start)));
        config.iter_mut().skip(start).take(length).for_each(|byte| *byte = 0);
    }
    if conventional.iter().any(|(_, hidden)| *hidden) {
        let mut pointer_at = CAPABILITIES_POINTER;
        for (offset, _) in conventional.iter().filter(|(_, hidden)| !hidden) {
            put(&mut config, pointer_at, &[offset.to_le_bytes()[0]]);
            pointer_at = offset | 1;
        }
        put(&mut config, pointer_at, &[0]);
    }
    if extended.iter().any(|(_, hidden)| *hidden) {
        let mut visible = extended.iter().filter(|(_, hidden)| !hidden).map(|(offset, _)| *offset).peekable();
        if visible.peek() != Some(&FIRST_EXTENDED) {
            // A capability of no kind (PCIe 7.9.28), and nothing at all where no other follows.
            let next = visible.peek().copied().unwrap_or(0);
            put(&mut config, FIRST_EXTENDED, &(u32::from(next) << 20).to_le_bytes());
        }
        while let Some(offset) = visible.next() {
            let version = snapshot.word(offset | 2) & 0xf;
            let next = visible.peek().copied().unwrap_or(0);
            put(&mut config, offset | 2, &(next << 4 | version).to_le_bytes());
        }
    }
    config
}

fn put(config: &mut [u8], offset: u16, bytes: &[u8]) {
    for (byte, value) in config.iter_mut().skip(usize::from(offset)).zip(bytes) {
        *byte = *value;
    }
}
