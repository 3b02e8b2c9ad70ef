//! A filter and its reference model under watch: after each write the hardware is looked at.

use xenpcid_policy::{Access, Snapshot};

use crate::pair::Pair;
use crate::reference::safety::Safety;

pub struct Watched {
    pub pair: Pair,
    safety: Safety,
}

impl Watched {
    pub fn new(pair: Pair, snapshot: &Snapshot) -> Self {
        let safety = Safety::new(snapshot, |kind| pair.model.description.hidden.contains(&kind));
        Self { pair, safety }
    }

    pub fn write(&mut self, access: Access, value: u32) {
        let before = self.pair.machine.hardware.clone();
        let written = self.pair.write(access, value);
        self.safety.check_hardware(&before, &self.pair.machine.hardware);
        if let Some((start, bytes, value)) = written {
            self.safety.check_written(start, bytes, value);
        }
    }

    /// The whole space, as it is and with every bit of the hardware turned over. `is_discreet`: no register is one whose
    /// guarded bits the operator has the device answer for.
    pub fn check_what_is_shown(&mut self, is_discreet: bool) {
        let Self { pair, safety } = self;
        let first = pair.shown();
        pair.flip_hardware();
        let second = pair.shown();
        let bits = &pair.model.description.bits;
        for at in &safety.routing {
            let at = usize::from(*at);
            for (n, bit) in bits[at * 8..][..8].iter().enumerate() {
                assert!(!(is_discreet && bit.is_read_through), "{at:#x} shows the host's interrupts");
                let differs = first[at].zip(second[at]).is_some_and(|(first, second)| (first ^ second) >> n & 1 != 0);
                assert!(bit.is_read_through || !differs, "{at:#x} shows the host's interrupts");
            }
        }
        for at in &safety.hidden {
            let shown = (first[usize::from(*at)], second[usize::from(*at)]);
            assert!(
                shown == (Some(0), Some(0)) || (0x100..0x104).contains(at),
                "{at:#x} of a hidden capability shows {shown:x?}"
            );
        }
        for shown in [first, second] {
            // A guest that is not told some byte of the lists does not walk them.
            let shown: Option<Vec<u8>> = shown.into_iter().collect();
            if let Some(shown) = shown {
                safety.check_lists(&shown, |kind| pair.model.description.hidden.contains(&kind));
            }
        }
    }
}
