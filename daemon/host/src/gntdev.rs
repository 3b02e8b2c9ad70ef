//! Granted pages through `/dev/xen/gntdev` (xen/gntdev.h of Linux' user headers).
#![expect(unsafe_code, reason = "a page that another domain writes has to be mapped and lent out as atomics")]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::off_t;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;

use crate::{GrantedPage, Grants, HostError};

/// Size of a granted page in bytes.
const PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

#[repr(C)]
struct MapGrantReference {
    count: u32,
    pad: u32,
    /// Out: where in the device to mmap.
    index: u64,
    domain: u32,
    reference: u32,
}

nix::ioctl_readwrite_bad!(
    map_grant_reference,
    nix::ioc!(nix::sys::ioctl::NONE, b'G', 0, size_of::<MapGrantReference>()),
    MapGrantReference
);

/// The grant device.
pub struct GrantDevice {
    path: PathBuf,
}

impl GrantDevice {
    /// Pages will be mapped from the device at `path`, each on a descriptor of its own.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Grants for GrantDevice {
    fn map(&self, domain: DomainId, reference: u32) -> Result<Box<dyn GrantedPage>, HostError> {
        let failed = |errno| HostError::new("map_grant", format!("grant {reference} of domain {domain}"), errno);
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open(&self.path)
            .map_err(|e| HostError::from_io("open", self.path.display(), &e))?;
        let mut request = MapGrantReference { count: 1, pad: 0, index: 0, domain: u32::from(domain.0), reference };
        // SAFETY: the descriptor is open and `request` is the struct, with room for the one reference, that this ioctl uses.
        unsafe { map_grant_reference(device.as_raw_fd(), &raw mut request) }.map_err(failed)?;
        Ok(Box::new(MappedGrant::new(device, request.index).map_err(failed)?))
    }
}

/// A mapping of one page, which ends before its descriptor is closed: the kernel then ends the grant.
pub(crate) struct MappedGrant {
    address: NonNull<c_void>,
    _device: File,
}

impl MappedGrant {
    /// Maps the page that a grant device has at `index`.
    pub(crate) fn new(device: File, index: u64) -> Result<Self, Errno> {
        let offset = off_t::try_from(index).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: a new mapping at an address of the kernel's choice changes no memory of this process.
        let address = unsafe {
            mmap(None, PAGE_SIZE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &device, offset)
        }?;
        Ok(Self { address, _device: device })
    }
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only lent out as atomics.
unsafe impl Send for MappedGrant {}
// SAFETY: as above.
unsafe impl Sync for MappedGrant {}

impl GrantedPage for MappedGrant {
    fn page(&self) -> &SharedPage {
        // SAFETY: the mapping is a whole page, page-aligned and readable and writable for as long as `self` lives; SharedPage is
        // made for this: 4096 bytes of atomics, for which all bit patterns are valid and which allow for changes by others.
        unsafe { self.address.cast::<SharedPage>().as_ref() }
    }
}

impl Drop for MappedGrant {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by us with this size, and no reference into it outlives `self`.
        // The only error is a wrong address or size, which cannot be.
        let _ = unsafe { munmap(self.address, PAGE_SIZE.get()) };
    }
}
