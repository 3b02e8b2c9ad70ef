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

/// A power state of PCI Power Management.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PowerState {
    /// On.
    D0,
    /// Light sleep.
    D1,
    /// Deeper sleep.
    D2,
    /// Off but for configuration space.
    D3Hot,
}

impl PowerState {
    pub(crate) const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::D0,
            1 => Self::D1,
            2 => Self::D2,
            _ => Self::D3Hot,
        }
    }
}

/// What a write means to others than the device. It holds once the write has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The guest has switched the device's DMA on or off.
    BusMaster(bool),
    /// The guest believes the device to be in another power state. The hardware stays in D0.
    PowerState(PowerState),
}

/// What is to be done for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// What became of it.
    pub verdict: Verdict,
    /// What the device must get.
    pub hardware: Option<HardwareWrite>,
    /// What others must know.
    pub effect: Option<Effect>,
}

impl Write {
    pub(crate) const DISCARDED: Self = Self { verdict: Verdict::Discard, hardware: None, effect: None };
}

/// A write that is refused, nothing of it having been done. On the wire: `XEN_PCI_ERR_access_denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a guest must not write {value:#x} at {access}")]
pub struct AccessDenied {
    /// Where.
    pub access: Access,
    /// What.
    pub value: u32,
}
