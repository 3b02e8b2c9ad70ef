use crate::access::ConfigSize;
use crate::capability::Capabilities;
use crate::resource::Resource;
use crate::unsupported::Unsupported;

/// What is known of a function when it is claimed: all that a guest's view of it is made from.
///
/// Values that decide where something lies (capability offsets, the MSI-X table, BARs) are taken from here and never
/// again from the device, which its guest can make lie (XSA-337).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Configuration space as the device showed it: 256 or 4096 bytes.
    pub config: Vec<u8>,
    /// BAR 0 to 5, then the expansion ROM.
    pub resources: [Resource; 7],
    /// Vendor ID as the host's kernel knows it: a virtual function's own register reads ffff
    /// (Single Root I/O Virtualization Specification 3.4.1.1).
    pub vendor: u16,
    /// Device ID as the host's kernel knows it.
    pub device: u16,
    /// The pirq that the guest shall find in the interrupt line register; 0 if it has no INTx.
    pub interrupt_line: u8,
    /// Whether this is a virtual function (SR-IOV).
    pub is_virtual_function: bool,
}

impl Snapshot {
    /// Index of the expansion ROM in [`Snapshot::resources`].
    pub const ROM: usize = 6;

    /// Size of the configuration space.
    ///
    /// # Errors
    /// [`Unsupported::ConfigLength`] unless there are 256 or 4096 bytes.
    pub fn size(&self) -> Result<ConfigSize, Unsupported> {
        let length = self.config.len();
        ConfigSize::from_len(length).ok_or(Unsupported::ConfigLength { length })
    }

    /// The capability lists, conventional and extended.
    ///
    /// # Errors
    /// A list that leaves its space or runs in a circle, a capability that appears twice, an MSI-X table outside of the
    /// memory it names.
    pub fn capabilities(&self) -> Result<Capabilities, Unsupported> {
        Capabilities::find(self)
    }

    /// The byte at `offset`; 0xff beyond the recorded bytes, as of a register that nobody answers for.
    #[must_use]
    pub fn byte(&self, offset: u16) -> u8 {
        self.config.get(usize::from(offset)).copied().unwrap_or(0xff)
    }

    /// The little-endian 16 bits at `offset`, with 0xff for bytes beyond the recorded ones.
    #[must_use]
    pub fn word(&self, offset: u16) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset.saturating_add(1))])
    }

    /// The little-endian 32 bits at `offset`, with 0xff for bytes beyond the recorded ones.
    #[must_use]
    pub fn dword(&self, offset: u16) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset.saturating_add(2))) << 16
    }
}
