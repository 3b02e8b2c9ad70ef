//! Suggested policies, on the recorded devices.
#![expect(clippy::unwrap_used, reason = "the helpers of a test are a test")]

#[path = "../../tests/fuzz/properties/devices.rs"]
mod devices;

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::Device;
use proptest::prelude::*;
use xenpcid_config::Policies;
use xenpcid_config::policy::{Missed, Operation, suggest};
use xenpcid_policy::policy::{DeviceIdentity, ReadAction, WriteAction};
use xenpcid_policy::{Access, Plan, Policy, Snapshot, Terms, Width};

fn terms(policy: &Policy) -> Terms<'_> {
    Terms { policy, name: None, vectors: 128 }
}

fn plan(snapshot: &Snapshot, policy: &Policy) -> Plan {
    Plan::new(snapshot, &terms(policy)).map_err(|error| error.to_string()).unwrap()
}

/// The policy that is the last of the texts, which may extend the others.
fn read(texts: &[&str]) -> Arc<Policy> {
    let name = |text: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix("name = \"")?.strip_suffix('"')?.to_owned())).unwrap()
    };
    let files = texts.iter().map(|text| (format!("{}.toml", name(text)).into(), (*text).to_owned()));
    let policies = Policies::with(files).map_err(|error| format!("{error}\n\n{texts:?}")).unwrap();
    Arc::clone(policies.get(&name(texts.last().unwrap())).unwrap())
}

/// What becomes of reads and writes, bit by bit.
fn treatments(plan: &Plan, snapshot: &Snapshot) -> Vec<(ReadAction, WriteAction)> {
    let otherwise = plan.otherwise();
    let mut bits = vec![(otherwise.read, otherwise.write); snapshot.config.len() * 8];
    for register in plan.explain() {
        for group in &register.bits {
            for n in (0..32).filter(|n| group.mask >> n & 1 != 0) {
                bits[usize::from(register.access.offset()) * 8 + n] = (group.read, group.write);
            }
        }
    }
    for capability in plan.explain_capabilities().filter(|capability| capability.hidden.is_some()) {
        let extent = usize::from(capability.extent.start) * 8..usize::from(capability.extent.end) * 8;
        bits[extent].fill((ReadAction::Emulate, WriteAction::Discard));
    }
    bits
}

fn bits_of(access: Access, mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |n| mask >> n & 1 != 0).map(move |n| usize::from(access.offset()) * 8 + n)
}

/// Bits that no policy gives away.
fn guarded(device: &Device) -> BTreeSet<usize> {
    device.guarded.iter().flat_map(|(offset, mask)| bits_of(Access::dword(*offset), *mask)).collect()
}

/// The text with the mark removed from every line of the blocks that are `chosen`.
fn uncommented(text: &str, chosen: impl Fn(usize) -> bool) -> (String, usize) {
    let (mut lines, mut blocks, mut inside) = (Vec::new(), 0, false);
    for line in text.lines() {
        match line.strip_prefix("#! ") {
            Some(rule) => {
                blocks += usize::from(!inside);
                inside = true;
                lines.push(if chosen(blocks - 1) { rule } else { line });
            }
            None => {
                inside = false;
                lines.push(line);
            }
        }
    }
    (lines.join("\n"), blocks)
}

/// What the guest misses when it does that, as the daemon records it.
fn tried(snapshot: &Snapshot, policy: &Policy, accesses: &[(u16, Width, bool, u32)]) -> Vec<Missed> {
    let mut view = plan(snapshot, policy).view();
    let mut missed = Vec::new();
    for &(place, width, is_write, value) in accesses {
        let offset = i32::from(place % view.size().bytes()) & -i32::from(width.bytes());
        let access = Access::new(offset, i32::from(width.bytes()), view.size()).unwrap();
        let value = value & width.mask();
        let (operation, bits) = match (is_write, view.read(access).err()) {
            (false, denied) => (Operation::Read, denied.map_or(0, |denied| denied.bits)),
            (true, _) => match view.write(access, value) {
                Ok(write) => (Operation::Write, write.missed),
                Err(denied) => (Operation::Write, denied.bits),
            },
        };
        for (register, bits) in view.registers(access, bits) {
            missed.push(Missed { register, operation, bits, count: 1, last_value: value });
        }
    }
    missed
}

