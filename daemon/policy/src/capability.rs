//! Capability lists (PCI Local Bus Specification 6.7, PCI Express Base Specification 7.6), read from a snapshot.
//!
//! The bytes come from a device that may be broken or taken over. Each walk ends: it never visits an offset twice.

use crate::access::{Access, ConfigSize, Width};
use crate::registers::AnyCapabilityId;
use crate::resource::Resource;
use crate::snapshot::Snapshot;
use crate::unsupported::Unsupported;

/// Most MSI-X vectors that one request can ask for (`SH_INFO_MAX_VEC` in xen/include/public/io/pciif.h), hence the
/// largest table that a guest is shown.
pub const MAX_MSIX_VECTORS: u16 = 128;

/// Identifier of a conventional capability (PCI Code and ID Assignment Specification 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapabilityId(pub u8);

impl CapabilityId {
    /// PCI Power Management Interface.
    pub const POWER_MANAGEMENT: Self = Self(0x01);
    /// Vital Product Data.
    pub const VITAL_PRODUCT_DATA: Self = Self(0x03);
    /// Message Signalled Interrupts.
    pub const MSI: Self = Self(0x05);
    /// Vendor-specific.
    pub const VENDOR_SPECIFIC: Self = Self(0x09);
    /// PCI Express.
    pub const EXPRESS: Self = Self(0x10);
    /// MSI-X.
    pub const MSIX: Self = Self(0x11);
    /// SATA Data/Index Configuration.
    pub const SATA: Self = Self(0x12);
    /// Enhanced Allocation.
    pub const ENHANCED_ALLOCATION: Self = Self(0x14);

    /// Those that may stand in a list only once, because something here depends on which of them counts.
    const SINGLE: [Self; 5] = [Self::POWER_MANAGEMENT, Self::VITAL_PRODUCT_DATA, Self::MSI, Self::EXPRESS, Self::MSIX];
}

/// Identifier of an extended capability (PCI Code and ID Assignment Specification 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCapabilityId(pub u16);

impl ExtendedCapabilityId {
    /// Resizable BAR.
    pub const RESIZABLE_BAR: Self = Self(0x0015);
    /// Designated Vendor-Specific.
    pub const DESIGNATED_VENDOR_SPECIFIC: Self = Self(0x0023);
    /// VF Resizable BAR.
    pub const VF_RESIZABLE_BAR: Self = Self(0x0024);
}

/// An entry of the conventional list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// What it is.
    pub id: CapabilityId,
    /// Where it starts: 0x40 to 0xfc, a multiple of 4.
    pub offset: u16,
}

/// An entry of the extended list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedCapability {
    /// What it is.
    pub id: ExtendedCapabilityId,
    /// Version of its layout.
    pub version: u8,
    /// Where it starts: 0x100 to 0xffc, a multiple of 4.
    pub offset: u16,
}

/// The MSI capability (PCI Local Bus Specification 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiCapability {
    /// Where it starts.
    pub offset: u16,
    /// Whether the address has 64 bits, which moves what follows it.
    pub is_64_bit: bool,
    /// Whether there are mask and pending registers.
    pub is_maskable: bool,
}

impl MsiCapability {
    pub(crate) fn at(snapshot: &Snapshot, offset: u16) -> Self {
        let control = snapshot.word(offset | 2);
        Self { offset, is_64_bit: control & 0x0080 != 0, is_maskable: control & 0x0100 != 0 }
    }

    /// Message Control: MSI Enable is 0x0001.
    #[must_use]
    pub const fn control(&self) -> Access {
        Access::within(self.offset, 2, Width::Word)
    }
}

/// The MSI-X capability (PCI Local Bus Specification 6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixCapability {
    /// Where it starts.
    pub offset: u16,
    /// Entries of the device's table: 1 to 2048.
    pub table_size: u16,
    /// Number of the BAR whose memory holds the table: 0 to 5, present in the snapshot.
    pub table_bir: u8,
    /// Start of the table in that memory, in bytes.
    pub table_offset: u32,
    /// Number of the BAR whose memory holds the pending bits: 0 to 5, present in the snapshot.
    pub pba_bir: u8,
    /// Start of the pending bits in that memory, in bytes.
    pub pba_offset: u32,
}

impl MsixCapability {
    /// Message Control: Function Mask is 0x4000, MSI-X Enable 0x8000.
    #[must_use]
    pub const fn control(&self) -> Access {
        Access::within(self.offset, 2, Width::Word)
    }

    /// Entries that a guest can be shown: at most [`MAX_MSIX_VECTORS`].
    #[must_use]
    pub const fn visible_table_size(&self) -> u16 {
        if self.table_size < MAX_MSIX_VECTORS { self.table_size } else { MAX_MSIX_VECTORS }
    }
}

/// What a function's capability lists hold, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The conventional list.
    pub conventional: Vec<Capability>,
    /// The extended list; empty in a conventional space.
    pub extended: Vec<ExtendedCapability>,
    /// Offset of PCI Power Management.
    pub power_management: Option<u16>,
    /// Offset of Vital Product Data.
    pub vital_product_data: Option<u16>,
    /// MSI.
    pub msi: Option<MsiCapability>,
    /// Offset of PCI Express.
    pub express: Option<u16>,
    /// MSI-X.
    pub msix: Option<MsixCapability>,
}

