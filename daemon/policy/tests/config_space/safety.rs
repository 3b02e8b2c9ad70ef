//! What no guest can do and see, on any device, under any policy.

use proptest::prelude::*;
use xenpcid_policy::{InterruptMode, Width};

use crate::exhaustive::for_all;
use crate::fuzzed;
use crate::machine::accesses;
use crate::pair::Pair;
use crate::watch::Watched;

#[test]
fn under_a_shipped_policy_no_write_touches_what_is_the_host_s_and_no_read_shows_it() {
    for_all(|snapshot, policy| {
        for width in Width::ALL {
            let mut watched = Watched::new(Pair::new(snapshot, policy, 128).unwrap(), snapshot);
            watched.pair.flip_hardware();
            watched.pair.set_interrupt_mode(InterruptMode::Msi);
            for access in accesses(watched.pair.machine.view.size()).filter(|access| access.width() == width) {
                for value in [u32::MAX, 0, 0x5555_5555, 0xaaaa_aaaa] {
                    watched.write(access, value);
                }
            }
            watched.check_what_is_shown(&*policy.name != "pciback");
        }
    });
}

/// Many, since each is short; PROPTEST_CASES asks for more.
fn many_cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(2000), ..default }
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn under_any_policy_any_sequence_of_accesses_is_safe_and_agrees_with_the_model(
        bytes in prop::collection::vec(any::<u8>(), 0..1600),
    ) {
        fuzzed::check(&bytes);
    }
}
