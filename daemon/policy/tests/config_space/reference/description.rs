//! What becomes of each bit of a device under a policy, worked out bit by bit from what the operator wrote.

use xenpcid_policy::policy::{DeviceMatch, Place, Policy, ReadAction, WriteAction};
use xenpcid_policy::{AnyCapabilityId, Snapshot, Width};

use super::bars::{Bar, bars};
use super::registers::{self, Register, Shown};
use super::walk::{Found, Kind, byte, dword, walk, without, word};

/// One bit.
#[derive(Clone, Copy, Debug)]
pub struct Bit {
    pub read: ReadAction,
    pub write: WriteAction,
    /// How it is guarded, if it is.
    pub guarded: Option<Shown>,
    /// Whether only a 1 does something.
    pub acts_on_one: bool,
    /// Whether a 1 does something whatever the bit reads.
    pub is_command: bool,
    /// Whether nobody misses a write to it.
    pub is_quiet: bool,
    /// What it reads at first, where it is emulated.
    pub initial: bool,
    /// Whether the policy has the device answer although the bit is guarded.
    pub is_read_through: bool,
    /// Whether it has a name, of its register or by a rule, and no rule says that the next guest finds what was written.
    pub is_undone: bool,
}

/// A device under a policy.
#[derive(Clone, Debug)]
pub struct Description {
    /// Eight for each byte.
    pub bits: Vec<Bit>,
    /// For each byte the first byte and the length of the register that it belongs to.
    pub owners: Vec<Option<(u16, u16)>>,
    pub bars: Vec<Bar>,
    /// Where the power state is, and which states there are.
    pub power: Option<(u16, Vec<u8>)>,
    /// Bytes whose bit 7 or 0 has the function reset, with the bit, if the device can be reset so.
    pub resets: Vec<u16>,
    pub hidden: Vec<Kind>,
}

pub fn kind(id: AnyCapabilityId) -> Kind {
    match id {
        AnyCapabilityId::Conventional(id) => Kind::Conventional(id.0),
        AnyCapabilityId::Extended(id) => Kind::Extended(id.0),
    }
}

/// Whether a list of an operator's is for this device.
pub fn fits(when: &DeviceMatch, snapshot: &Snapshot) -> bool {
    let config = &snapshot.config;
    let class = dword(config, 0x08) >> 8;
    let any = |values: &[u16], value| values.is_empty() || values.contains(&value);
    any(&when.vendor, snapshot.vendor)
        && any(&when.device, snapshot.device)
        && any(&when.subsystem_vendor, word(config, 0x2c))
        && any(&when.subsystem, word(config, 0x2e))
        && (when.revision.is_empty() || when.revision.contains(&byte(config, 0x08)))
        && (when.class.is_empty() || when.class.iter().any(|(value, mask)| class & mask == value & mask))
        // The devices of these tests have no names.
        && when.name.is_empty()
}

/// The kinds that the policy hides: the topmost layer that mentions a kind says.
fn hidden_kinds(policy: &Policy) -> Vec<Kind> {
    let mut hidden = Vec::new();
    for visibility in policy.layers.iter().flat_map(|layer| &layer.visibility) {
        let kind = kind(visibility.capability);
        hidden.retain(|other| *other != kind);
        if visibility.hidden {
            hidden.push(kind);
        }
    }
    hidden
}

