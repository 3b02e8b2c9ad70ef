//! What is to be done for a guest's write.

use crate::access::Access;

/// What became of a write; of several registers in one write, the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Accepted and dropped.
    Discard,
    /// Kept, or acted upon, without the device.
    Emulate,
    /// Some of it reaches the device.
    Pass,
}

/// A write that the device must get, in the register's own width.
///
/// What to write is `(device's present value & !mask & !clear) | value`; see [`HardwareWrite::merge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareWrite {
    /// Where, in the width of the register.
    pub access: Access,
    /// New bits; none outside of `mask`.
    pub value: u32,
    /// Bits that `value` decides.
    pub mask: u32,
    /// Bits to be written 0 whatever the device has, because writing back a 1 would do something there.
    pub clear: u32,
}

impl HardwareWrite {
    /// Whether the device's present value is needed.
    #[must_use]
    pub const fn needs_read(&self) -> bool {
        self.mask | self.clear != self.access.width().mask()
    }

    /// What to write when the device's present value is `current`.
    #[must_use]
    pub const fn merge(&self, current: u32) -> u32 {
        current & self.access.width().mask() & !self.mask & !self.clear | self.value
    }
}

/// What a write asks of the daemon, once it has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The function is to be reset (PCIe 6.6.2), and to be given back to the guest with its addresses and interrupts.
    FunctionReset,
}

/// What is to be done for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// What became of it.
    pub verdict: Verdict,
    /// What the device must get.
    pub hardware: Option<HardwareWrite>,
    /// What else is to be done.
    pub effect: Option<Effect>,
    /// Bits of the access that the guest wanted to change, going by what it last read there, and that were discarded.
    pub missed: u32,
}

impl Write {
    pub(crate) const DISCARDED: Self = Self { verdict: Verdict::Discard, hardware: None, effect: None, missed: 0 };
}

/// An access that is refused, nothing of it having been done. On the wire: `XEN_PCI_ERR_access_denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy denies bits {bits:#x} of the access at {access}")]
pub struct AccessDenied {
    /// Where.
    pub access: Access,
    /// What was to be written.
    pub value: u32,
    /// The bits of the access that are refused.
    pub bits: u32,
}
