//! Capability lists as a guest finds them: without those that are hidden.

use std::ops::Range;

use crate::access::ConfigSize;
use crate::capability::{Capabilities, CapabilityId};
use crate::register::Register;
use crate::registers::{self, AnyCapabilityId};
use crate::snapshot::Snapshot;

const CAPABILITIES_POINTER: u16 = 0x34;
/// Where the extended list starts. What is there can be emptied but not skipped.
pub(crate) const FIRST_EXTENDED: u16 = ConfigSize::Conventional.bytes();

/// The registers of a capability. Of one that has no name, its header is known.
pub(crate) fn layout(id: AnyCapabilityId, offset: u16, snapshot: &Snapshot) -> &'static [Register] {
    match (registers::capability(id), id) {
        (Some(kind), _) => kind.layout(snapshot.vendor, |at| snapshot.byte(offset.saturating_add(at))),
        (None, AnyCapabilityId::Conventional(_)) => registers::CAPABILITY_HEADER,
        (None, AnyCapabilityId::Extended(_)) => registers::EXTENDED_CAPABILITY_HEADER,
    }
}

/// The bytes of each capability, in the order of the lists. One whose length is not known goes on to the next capability
/// above it, or to the end of its space.
pub(crate) fn all_extents(capabilities: &Capabilities, snapshot: &Snapshot) -> Vec<(AnyCapabilityId, Range<u16>)> {
    let conventional = capabilities.conventional.iter().map(|found| {
        let id = AnyCapabilityId::Conventional(found.id);
        let starts = capabilities.conventional.iter().map(|other| other.offset);
        let next = starts.filter(|start| *start > found.offset).min().unwrap_or(FIRST_EXTENDED);
        (id, extent(id, found.offset, next, snapshot))
    });
    let extended = capabilities.extended.iter().map(|found| {
        let id = AnyCapabilityId::Extended(found.id);
        let starts = capabilities.extended.iter().map(|other| other.offset);
        let next = starts.filter(|start| *start > found.offset).min().unwrap_or(ConfigSize::Express.bytes());
        (id, extent(id, found.offset, next, snapshot))
    });
    conventional.chain(extended).collect()
}

fn extent(id: AnyCapabilityId, start: u16, next: u16, snapshot: &Snapshot) -> Range<u16> {
    let layout = layout(id, start, snapshot);
    let known = layout.last().map_or(0, |last| last.offset.saturating_add(last.width.bytes()));
    let length = if id == AnyCapabilityId::Conventional(CapabilityId::VENDOR_SPECIFIC) {
        u16::from(snapshot.byte(start | 2)).max(known)
    } else if layout.len() > 1 {
        known
    } else {
        u16::MAX
    };
    start..start.saturating_add(length).min(next)
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
    for (_, range) in all_extents(capabilities, snapshot).into_iter().filter(|(id, _)| is_hidden(*id)) {
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
