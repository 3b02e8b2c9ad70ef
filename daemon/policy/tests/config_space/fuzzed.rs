//! Devices, policies and guests made from any bytes: what fuzzers and property tests drive.

use std::sync::Arc;

use xenpcid_policy::policy::{
    DeviceMatch, Layer, Origin, Otherwise, Place, Policy, ReadAction, Rule, Visibility, WriteAction, overlap,
};
use xenpcid_policy::{AnyCapabilityId, CompileError, InterruptMode, Snapshot, Width, registers};

use crate::devices;
use crate::machine::access;
use crate::pair::Pair;
use crate::policies::all_shipped;
use crate::reference::walk::walk;
use crate::watch::Watched;

/// Numbers from bytes; zero when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn dword(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.word()) % choices.len()]
    }

    /// With this chance in 256.
    fn chance(&mut self, chance: u8) -> bool {
        self.byte() < chance
    }

    fn width(&mut self) -> Width {
        self.one_of(&Width::ALL)
    }

    /// Bits as they matter: all, none, one, any.
    fn value(&mut self) -> u32 {
        match self.byte() % 4 {
            0 => u32::MAX,
            1 => 1 << (self.byte() % 32),
            2 => u32::MAX << (self.byte() % 32),
            _ => self.dword(),
        }
    }
}

/// Does what the bytes say, and checks everything that can be checked meanwhile.
pub fn check(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (snapshot, is_as_recorded) = device(&mut bytes);
    let vectors = bytes.one_of(&[128, 1, 0, 4, u16::MAX]);
    let shipped = all_shipped();
    let is_shipped = bytes.chance(64);
    let mut policy = if is_shipped {
        Policy::clone(&shipped[usize::from(bytes.byte()) % shipped.len()])
    } else {
        made_up_policy(&mut bytes, &snapshot)
    };
    let pair = loop {
        match Pair::new(&snapshot, &policy, vectors) {
            Ok(pair) => break pair,
            Err(CompileError::Unsupported(_) | CompileError::NotForDevice { .. }) => return,
            // What the device is has shown that a rule is wrong: without it, then.
            Err(CompileError::Rule { origin, .. } | CompileError::Overlap { second: origin, .. }) => {
                assert!(!(is_shipped && is_as_recorded), "{origin} is wrong on a device");
                policy.layers.iter_mut().for_each(|layer| layer.rules.retain(|rule| rule.origin != origin));
            }
        }
    };
    let mut watched = Watched::new(pair, &snapshot);
    for _ in 0..200 {
        if bytes.0.is_empty() {
            break;
        }
        act(&mut watched, &mut bytes);
    }
    watched.check_what_is_shown(is_shipped && &*policy.name != "pciback");
    watched.pair.undo(&snapshot);
}

/// One thing that the guest, the daemon or the device does.
fn act(watched: &mut Watched, bytes: &mut Bytes<'_>) {
    let end = watched.pair.machine.view.size().bytes();
    let offset = if bytes.chance(128) { bytes.word() % end } else { bytes.word() % 256 };
    match bytes.byte() {
        0 => watched.pair.reset(),
        1..8 => watched.pair.set_interrupt_mode(bytes.one_of(&[
            InterruptMode::None,
            InterruptMode::Msi,
            InterruptMode::Msix,
        ])),
        8..24 => watched.pair.change_hardware(offset, bytes.byte()),
        24..80 => watched.pair.read(access(offset, bytes.width())),
        _ => {
            let access = access(offset, bytes.width());
            watched.write(access, bytes.value());
        }
    }
}

/// One of the devices, perhaps with some bytes changed, and with capabilities that are of other kinds; whether it is as it was.
fn device(bytes: &mut Bytes<'_>) -> (Snapshot, bool) {
    let mut snapshot = devices::ALL[usize::from(bytes.byte()) % devices::ALL.len()].snapshot.clone();
    let is_changed = bytes.chance(64);
    if is_changed {
        for _ in 0..bytes.byte() % 8 {
            let at = usize::from(bytes.word()) % snapshot.config.len();
            snapshot.config[at] = bytes.byte();
        }
        for _ in 0..bytes.byte() % 4 {
            change_kind(&mut snapshot.config, bytes);
        }
        snapshot.config[0x0e] &= 0x80;
        snapshot.is_virtual_function = bytes.chance(32);
        snapshot.interrupt_line = bytes.byte();
    }
    (snapshot, !is_changed)
}

/// Gives one of the capabilities another identifier, and another value to the third of its dwords, which says how long a
/// Resizable BAR is.
fn change_kind(config: &mut [u8], bytes: &mut Bytes<'_>) {
    let Ok(found) = walk(config) else { return };
    let Some(capability) = found.get(usize::from(bytes.byte()) % found.len().max(1)) else { return };
    let at = usize::from(capability.at);
    match self::capability(bytes) {
        AnyCapabilityId::Conventional(id) if !capability.is_extended() => config[at] = id.0,
        AnyCapabilityId::Extended(id) if capability.is_extended() => {
            config[at..at + 2].copy_from_slice(&id.0.to_le_bytes());
            config[at + 8] = bytes.byte();
        }
        _ => {}
    }
}

