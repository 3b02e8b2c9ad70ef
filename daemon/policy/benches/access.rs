//! What accesses cost under each policy that comes with xenpcid, and what it costs to compile the policy: best of several
//! rounds.
//!
//! Run with `cargo bench -p xenpcid-policy`. An access that does not reach hardware is to take 100 ns or less. For
//! comparison stands a read that does, of a file that the kernel has in memory in place of the device's: the real one
//! costs more.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop where it is")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use xenpcid_config::Policies;
use xenpcid_policy::{Access, ConfigView, Policy, Read, Recording, Snapshot, Terms, Verdict};

const ROUNDS: usize = 10;
const ACCESSES_PER_ROUND: u32 = 200_000;
const COMPILATIONS_PER_ROUND: u32 = 20;
const IDENTITY: Access = Access::dword(0x00);
const REVISION_AND_CLASS: Access = Access::dword(0x08);
const BAR: Access = Access::dword(0x10);

fn main() {
    println!(
        "{:16}{:14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>12}",
        "policy", "device", "read", "size BAR", "discard", "look up", "and read", "ratio", "compile"
    );
    let policies = Policies::shipped().unwrap();
    for name in policies.names() {
        let policy = policies.get(name).unwrap();
        // Some policies are only for devices of a class.
        let devices = ["e1000e", "nvme", "qemu-xhci", "vga"];
        let device = devices.into_iter().find(|device| view(&snapshot(device), policy).is_some()).unwrap();
        measure(policy, device);
    }
    println!(
        "read: emulated; size BAR: write, emulated; discard: write that is dropped; look up: read that passes, without"
    );
    println!("the device's answer; and read: with it, one system call; ratio: of that to an emulated read");
}

fn measure(policy: &Policy, device: &str) {
    let snapshot = snapshot(device);
    let mut view = view(&snapshot, policy).unwrap();
    assert!(matches!(view.read(IDENTITY), Ok(Read { hardware: 0, .. })));
    let read = best(ACCESSES_PER_ROUND, || {
        black_box(view.read(black_box(IDENTITY)).unwrap());
    });
    assert_eq!(view.write(BAR, u32::MAX).unwrap().verdict, Verdict::Emulate);
    let size_bar = best(ACCESSES_PER_ROUND, || {
        black_box(view.write(black_box(BAR), u32::MAX).unwrap());
    });
    assert_eq!(view.write(IDENTITY, 0).unwrap().verdict, Verdict::Discard);
    let discard = best(ACCESSES_PER_ROUND, || {
        black_box(view.write(black_box(IDENTITY), 0).unwrap());
    });
    assert!(matches!(view.read(REVISION_AND_CLASS), Ok(Read { hardware: u32::MAX, .. })));
    let look_up = best(ACCESSES_PER_ROUND, || {
        let read = view.read(black_box(REVISION_AND_CLASS)).unwrap();
        view.told(REVISION_AND_CLASS, black_box(0));
        black_box(read.value(0));
    });
    let file = File::open(path(device)).unwrap();
    let and_read = best(ACCESSES_PER_ROUND, || {
        let read = view.read(black_box(REVISION_AND_CLASS)).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, REVISION_AND_CLASS.offset().into()).unwrap();
        view.told(REVISION_AND_CLASS, u32::from_le_bytes(bytes));
        black_box(read.value(u32::from_le_bytes(bytes)));
    });
    let compile = best(COMPILATIONS_PER_ROUND, || {
        black_box(self::view(black_box(&snapshot), policy).unwrap());
    });
    let nanoseconds = |seconds: f64| format!("{:.1} ns", seconds * 1e9);
    println!(
        "{:16}{:14}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8.0}{:>9.0} us",
        &*policy.name,
        device,
        nanoseconds(read),
        nanoseconds(size_bar),
        nanoseconds(discard),
        nanoseconds(look_up),
        nanoseconds(and_read),
        and_read / read,
        compile * 1e6,
    );
}

fn path(device: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/devices").join(device).with_extension("txt")
}

fn snapshot(device: &str) -> Snapshot {
    Recording::lspci(&std::fs::read_to_string(path(device)).unwrap()).unwrap().snapshot()
}

/// `None` if the policy is not for the device.
fn view(snapshot: &Snapshot, policy: &Policy) -> Option<ConfigView> {
    ConfigView::compile(snapshot, &Terms { policy, name: None, vectors: u16::MAX }).ok()
}

/// Seconds of one call, in the best round.
fn best(calls: u32, mut call: impl FnMut()) -> f64 {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed()
    };
    let best = (0..ROUNDS).map(round).min().unwrap();
    best.as_secs_f64() / f64::from(calls)
}
