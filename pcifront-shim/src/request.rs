//! A request of the frontend, copied out of the page or about to be put on it.

use std::fmt;

use xenpcid_address::Sbdf;

use crate::abi::{MSIX_VECTORS_MAX, Operation};
use crate::page::OpWords;
use crate::sync::{AtomicU32, Ordering};

/// A frontend's request: a private copy, which the other side cannot change any more (XSA-155).
///
/// The fields are what the frontend wrote, not validated: any number can be in any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub operation: Operation,
    /// PCI segment that the guest sees.
    pub domain: u32,
    /// Bus that the guest sees.
    pub bus: u32,
    /// `device << 3 | function` that the guest sees.
    pub devfn: u32,
    /// Offset in configuration space, in bytes. Signed on the wire.
    pub offset: i32,
    /// Width of the access, in bytes. Signed on the wire.
    pub size: i32,
    /// Value to write; number of vectors of [`Operation::ENABLE_MSIX`].
    pub value: u32,
    /// MSI-X table entries to enable. Only [`Operation::ENABLE_MSIX`] has any.
    pub entries: MsixEntries,
}

/// Width of an access to configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
}

impl Width {
    /// Number of bytes: 1, 2 or 4.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The width of `bytes` bytes; `None` if configuration space has no such access.
    #[must_use]
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            _ => None,
        }
    }

    /// All bits that a value of this width has; also what a read gives when nothing answers.
    #[must_use]
    pub const fn all_ones(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// Indices into a device's MSI-X table, at most [`MSIX_VECTORS_MAX`], kept in place.
#[derive(Clone)]
pub struct MsixEntries {
    indices: [u16; MSIX_VECTORS_MAX],
    count: usize,
}

impl MsixEntries {
    /// No entries.
    pub const NONE: Self = Self { indices: [0; MSIX_VECTORS_MAX], count: 0 };

    /// The indices, in the order of the request.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        self.indices.get(..self.count).unwrap_or_default()
    }
}

/// Takes the first [`MSIX_VECTORS_MAX`] and leaves the rest.
impl FromIterator<u16> for MsixEntries {
    fn from_iter<I: IntoIterator<Item = u16>>(indices: I) -> Self {
        let mut entries = Self::NONE;
        for (slot, index) in entries.indices.iter_mut().zip(indices) {
            *slot = index;
            entries.count += 1;
        }
        entries
    }
}

impl PartialEq for MsixEntries {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for MsixEntries {}

impl fmt::Debug for MsixEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

impl Request {
    /// A request to the device at `address` with all other fields 0.
    #[must_use]
    pub fn new(operation: Operation, address: Sbdf) -> Self {
        Self {
            operation,
            domain: address.segment().into(),
            bus: address.bus().into(),
            devfn: address.devfn().into(),
            offset: 0,
            size: 0,
            value: 0,
            entries: MsixEntries::NONE,
        }
    }

    /// A read of configuration space.
    #[must_use]
    pub fn config_read(address: Sbdf, offset: u16, width: Width) -> Self {
        Self { offset: offset.into(), size: width.bytes().into(), ..Self::new(Operation::CONFIG_READ, address) }
    }

    /// A write to configuration space.
    #[must_use]
    pub fn config_write(address: Sbdf, offset: u16, width: Width, value: u32) -> Self {
        Self { offset: offset.into(), size: width.bytes().into(), value, ..Self::new(Operation::CONFIG_WRITE, address) }
    }

    /// The address that the guest named; `None` if it is not one (a field is greater than PCI has).
    #[must_use]
    pub fn address(&self) -> Option<Sbdf> {
        let segment = self.domain.try_into().ok()?;
        let bus = self.bus.try_into().ok()?;
        let devfn = self.devfn.try_into().ok()?;
        Some(Sbdf::from_devfn(segment, bus, devfn))
    }

    /// Copies the request on the page, loading each word exactly once.
    pub(crate) fn load(op: &OpWords) -> Self {
        let operation = Operation(load(&op.cmd));
        let value = load(&op.value);
        let entries = if operation == Operation::ENABLE_MSIX {
            let count = usize::try_from(value).unwrap_or(usize::MAX);
            op.msix_entries.iter().take(count).map(|entry| msix_index(load(entry))).collect()
        } else {
            MsixEntries::NONE
        };
        Self {
            operation,
            domain: load(&op.domain),
            bus: load(&op.bus),
            devfn: load(&op.devfn),
            offset: signed(load(&op.offset)),
            size: signed(load(&op.size)),
            value,
            entries,
        }
    }

    /// Puts the request on the page, with `err` as a frontend leaves it: 0.
    pub(crate) fn store(&self, op: &OpWords) {
        let Self { operation, domain, bus, devfn, offset, size, value, entries } = self;
        store(&op.cmd, operation.0);
        store(&op.err, 0);
        store(&op.domain, *domain);
        store(&op.bus, *bus);
        store(&op.devfn, *devfn);
        store(&op.offset, unsigned(*offset));
        store(&op.size, unsigned(*size));
        store(&op.value, *value);
        for (word, index) in op.msix_entries.iter().zip(entries.as_slice()) {
            store(word, msix_entry(MSIX_VECTOR_UNKNOWN, *index));
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, domain, bus, devfn, offset, size, value, entries } = self;
        write!(f, "{operation} ")?;
        match self.address() {
            Some(address) => write!(f, "{address}")?,
            None => write!(f, "(domain {domain:#x}, bus {bus:#x}, devfn {devfn:#x})")?,
        }
        match *operation {
            Operation::CONFIG_READ => write!(f, " offset {offset:#x} size {size}"),
            Operation::CONFIG_WRITE => write!(f, " offset {offset:#x} size {size} value {value:#x}"),
            Operation::ENABLE_MSIX => write!(f, " {value} vectors, entries {entries:?}"),
            _ => Ok(()),
        }
    }
}

/// What a frontend writes as the vector of an entry before the backend has given it one.
const MSIX_VECTOR_UNKNOWN: u16 = 0xffff;

/// An MSI-X entry as a word of the page.
pub(crate) fn msix_entry(vector: u16, index: u16) -> u32 {
    u32::from(index) << 16 | u32::from(vector)
}

fn msix_index(entry: u32) -> u16 {
    let [_, _, low, high] = entry.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The pirq of an MSI-X entry.
pub(crate) fn msix_vector(entry: u32) -> u16 {
    let [low, high, _, _] = entry.to_le_bytes();
    u16::from_le_bytes([low, high])
}

// The words of `op` are ordered by the active bit alone, so each single access can be relaxed.

pub(crate) fn load(word: &AtomicU32) -> u32 {
    word.load(Ordering::Relaxed)
}

pub(crate) fn store(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Relaxed);
}

/// The same bits as a signed number.
pub(crate) fn signed(bits: u32) -> i32 {
    i32::from_ne_bytes(bits.to_ne_bytes())
}

/// The same bits as an unsigned number.
pub(crate) fn unsigned(number: i32) -> u32 {
    u32::from_ne_bytes(number.to_ne_bytes())
}
