use std::fmt;

/// Xen's number of a domain (`domid_t`).
///
/// Real domains are 0 to 0x7FEF; the rest are the hypervisor's own, of which [`DomainId::IO`] matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainId(pub u16);

impl DomainId {
    /// The management domain.
    pub const DOM0: Self = Self(0);
    /// `DOMID_IO`: owns quarantined devices, whose DMA then reaches nothing.
    pub const IO: Self = Self(0x7FF1);
    /// `DOMID_INVALID`: no domain at all.
    pub const INVALID: Self = Self(0x7FF4);
    /// `DOMID_FIRST_RESERVED`: the first number that cannot be a guest.
    pub const FIRST_RESERVED: Self = Self(0x7FF0);
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
