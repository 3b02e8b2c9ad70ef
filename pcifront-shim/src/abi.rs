//! Numbers of the pciif protocol (xen/include/public/io/pciif.h).
//!
//! What comes from the other side of the page is a number and not a Rust `enum`, so that an unknown value is data
//! and not undefined behaviour.

use std::fmt;
use std::time::Duration;

/// Content of the frontend's xenstore key `magic` (`XEN_PCI_MAGIC`).
pub const MAGIC: &str = "7";

/// Greatest number of MSI-X vectors that one request can carry (`SH_INFO_MAX_VEC`).
pub const MSIX_VECTORS_MAX: usize = 128;

/// Bit of `flags`: the frontend's request in `op` waits for the backend (`XEN_PCIF_active`).
///
/// Set by the frontend; cleared by the backend with its answer, or by a frontend that gives up.
pub const FLAG_FRONTEND_ACTIVE: u32 = 1 << 0;

/// Bit of `flags`: the frontend understands AER operations (`XEN_PCIB_AERHANDLER`).
pub const FLAG_AER_HANDLER: u32 = 1 << 1;

/// Bit of `flags`: the backend's request in `aer_op` waits for the frontend (`XEN_PCIB_active`).
pub const FLAG_BACKEND_ACTIVE: u32 = 1 << 2;

/// How long Linux' pcifront waits for an answer before it gives up and clears the active bit itself.
pub const LINUX_GIVES_UP_AFTER: Duration = Duration::from_secs(2);

/// What a request asks for (`XEN_PCI_OP_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation(pub u32);

impl Operation {
    /// Read configuration space.
    pub const CONFIG_READ: Self = Self(0);
    /// Write configuration space.
    pub const CONFIG_WRITE: Self = Self(1);
    /// Enable a single MSI vector; the answer's value is its pirq.
    pub const ENABLE_MSI: Self = Self(2);
    /// Disable MSI. Linux 5.17 and newer send it to disable MSI-X too.
    pub const DISABLE_MSI: Self = Self(3);
    /// Enable MSI-X vectors; the answer carries a pirq for each.
    pub const ENABLE_MSIX: Self = Self(4);
    /// Disable MSI-X.
    pub const DISABLE_MSIX: Self = Self(5);
    /// Backend to frontend: an error was detected.
    pub const AER_DETECTED: Self = Self(6);
    /// Backend to frontend: go on.
    pub const AER_RESUME: Self = Self(7);
    /// Backend to frontend: device memory can be accessed again.
    pub const AER_MMIO: Self = Self(8);
    /// Backend to frontend: the device was reset.
    pub const AER_SLOT_RESET: Self = Self(9);
    /// Several MSI vectors: in the header since 2013, sent by no known frontend.
    pub const ENABLE_MULTI_MSI: Self = Self(10);

    const NAMES: [&'static str; 11] = [
        "conf_read",
        "conf_write",
        "enable_msi",
        "disable_msi",
        "enable_msix",
        "disable_msix",
        "aer_detected",
        "aer_resume",
        "aer_mmio",
        "aer_slotreset",
        "enable_multi_msi",
    ];

    /// Name in the Xen header without its prefix; `None` for a number that the header does not have.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.get(usize::try_from(self.0).ok()?).copied()
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => write!(f, "operation {}", self.0),
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({}: {self})", self.0)
    }
}

/// Outcome of a request (`XEN_PCI_ERR_*`).
///
/// Linux' xen-pciback also lets negated errno values of its kernel through, so any number can appear here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i32);

impl ErrorCode {
    /// The request was carried out.
    pub const SUCCESS: Self = Self(0);
    /// The guest has no device at this address.
    pub const DEV_NOT_FOUND: Self = Self(-1);
    /// Offset, size or alignment is wrong.
    pub const INVALID_OFFSET: Self = Self(-2);
    /// The guest may not do this.
    pub const ACCESS_DENIED: Self = Self(-3);
    /// The backend does not know the operation.
    pub const NOT_IMPLEMENTED: Self = Self(-4);
    /// The operation was tried and failed.
    pub const OP_FAILED: Self = Self(-5);

    const NAMES: [&'static str; 6] =
        ["success", "dev_not_found", "invalid_offset", "access_denied", "not_implemented", "op_failed"];

    /// Name in the Xen header without its prefix; `None` for a number that the header does not have.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let negated = self.0.checked_neg()?;
        Self::NAMES.get(usize::try_from(negated).ok()?).copied()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_name_that_the_header_gives_them() {
        assert_eq!(Operation::CONFIG_READ.to_string(), "conf_read");
        assert_eq!(Operation::ENABLE_MULTI_MSI.to_string(), "enable_multi_msi");
        assert_eq!(Operation(11).to_string(), "operation 11");
        assert_eq!(ErrorCode::SUCCESS.to_string(), "success (0)");
        assert_eq!(ErrorCode::OP_FAILED.to_string(), "op_failed (-5)");
        assert_eq!(ErrorCode(-6).to_string(), "error -6");
        assert_eq!(ErrorCode(i32::MIN).to_string(), "error -2147483648");
        assert_eq!(ErrorCode(1).to_string(), "error 1");
    }
}