impl Capabilities {
    /// Where the capabilities of a kind start.
    pub fn starts(&self, id: AnyCapabilityId) -> impl Iterator<Item = u16> {
        let conventional =
            self.conventional.iter().map(|found| (AnyCapabilityId::Conventional(found.id), found.offset));
        let extended = self.extended.iter().map(|found| (AnyCapabilityId::Extended(found.id), found.offset));
        conventional.chain(extended).filter(move |(kind, _)| *kind == id).map(|(_, offset)| offset)
    }

    pub(crate) fn find(snapshot: &Snapshot) -> Result<Self, Unsupported> {
        let conventional = conventional_list(snapshot)?;
        let extended = extended_list(snapshot)?;
        let offset_of = |id| conventional.iter().find(|capability| capability.id == id).map(|found| found.offset);
        let msi = offset_of(CapabilityId::MSI).map(|offset| MsiCapability::at(snapshot, offset));
        let msix = offset_of(CapabilityId::MSIX).map(|offset| msix(snapshot, offset)).transpose()?;
        Ok(Self {
            power_management: offset_of(CapabilityId::POWER_MANAGEMENT),
            vital_product_data: offset_of(CapabilityId::VITAL_PRODUCT_DATA),
            express: offset_of(CapabilityId::EXPRESS),
            msi,
            msix,
            conventional,
            extended,
        })
    }
}

const STATUS: u16 = 0x06;
const STATUS_CAPABILITIES_LIST: u16 = 0x0010;
const CAPABILITIES_POINTER: u16 = 0x34;
const END_OF_HEADER: u16 = 0x40;
/// The two lowest bits of a pointer are reserved and to be masked.
const POINTER: u16 = 0xfffc;

fn broken(offset: u16, reason: &'static str) -> Unsupported {
    Unsupported::CapabilityList { offset, reason }
}

fn conventional_list(snapshot: &Snapshot) -> Result<Vec<Capability>, Unsupported> {
    let mut list: Vec<Capability> = Vec::new();
    if snapshot.word(STATUS) & STATUS_CAPABILITIES_LIST == 0 {
        return Ok(list);
    }
    let mut pointer_at = CAPABILITIES_POINTER;
    loop {
        let offset = u16::from(snapshot.byte(pointer_at)) & POINTER;
        if offset == 0 {
            return Ok(list);
        }
        if offset < END_OF_HEADER {
            return Err(broken(pointer_at, "it points into the header"));
        }
        if list.iter().any(|seen| seen.offset == offset) {
            return Err(broken(pointer_at, "it points back to a capability that came before"));
        }
        let id = CapabilityId(snapshot.byte(offset));
        if CapabilityId::SINGLE.contains(&id) && list.iter().any(|seen| seen.id == id) {
            return Err(broken(offset, "a capability that a function has only once is there twice"));
        }
        list.push(Capability { id, offset });
        pointer_at = offset | 1;
    }
}

fn extended_list(snapshot: &Snapshot) -> Result<Vec<ExtendedCapability>, Unsupported> {
    let mut list: Vec<ExtendedCapability> = Vec::new();
    let first = ConfigSize::Conventional.bytes();
    // All zero or all ones at the start of the list mean that there is none.
    if snapshot.size()? == ConfigSize::Conventional || matches!(snapshot.dword(first), 0 | u32::MAX) {
        return Ok(list);
    }
    let mut offset = first;
    loop {
        let version = snapshot.byte(offset | 2) & 0xf;
        list.push(ExtendedCapability { id: ExtendedCapabilityId(snapshot.word(offset)), version, offset });
        let next = snapshot.word(offset | 2) >> 4 & POINTER;
        if next == 0 {
            return Ok(list);
        }
        if next < first {
            return Err(broken(offset, "it points out of the extended space"));
        }
        if list.iter().any(|seen| seen.offset == next) {
            return Err(broken(offset, "it points back to a capability that came before"));
        }
        offset = next;
    }
}

fn msix(snapshot: &Snapshot, offset: u16) -> Result<MsixCapability, Unsupported> {
    let table_size = (snapshot.word(offset | 2) & 0x07ff).saturating_add(1);
    let (table_bir, table_offset) = location(snapshot.dword(offset.saturating_add(4)));
    let (pba_bir, pba_offset) = location(snapshot.dword(offset.saturating_add(8)));
    // 16 bytes for an entry; one bit for an entry, in units of 8 bytes.
    let table_length = u64::from(table_size).saturating_mul(16);
    let pba_length = u64::from(table_size).div_ceil(64).saturating_mul(8);
    for (what, bir, table_offset, length) in
        [("table", table_bir, table_offset, table_length), ("pending bit array", pba_bir, pba_offset, pba_length)]
    {
        let holds = |bar: &Resource| !bar.is_io() && u64::from(table_offset).saturating_add(length) <= bar.size();
        let is_bar = usize::from(bir) < Snapshot::ROM;
        if !is_bar || !snapshot.resources.get(usize::from(bir)).is_some_and(holds) {
            return Err(Unsupported::MsixLocation { what, bir, table_offset });
        }
    }
    Ok(MsixCapability { offset, table_size, table_bir, table_offset, pba_bir, pba_offset })
}

/// Splits a Table Offset or PBA Offset register into the number of the BAR and the offset in its memory.
fn location(register: u32) -> (u8, u32) {
    let [low, ..] = register.to_le_bytes();
    (low & 7, register & !7)
}
