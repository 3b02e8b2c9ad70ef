/// Why a function cannot be given to a guest, as far as its configuration space tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// The recorded configuration space has an impossible length.
    #[error("the configuration space is {length} bytes long, not 256 or 4096: read it as root, and all of it")]
    ConfigLength {
        /// Bytes recorded.
        length: usize,
    },
    /// Bridges and CardBus bridges are not endpoints; 0x7f is what a device reads that does not answer.
    #[error(
        "the header type is {header_type:#04x} and only type 0, an endpoint, can be given to a guest \
         (1 is a bridge; 0x7f means that the device does not answer: is it powered?)"
    )]
    HeaderType {
        /// Header type without the multi-function bit.
        header_type: u8,
    },
    /// A capability list cannot be followed.
    #[error("the capability list is broken at {offset:#05x}: {reason}")]
    CapabilityList {
        /// Where the fault is.
        offset: u16,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Two registers claim the same bytes.
    #[error("the capability at {capability:#05x} lies over other registers at {offset:#05x}")]
    Overlap {
        /// Start of the capability.
        capability: u16,
        /// First byte that is taken already.
        offset: u16,
    },
    /// The MSI-X table or its pending bits are not where they can be.
    #[error(
        "the MSI-X capability says that its {what} is at {table_offset:#x} of BAR {bir}, and that BAR does not hold it"
    )]
    MsixLocation {
        /// "table" or "pending bit array".
        what: &'static str,
        /// BAR that the capability names.
        bir: u8,
        /// Offset in that BAR.
        table_offset: u32,
    },
    /// A BAR's resource is none that a BAR can have.
    #[error("the resource of {register} ({start:#x} to {end:#x}) cannot be shown to a guest: {reason}")]
    Resource {
        /// "BAR 0" to "BAR 5" or "the expansion ROM".
        register: &'static str,
        /// First address.
        start: u64,
        /// Last address.
        end: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}
