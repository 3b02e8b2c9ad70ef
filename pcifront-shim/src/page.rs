//! The page that guest and backend share (`struct xen_pci_sharedinfo`).

use std::array;

use crate::abi::MSIX_VECTORS_MAX;
use crate::sync::AtomicU32;

/// The shared page: the layout of `struct xen_pci_sharedinfo`, every word of it an atomic.
///
/// The other side is not trusted and may write any word at any time, so nothing here can be borrowed as plain data:
/// each access is one atomic load or store of 32 bits. The bits of `flags` belong to different sides, so that word is
/// only ever changed by atomic read-modify-write.
///
/// # Mapping a granted page
/// The type is `repr(C)`, 4096 bytes long, aligned to 4 bytes, has no padding, and every bit pattern of it is valid. A
/// crate that maps a granted page may therefore view it as `&SharedPage` for as long as the mapping lives.
#[repr(C)]
pub struct SharedPage {
    pub(crate) flags: AtomicU32,
    pub(crate) op: OpWords,
    aer_op: AerWords,
    // The model checker pays for each atomic, and these are never accessed.
    #[cfg(not(loom))]
    unused: [AtomicU32; 881],
}

/// `struct xen_pci_op`: the frontend's request and the backend's answer to it.
#[repr(C)]
pub(crate) struct OpWords {
    pub(crate) cmd: AtomicU32,
    pub(crate) err: AtomicU32,
    pub(crate) domain: AtomicU32,
    pub(crate) bus: AtomicU32,
    pub(crate) devfn: AtomicU32,
    pub(crate) offset: AtomicU32,
    pub(crate) size: AtomicU32,
    pub(crate) value: AtomicU32,
    /// Used by neither side.
    info: AtomicU32,
    /// `struct xen_msix_entry`: the pirq in the low half, the index in the device's MSI-X table in the high half.
    pub(crate) msix_entries: [AtomicU32; MSIX_VECTORS_MAX],
}

/// `struct xen_pcie_aer_op`: the backend's request, about an error of a device.
#[repr(C)]
struct AerWords {
    cmd: AtomicU32,
    err: AtomicU32,
    domain: AtomicU32,
    bus: AtomicU32,
    devfn: AtomicU32,
}

/// The offsets that xen/include/public/io/pciif.h has on x86, where the halves of an MSI-X entry are little-endian.
#[cfg(not(loom))]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};

    assert!(cfg!(target_endian = "little"));
    assert!(size_of::<SharedPage>() == 4096);
    assert!(align_of::<SharedPage>() == 4);
    assert!(size_of::<OpWords>() == 548);
    assert!(size_of::<AerWords>() == 20);
    assert!(offset_of!(SharedPage, op) == 0x004);
    assert!(offset_of!(SharedPage, op.err) == 0x008);
    assert!(offset_of!(SharedPage, op.domain) == 0x00c);
    assert!(offset_of!(SharedPage, op.bus) == 0x010);
    assert!(offset_of!(SharedPage, op.devfn) == 0x014);
    assert!(offset_of!(SharedPage, op.offset) == 0x018);
    assert!(offset_of!(SharedPage, op.size) == 0x01c);
    assert!(offset_of!(SharedPage, op.value) == 0x020);
    assert!(offset_of!(SharedPage, op.info) == 0x024);
    assert!(offset_of!(SharedPage, op.msix_entries) == 0x028);
    assert!(offset_of!(SharedPage, aer_op) == 0x228);
    // sizeof(struct xen_pci_sharedinfo)
    assert!(offset_of!(SharedPage, unused) == 572);
};

impl SharedPage {
    /// A page as a frontend allocates it. A mapped page is not made here, see the type's documentation.
    #[must_use]
    pub fn zeroed() -> Self {
        Self {
            flags: AtomicU32::new(0),
            op: OpWords {
                cmd: AtomicU32::new(0),
                err: AtomicU32::new(0),
                domain: AtomicU32::new(0),
                bus: AtomicU32::new(0),
                devfn: AtomicU32::new(0),
                offset: AtomicU32::new(0),
                size: AtomicU32::new(0),
                value: AtomicU32::new(0),
                info: AtomicU32::new(0),
                msix_entries: zeroed_words(),
            },
            aer_op: AerWords {
                cmd: AtomicU32::new(0),
                err: AtomicU32::new(0),
                domain: AtomicU32::new(0),
                bus: AtomicU32::new(0),
                devfn: AtomicU32::new(0),
            },
            #[cfg(not(loom))]
            unused: zeroed_words(),
        }
    }

    /// The words that have a meaning, in the order of the page: `flags`, `op`, `aer_op` (143 words).
    ///
    /// A hostile guest writes any of them at any time; this is how a test plays one.
    pub fn words(&self) -> impl Iterator<Item = &AtomicU32> {
        let Self { flags, op, aer_op, .. } = self;
        let request =
            [flags, &op.cmd, &op.err, &op.domain, &op.bus, &op.devfn, &op.offset, &op.size, &op.value, &op.info];
        let aer = [&aer_op.cmd, &aer_op.err, &aer_op.domain, &aer_op.bus, &aer_op.devfn];
        request.into_iter().chain(&op.msix_entries).chain(aer)
    }
}

fn zeroed_words<const N: usize>() -> [AtomicU32; N] {
    array::from_fn(|_| AtomicU32::new(0))
}
