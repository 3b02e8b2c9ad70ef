//! What holds whatever the policy says: worked out from the lists of the device alone.

use xenpcid_policy::Snapshot;

use super::walk::{Found, Kind, byte, walk};

/// Bits of the header that no guest's write changes in hardware: decode and Interrupt Disable, Start BIST, BARs, expansion
/// ROM, the start of the list, the host's own number of the interrupt.
const HEADER: &[(u16, u16, u8)] = &[
    (0x04, 0x05, 0x03),
    (0x05, 0x06, 0x04),
    (0x0f, 0x10, 0x40),
    (0x10, 0x28, 0xff),
    (0x30, 0x34, 0xff),
    (0x34, 0x35, 0xff),
    (0x3c, 0x3d, 0xff),
];

/// Bytes from and to, and bits of them, of capabilities: power state; all of MSI and MSI-X; Initiate FLR of both kinds;
/// ACS, ATS Enable, VF Enable, page size and BARs, PRI, Resizable BAR controls, PASID, DPC; entries of Enhanced Allocation;
/// multicast.
const CAPABILITIES: &[(Kind, u16, u16, u8)] = &[
    (Kind::Conventional(0x01), 0x04, 0x05, 0x03),
    (Kind::Conventional(0x05), 0x00, 0xff, 0xff),
    (Kind::Conventional(0x11), 0x00, 0xff, 0xff),
    (Kind::Conventional(0x13), 0x04, 0x05, 0x01),
    (Kind::Conventional(0x10), 0x09, 0x0a, 0x80),
    (Kind::Extended(0x000d), 0x06, 0x08, 0xff),
    (Kind::Extended(0x000f), 0x07, 0x08, 0x80),
    (Kind::Extended(0x0010), 0x08, 0x09, 0x19),
    (Kind::Extended(0x0010), 0x20, 0x3c, 0xff),
    (Kind::Extended(0x0013), 0x04, 0x06, 0xff),
    (Kind::Extended(0x0015), 0x08, 0x0c, 0xff),
    (Kind::Extended(0x0024), 0x08, 0x0c, 0xff),
    (Kind::Extended(0x001b), 0x06, 0x08, 0xff),
    (Kind::Extended(0x001d), 0x06, 0x08, 0xff),
    (Kind::Conventional(0x14), 0x04, 0xff, 0xff),
    (Kind::Extended(0x0012), 0x06, 0x28, 0xff),
];

/// As [`CAPABILITIES`], of the one at `at` only if it says so itself: the registers behind a SATA capability, a virtio window,
/// what is of CXL.
fn by_content(kind: Kind, at: u16, snapshot: &Snapshot) -> &'static [(u16, u16)] {
    let byte = |offset| byte(&snapshot.config, at + offset);
    match kind {
        Kind::Conventional(0x12) if byte(4) & 0x0f == 0x0f => &[(8, 16)],
        Kind::Conventional(0x09) if snapshot.vendor == 0x1af4 && byte(3) == 5 => &[(4, 5), (8, 20)],
        Kind::Extended(0x0023) if (byte(4), byte(5)) == (0x98, 0x1e) => &[(10, 0xf00)],
        _ => &[],
    }
}

/// What no guest may do to one device, and not see of it.
pub struct Safety {
    /// For each byte the bits that no write changes.
    untouchable: Vec<u8>,
    /// For each byte the bits that a write sets in no case: a 1 would reset the function, or have it test itself.
    never_one: Vec<u8>,
    /// Bytes that tell the host's interrupt routing: address, data, masks and pending bits of MSI.
    pub routing: Vec<u16>,
    /// The bytes of hidden capabilities.
    pub hidden: Vec<u16>,
    found: Vec<Found>,
}

impl Safety {
    pub fn new(snapshot: &Snapshot, is_hidden: impl Fn(Kind) -> bool) -> Self {
        let config = &snapshot.config;
        let found = walk(config).unwrap();
        let (mut untouchable, mut never_one) = (vec![0; config.len()], vec![0; config.len()]);
        let (mut routing, mut hidden) = (Vec::new(), Vec::new());
        for (start, end, bits) in HEADER {
            (*start..*end).for_each(|at| untouchable[usize::from(at)] |= bits);
        }
        never_one[0x0f] = 0x40;
        for capability in &found {
            let extent = capability.at..capability.end(&found, snapshot);
            for at in extent.clone().take(if capability.is_extended() { 4 } else { 2 }) {
                untouchable[usize::from(at)] = 0xff;
            }
            for (_, start, end, bits) in CAPABILITIES.iter().filter(|(kind, ..)| *kind == capability.kind) {
                for at in (capability.at + start..capability.at + end).filter(|at| extent.contains(at)) {
                    untouchable[usize::from(at)] |= bits;
                    if matches!(capability.kind, Kind::Conventional(0x10 | 0x13)) {
                        never_one[usize::from(at)] |= bits;
                    }
                }
            }
            for (start, end) in by_content(capability.kind, capability.at, snapshot) {
                for at in (capability.at + start..capability.at + end).filter(|at| extent.contains(at)) {
                    untouchable[usize::from(at)] = 0xff;
                }
            }
            if capability.kind == Kind::Conventional(0x05) {
                routing.extend(extent.clone().skip(4));
            }
            if is_hidden(capability.kind) {
                extent.clone().for_each(|at| untouchable[usize::from(at)] = 0xff);
                hidden.extend(extent);
            }
        }
        Self { untouchable, never_one, routing, hidden, found }
    }

    /// Looks at the hardware before and after a guest's write.
    pub fn check_hardware(&self, before: &[u8], after: &[u8]) {
        if before == after {
            return;
        }
        for (at, (before, after)) in before.iter().zip(after).enumerate() {
            // Initiate FLR may be written 0, which does nothing: a device on which it reads 1 lies.
            let changed = (before ^ after) & self.untouchable[at];
            let only_cleared = changed & after & self.never_one[at] == 0;
            assert!(changed & !self.never_one[at] == 0 && only_cleared, "{at:#x} went from {before:#x} to {after:#x}");
        }
    }

    /// Looks at what one hardware write has, over `[start, start + bytes)`.
    pub fn check_written(&self, start: u16, bytes: u16, value: u32) {
        assert!([1, 2, 4].contains(&bytes) && start % bytes == 0, "{bytes} bytes at {start:#x}");
        for (n, byte) in value.to_le_bytes().into_iter().enumerate().take(bytes.into()) {
            let at = usize::from(start) + n;
            assert_eq!(byte & self.never_one[at], 0, "{at:#x} is written {byte:#x}");
        }
    }

    /// Walks the lists as the guest finds them: they end, inside, at capabilities that the device has, in the same order,
    /// and none of them is hidden.
    pub fn check_lists(&self, as_shown: &[u8], is_hidden: impl Fn(Kind) -> bool) {
        let shown = walk(as_shown).unwrap();
        let mut expected: Vec<Found> = self.found.iter().filter(|found| !is_hidden(found.kind)).copied().collect();
        let is_none = |found: &Found| found.kind == Kind::Extended(0) && found.at == 0x100;
        if shown.iter().any(is_none) && !expected.iter().any(is_none) {
            let first_extended = expected.iter().position(Found::is_extended).unwrap_or(expected.len());
            expected.insert(first_extended, Found { kind: Kind::Extended(0), at: 0x100 });
        }
        assert_eq!(shown, expected);
    }
}