impl Description {
    pub fn new(snapshot: &Snapshot, policy: &Policy, vectors: u16) -> Self {
        let config = &snapshot.config;
        let found = walk(config).unwrap();
        let hidden = hidden_kinds(policy);
        let listed = without(snapshot, &found, |kind| hidden.contains(&kind));
        let placed = place(&found, snapshot);
        let mut registers: Vec<Option<&(u16, Register)>> = vec![None; config.len()];
        for owner in &placed {
            (owner.0..owner.0 + owner.1.bytes).for_each(|at| registers[usize::from(at)] = Some(owner));
        }
        let owner_of = |at: u16| registers[usize::from(at)];
        let otherwise = policy.layers.iter().rev().find_map(|layer| layer.otherwise.as_ref());
        let natural = |at: u16, n: u16| natural_value(snapshot, vectors, &listed, owner_of(at), at, n);

        let mut bits = Vec::new();
        for at in 0..config.len() as u16 {
            for n in 0..8 {
                let mut bit = Bit {
                    read: otherwise.map_or(ReadAction::Pass, |otherwise| otherwise.read),
                    write: otherwise.map_or(WriteAction::Discard, |otherwise| otherwise.write),
                    guarded: None,
                    acts_on_one: false,
                    is_command: false,
                    is_quiet: false,
                    initial: natural(at, n),
                    is_read_through: false,
                    is_undone: owner_of(at).is_some(),
                };
                if let Some((start, register)) = owner_of(at) {
                    let in_register = (at - start) * 8 + n;
                    bit.guarded = register.guarded(in_register);
                    bit.is_command =
                        register.is_command(in_register) || matches!(bit.guarded, Some(Shown::Reset | Shown::Trigger));
                    bit.acts_on_one = bit.is_command || register.is_cleared_by_one(in_register);
                    bit.is_quiet = matches!(register.name, "msi.control" | "msix.control");
                }
                if let Some(shown) = bit.guarded {
                    (bit.read, bit.write) = if_nothing_is_said(shown);
                }
                bits.push(bit);
            }
        }

        let mut owners: Vec<Option<(u16, u16)>> =
            (0..config.len() as u16).map(|at| owner_of(at).map(|(start, register)| (*start, register.bytes))).collect();
        let mut only_of_rules = Vec::new();
        let rules =
            policy.layers.iter().enumerate().flat_map(|(n, layer)| layer.rules.iter().map(move |rule| (n, rule)));
        let mut said_by = vec![None; bits.len()];
        for (layer, rule) in rules.filter(|(_, rule)| fits(&rule.when, snapshot)) {
            let bytes = rule.place.width().bytes();
            for start in places(&rule.place, &found, &placed, config.len() as u16) {
                for n in (0..bytes * 8).filter(|n| rule.mask >> n & 1 != 0) {
                    let at = usize::from(start * 8 + n);
                    if let Some((of_layer, first)) = said_by[at].replace((layer, rule)) {
                        assert!(of_layer != layer || first == rule, "two rules of one layer: {first:?}, {rule:?}");
                    }
                    let bit = &mut bits[at];
                    (bit.read, bit.write) = (rule.read, rule.write);
                    bit.is_undone = rule.undo;
                    bit.is_read_through = rule.read == ReadAction::Pass && bit.guarded.is_some();
                    bit.initial = match rule.reset_value {
                        Some(value) => value >> n & 1 != 0,
                        None => natural(start + n / 8, n % 8),
                    };
                }
                if (start..start + bytes).all(|at| owner_of(at).is_none()) {
                    only_of_rules.push((start, bytes));
                }
            }
        }
        // Bytes that only rules name are a register as wide as the widest rule that starts there.
        only_of_rules.sort_unstable();
        for (start, bytes) in only_of_rules {
            (start..start + bytes).for_each(|at| owners[usize::from(at)] = Some((start, bytes)));
        }

        for capability in found.iter().filter(|found| hidden.contains(&found.kind)) {
            for at in capability.at..capability.end(&found, snapshot) {
                for n in 0..8 {
                    bits[usize::from(at * 8 + n)] = Bit {
                        read: ReadAction::Emulate,
                        write: WriteAction::Discard,
                        guarded: None,
                        acts_on_one: false,
                        is_command: false,
                        is_quiet: false,
                        initial: listed[usize::from(at)] >> n & 1 != 0,
                        is_read_through: false,
                        is_undone: false,
                    };
                }
            }
        }

        let visible =
            |kind| found.iter().find(|found| found.kind == kind && !hidden.contains(&kind)).map(|found| found.at);
        let power = visible(Kind::Conventional(0x01)).map(|at| {
            // PM 3.2.3: bit 9 is D1, bit 10 is D2; D0 and D3hot are always there.
            let capabilities = word(config, at + 2);
            let states = [(0, true), (1, capabilities & 1 << 9 != 0), (2, capabilities & 1 << 10 != 0), (3, true)];
            (at + 4, states.into_iter().filter(|(_, there)| *there).map(|(state, _)| state).collect())
        });
        // AF: FLR is bit 1 of the capabilities at 3, Initiate FLR is in byte 4. PCIe 7.5.3.3: FLR Capability is bit 28 of
        // the dword at 4, Initiate FLR is in byte 9.
        let advanced = found.iter().filter(|found| found.kind == Kind::Conventional(0x13));
        let advanced = advanced.filter(|found| byte(config, found.at + 3) & 0x02 != 0).map(|found| found.at + 4);
        let express = found.iter().filter(|found| found.kind == Kind::Conventional(0x10));
        let express = express.filter(|found| dword(config, found.at + 4) & 1 << 28 != 0).map(|found| found.at + 9);
        let resets = advanced.chain(express).collect();
        Self { bits, owners, bars: bars(snapshot), power, resets, hidden }
    }
}