/// `own` is the text of `policy`, if it is not a shipped one.
fn check(device: &Device, policy: &Policy, own: &[&str], missed: &[Missed]) {
    let read = |text: &str| self::read(&[own, &[text]].concat());
    let snapshot = &device.snapshot;
    let before = plan(snapshot, policy);
    let had = treatments(&before, snapshot);
    let text = suggest(snapshot, &terms(policy), missed).unwrap();
    let wanted = |operation| -> BTreeSet<usize> {
        let entries = missed.iter().filter(|missed| missed.operation == operation);
        entries.flat_map(|missed| bits_of(missed.register, missed.bits)).collect()
    };
    let (reads, writes) = (wanted(Operation::Read), wanted(Operation::Write));

    // As it is: nothing but wanted bits has changed, and those pass.
    let as_it_is = treatments(&plan(snapshot, &read(&text)), snapshot);
    for (at, (had, has)) in had.iter().zip(&as_it_is).enumerate() {
        let passes = writes.contains(&at) && has.1 == WriteAction::Pass;
        assert!(had == has || passes, "bit {at}: {had:?} {has:?}\n{text}");
    }

    // With everything that is commented out: every wanted bit passes, unless no policy can give it.
    let (all, blocks) = uncommented(&text, |_| true);
    let with_all = plan(snapshot, &read(&all));
    let guarded = guarded(device);
    let has = treatments(&with_all, snapshot);
    let shown: Vec<_> = before
        .explain_capabilities()
        .filter(|hidden| hidden.hidden.is_some() && with_all.shows(hidden.id))
        .flat_map(|shown| usize::from(shown.extent.start) * 8..usize::from(shown.extent.end) * 8)
        .collect();
    for (at, (had, has)) in had.iter().zip(&has).enumerate() {
        if writes.contains(&at) && !guarded.contains(&at) {
            assert_eq!(has.1, WriteAction::Pass, "bit {at}\n{text}");
        } else if reads.contains(&at) {
            assert_eq!(*has, (ReadAction::Pass, had.1), "bit {at}\n{text}");
        } else {
            assert!(had == has || shown.contains(&at), "bit {at}: {had:?} {has:?}\n{text}");
        }
    }

    // Each of them alone.
    for block in 0..blocks {
        plan(snapshot, &read(&uncommented(&text, |n| n == block).0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn suggested_policy_lets_pass_what_was_missed_and_changes_nothing_else(
        accesses in prop::collection::vec(
            (any::<u16>(), prop::sample::select(&Width::ALL[..]), any::<bool>(), any::<u32>()), 1..40
        ),
        low in any::<bool>(),
        choice in any::<prop::sample::Index>(),
    ) {
        let policies = Policies::shipped().unwrap();
        let devices = devices::recorded();
        let device = &devices[choice.index(devices.len())];
        let snapshot = &device.snapshot;
        // Half of the time in the first 512 bytes, where the registers are.
        let accesses: Vec<_> =
            accesses.into_iter().map(|(at, width, is_write, value)| (if low { at % 512 } else { at }, width, is_write, value)).collect();
        let identity = DeviceIdentity::new(snapshot, None);
        for name in policies.names() {
            let policy = policies.get(name).unwrap();
            if policy.applies_to.matches(&identity) {
                check(device, policy, &[], &tried(snapshot, policy, &accesses));
            }
        }
    }
}

fn device(name: &str) -> &'static Device {
    devices::recorded().iter().find(|device| device.name == name).unwrap()
}

#[test]
fn suggestion_says_of_each_register_what_was_tried_and_what_is_dangerous() {
    let snapshot = &device("igb").snapshot;
    let policies = Policies::shipped().unwrap();
    let policy = policies.get("default").unwrap();
    let accesses = [
        (0x04, Width::Word, true, 0x0200),
        (0x168, Width::Word, true, 0x0001),
        (0x170, Width::Word, true, 0x0007),
        (0xf0, Width::Dword, true, 0x0007),
        (0xc8, Width::Word, true, 0x0005),
        (0xc8, Width::Word, true, 0x0004),
    ];
    let mut missed = tried(snapshot, policy, &accesses);
    missed.dedup_by(|second, first| {
        let same = second.register == first.register;
        if same {
            *first = Missed { count: first.count + second.count, last_value: second.last_value, ..*first };
        }
        same
    });

    let text = suggest(snapshot, &terms(policy), &missed).unwrap();

    assert_eq!(
        text,
        r##"# What guests tried with 8086:10c9 under the policy default and did not get, the most dangerous first. What is
# dangerous is commented out: read the reason, and remove "#! " from all lines of a rule to let it pass.
# Save it as /etc/xenpcid/policies/default-8086-10c9.toml.
name = "default-8086-10c9"
description = "The policy default, and what 8086:10c9 was seen to need beside it."
extends = "default"

[match]
vendor = 0x8086
device = 0x10c9

# sriov.ctl, bits 0x0001: written once, last 0x1.
# No policy can let it pass: virtual functions are the host's to make: each is a device with a requester ID of its
# own, that nobody has claimed.

# sriov.num_vfs, bits 0x0007: written once, last 0x7.
# DANGEROUS: the policy hides the capability sriov. Virtual functions are the host's to make: each is a device with a
# requester ID of its own, which nobody has claimed.
#! [[show]]
#! capability = "sriov"
#! why = "The guest wrote to it, and it was hidden by default."
#! [[rule]]
#! register = "sriov.num_vfs"
#! mask = 0x0007
#! read = "pass"
#! write = "pass"
#! why = "Suggested: written once, last 0x7."

# command, bits 0x0200: written once, last 0x200. Discarded now: no rule lets a guest write here.
# DANGEROUS: the bus interface decides how errors and accesses of this device reach the host.
#! [[rule]]
#! register = "command"
#! mask = 0x0200
#! read = "pass"
#! write = "pass"
#! why = "Suggested: written once, last 0x200."

# 0x0f0, bits 0x00000007: written once, last 0x7. Discarded now: no rule lets a guest write here.
# DANGEROUS: nobody knows what this register does: ask the device's datasheet.
#! [[rule]]
#! offset = 0xf0
#! width = 4
#! mask = 0x00000007
#! read = "pass"
#! write = "pass"
#! why = "Suggested: written once, last 0x7."

# pcie.devctl2, bits 0x0005: written 2 times, last 0x4. Discarded now: no rule lets a guest write here.
[[rule]]
register = "pcie.devctl2"
mask = 0x0005
read = "pass"
write = "pass"
why = "Suggested: written 2 times, last 0x4."
"##
    );
}

#[test]
fn suggestion_for_a_suggested_policy_has_a_name_of_its_own_and_says_how_to_choose_it() {
    let snapshot = &device("e1000e").snapshot;
    let policies = Policies::shipped().unwrap();
    let first = suggest(snapshot, &terms(policies.get("default").unwrap()), &[]).unwrap();
    assert!(first.ends_with("\n# Nothing was missed that this policy could give.\n"), "{first}");

    let second = suggest(snapshot, &terms(&read(&[&first])), &[]).unwrap();

    assert!(second.contains("name = \"default-8086-10d3-2\"\n"), "{second}");
    assert!(second.contains("extends = \"default-8086-10d3\"\n"), "{second}");
    assert!(second.contains("write policy = \"default-8086-10d3-2\" in the device's entry"), "{second}");
}

#[test]
fn read_that_the_policy_refuses_is_suggested_and_commented_out() {
    let device = device("e1000e");
    let own = r#"name = "secret"
description = "Hides the serial number."
[[rule]]
register = "dsn.lower"
read = "deny"
why = "Guests are not to know on which host they are."
"#;
    let policy = read(&[own]);
    let missed = tried(&device.snapshot, &policy, &[(0x144, Width::Dword, false, 0)]);

    check(device, &policy, &[own], &missed);

    let text = suggest(&device.snapshot, &terms(&policy), &missed).unwrap();
    assert!(text.contains("# dsn.lower, bits 0xffffffff: read once. Refused now (policy secret line 3):"), "{text}");
    assert!(text.contains("# DANGEROUS: the policy refuses it."), "{text}");
    assert!(text.contains("#! read = \"pass\"\n#! write = \"discard\""), "{text}");
}