/// What an operator could write. Of rules that the parser would refuse, the second is left out.
fn made_up_policy(bytes: &mut Bytes<'_>, snapshot: &Snapshot) -> Policy {
    let mut line = 0;
    let layers = (0..=bytes.byte() % 3).map(|_| layer(bytes, &mut line, snapshot)).collect();
    let name: Arc<str> = "made-up".into();
    Policy { name: name.clone(), description: name, applies_to: DeviceMatch::default(), layers }
}

fn layer(bytes: &mut Bytes<'_>, line: &mut usize, snapshot: &Snapshot) -> Layer {
    let mut origin = || {
        *line += 1;
        Origin { policy: "made-up".into(), line: *line }
    };
    let otherwise = bytes.chance(128).then(|| {
        let (read, write) = bytes.one_of(&[
            (ReadAction::Pass, WriteAction::Pass),
            (ReadAction::Pass, WriteAction::Discard),
            (ReadAction::Pass, WriteAction::Deny),
            (ReadAction::Emulate, WriteAction::Emulate),
            (ReadAction::Emulate, WriteAction::Discard),
            (ReadAction::Emulate, WriteAction::Deny),
        ]);
        Otherwise { read, write, why: "".into(), origin: origin() }
    });
    let mut visibility: Vec<Visibility> = Vec::new();
    for _ in 0..bytes.byte() % 6 {
        let capability = capability(bytes);
        if !visibility.iter().any(|other| other.capability == capability) {
            visibility.push(Visibility { capability, hidden: bytes.chance(200), why: "".into(), origin: origin() });
        }
    }
    let mut rules: Vec<Rule> = Vec::new();
    for _ in 0..bytes.byte() % 24 {
        let rule = rule(bytes, origin(), snapshot);
        let is_for_hidden =
            visibility.iter().any(|other| other.hidden && Some(other.capability) == rule.place.capability());
        if rule.check().is_ok() && !is_for_hidden && !rules.iter().any(|other| overlap(other, &rule)) {
            rules.push(rule);
        }
    }
    Layer { otherwise, rules, visibility }
}

fn capability(bytes: &mut Bytes<'_>) -> AnyCapabilityId {
    registers::CAPABILITIES[usize::from(bytes.byte()) % registers::CAPABILITIES.len()].id
}

fn rule(bytes: &mut Bytes<'_>, origin: Origin, snapshot: &Snapshot) -> Rule {
    let place = match bytes.byte() % 8 {
        0 => Place::at((bytes.word() & 0xfff).into(), 1),
        1 => Place::at((bytes.byte() & !3).into(), bytes.one_of(&[1, 2, 4])),
        2 | 3 => Place::in_capability(capability(bytes), (bytes.byte() & 0x3c).into(), bytes.one_of(&[1, 2, 4])),
        4 => Place::named(registers::HEADER[usize::from(bytes.byte()) % registers::HEADER.len()].name),
        _ => {
            let kind = &registers::CAPABILITIES[usize::from(bytes.byte()) % registers::CAPABILITIES.len()];
            let layouts: Vec<_> = kind.layouts.iter().chain(kind.layouts_of_owners).collect();
            let layout = layouts[layouts.len() - 1];
            Place::named(layout[usize::from(bytes.byte()) % layout.len()].name)
        }
    };
    let place = place.unwrap();
    let mask = bytes.value() & place.width().mask();
    let (read, write) = bytes.one_of(&[
        (ReadAction::Pass, WriteAction::Pass),
        (ReadAction::Pass, WriteAction::Discard),
        (ReadAction::Pass, WriteAction::Deny),
        (ReadAction::Emulate, WriteAction::Emulate),
        (ReadAction::Emulate, WriteAction::Discard),
        (ReadAction::Emulate, WriteAction::Deny),
        (ReadAction::Deny, WriteAction::Pass),
        (ReadAction::Deny, WriteAction::Discard),
    ]);
    let reset_value = (read == ReadAction::Emulate && bytes.chance(100)).then(|| bytes.dword() & mask);
    let when = when(bytes, snapshot);
    let undo = bytes.chance(200);
    Rule { place, mask, read, write, reset_value, undo, when, why: "".into(), origin }
}

/// Mostly every device; else some by what this one is, or is not.
fn when(bytes: &mut Bytes<'_>, snapshot: &Snapshot) -> DeviceMatch {
    let none = DeviceMatch::default();
    let not = u8::from(bytes.chance(128));
    let word = |value: u16| vec![0x1d0f, value ^ u16::from(not)];
    match bytes.byte() % 16 {
        0 => DeviceMatch { vendor: word(snapshot.vendor), ..none },
        1 => DeviceMatch { device: word(snapshot.device), ..none },
        2 => DeviceMatch { subsystem_vendor: word(snapshot.word(0x2c)), ..none },
        3 => DeviceMatch { subsystem: word(snapshot.word(0x2e)), ..none },
        4 => DeviceMatch { revision: vec![snapshot.byte(0x08) ^ not], ..none },
        5 => DeviceMatch {
            class: vec![(snapshot.dword(0x08) >> 8 & 0xff_ff00 ^ u32::from(not) << 8, 0xff_ff00)],
            ..none
        },
        6 => DeviceMatch { name: vec!["uplink*".to_owned()], ..none },
        _ => none,
    }
}