/// Every register at its place. Where two lie over one another, the first has the bytes.
fn place(found: &[Found], snapshot: &Snapshot) -> Vec<(u16, Register)> {
    let mut placed: Vec<(u16, Register)> = Vec::new();
    let in_capabilities = found.iter().flat_map(|found| {
        let end = if found.is_extended() { 0x1000 } else { 0x100 };
        registers::of(found.kind, found.at, snapshot).into_iter().map(move |register| (found.at, end, register))
    });
    // Where there is no extended list, its first header is there all the same, and says so.
    let has_none = snapshot.config.len() == 0x1000 && !found.iter().any(Found::is_extended);
    let no_list = if has_none { registers::of(Kind::Extended(0), 0x100, snapshot) } else { Vec::new() };
    let in_header = registers::of_header().into_iter().map(|register| (0, 0x100, register));
    let no_list = no_list.into_iter().map(|register| (0x100, 0x1000, register));
    for (base, end, register) in in_header.chain(in_capabilities).chain(no_list) {
        let start = base + register.offset;
        let is_free = placed.iter().all(|(at, other)| at + other.bytes <= start || start + register.bytes <= *at);
        if is_free && start + register.bytes <= end {
            placed.push((start, register));
        }
    }
    placed
}

/// Where a rule's place is on the device.
fn places(place: &Place, found: &[Found], placed: &[(u16, Register)], length: u16) -> Vec<u16> {
    match *place {
        Place::Named { name, .. } => {
            placed.iter().filter(|(_, register)| register.name == name).map(|(start, _)| *start).collect()
        }
        Place::InCapability { capability, offset, width } => found
            .iter()
            .filter(|found| found.kind == kind(capability))
            .filter(|found| found.at + offset + width.bytes() <= if found.is_extended() { 0x1000 } else { 0x100 })
            .map(|found| found.at + offset)
            .collect(),
        Place::At { offset, width: Width::Byte | Width::Word | Width::Dword } => {
            [offset].into_iter().filter(|offset| *offset < length).collect()
        }
    }
}

/// What becomes of guarded bits that no rule names.
fn if_nothing_is_said(shown: Shown) -> (ReadAction, WriteAction) {
    match shown {
        Shown::Hardware | Shown::Trigger => (ReadAction::Pass, WriteAction::Discard),
        Shown::Kept | Shown::Power | Shown::Address | Shown::Reset => (ReadAction::Emulate, WriteAction::Emulate),
        _ => (ReadAction::Emulate, WriteAction::Discard),
    }
}

/// What an emulated bit reads at first unless a rule says so.
fn natural_value(
    snapshot: &Snapshot,
    vectors: u16,
    listed: &[u8],
    owner: Option<&(u16, Register)>,
    at: u16,
    n: u16,
) -> bool {
    let as_listed = listed[usize::from(at)] >> n & 1 != 0;
    let Some((start, register)) = owner else { return as_listed };
    let in_register = (at - start) * 8 + n;
    let of = |value: u32| value >> in_register & 1 != 0;
    match register.guarded(in_register) {
        None | Some(Shown::Hardware | Shown::Trigger | Shown::Claimed | Shown::Listed) => as_listed,
        Some(Shown::Vendor) => of(snapshot.vendor.into()),
        Some(Shown::Device) => of(snapshot.device.into()),
        Some(Shown::Line) => of(snapshot.interrupt_line.into()),
        Some(Shown::Pin) => as_listed && snapshot.interrupt_line != 0 && !snapshot.is_virtual_function,
        // The field holds the number of entries less one; one request asks for at most 128.
        Some(Shown::TableSize) => {
            let entries = (word(&snapshot.config, *start) & 0x7ff) + 1;
            of(u32::from(entries.min(128).min(vectors.max(1))) - 1)
        }
        Some(Shown::Address) => bars(snapshot).iter().any(|bar| bar.at == *start && of(bar.address)),
        Some(Shown::Zero | Shown::Kept | Shown::MsiEnable | Shown::MsixEnable | Shown::Power | Shown::Reset) => false,
    }
}
