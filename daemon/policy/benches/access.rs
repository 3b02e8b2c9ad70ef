//! What an access costs that does not reach hardware: nanoseconds, best of several rounds.
//!
//! Run with `cargo bench -p xenpcid-policy`.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop where it is")]

#[path = "../tests/config_space/recorded.rs"]
mod recorded;

use std::hint::black_box;
use std::time::Instant;

use xenpcid_policy::{Access, ConfigView, Read, Verdict};

const ROUNDS: usize = 10;
const ACCESSES_PER_ROUND: u32 = 1_000_000;

fn main() {
    let snapshot = recorded::e1000e();
    let mut view = ConfigView::compile(&snapshot).unwrap();

    let identity = Access::dword(0x00);
    assert!(matches!(view.read(identity), Read { hardware: 0, .. }));
    report("read, emulated (vendor and device)", || {
        black_box(view.read(black_box(identity)));
    });

    let bar = Access::dword(0x10);
    assert_eq!(view.write(bar, u32::MAX).unwrap().verdict, Verdict::Emulate);
    report("write, emulated (BAR sizing)", || {
        black_box(view.write(black_box(bar), u32::MAX).unwrap());
    });

    let device_control = Access::word(0xe8);
    assert_eq!(view.write(device_control, 0xf).unwrap().verdict, Verdict::Discard);
    report("write, discarded (PCI Express device control)", || {
        black_box(view.write(black_box(device_control), 0xf).unwrap());
    });
}

fn report(name: &str, mut access: impl FnMut()) {
    let round = |_| {
        let start = Instant::now();
        for _ in 0..ACCESSES_PER_ROUND {
            access();
        }
        start.elapsed()
    };
    let best = (0..ROUNDS).map(round).min().unwrap();
    println!("{name}: {:.1} ns", best.as_secs_f64() * 1e9 / f64::from(ACCESSES_PER_ROUND));
}
