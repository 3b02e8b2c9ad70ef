//! Pages of a guest's own, granted to another domain through `/dev/xen/gntalloc` (xen/gntalloc.h of Linux' user headers).
#![expect(unsafe_code, reason = "the ioctl takes a struct that only unsafe code can hand over")]

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;

use crate::gntdev::MappedGrant;
use crate::{GrantedPage, HostError};

#[repr(C)]
struct AllocateGrantReference {
    domain: u16,
    flags: u16,
    count: u32,
    /// Out: where in the device to mmap.
    index: u64,
    /// Out: an array of `count`.
    reference: u32,
}

/// `GNTALLOC_FLAG_WRITABLE`: the other domain may write the page.
const WRITABLE: u16 = 1;

nix::ioctl_readwrite_bad!(
    allocate_grant_reference,
    nix::ioc!(nix::sys::ioctl::NONE, b'G', 5, size_of::<AllocateGrantReference>()),
    AllocateGrantReference
);

/// The device with which a guest shares pages of its own. The backend's side is [`GrantDevice`](crate::GrantDevice).
pub struct GrantAllocator {
    path: PathBuf,
}

/// A page of this domain that another one may map and write. Taken back when dropped; while the other domain has it
/// mapped, the kernel keeps it for that.
pub struct GrantedOwnPage {
    mapping: MappedGrant,
    reference: u32,
}

impl GrantAllocator {
    /// Pages will be allocated by the device at `path`, each on a descriptor of its own.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Allocates a page of zeroes and grants it to `domain`, which may write it.
    ///
    /// # Errors
    /// `ENOENT` if the device is not there (see the error's remedy); `ENOSPC` if the kernel's module parameter `limit` is
    /// reached.
    pub fn grant(&self, domain: DomainId) -> Result<GrantedOwnPage, HostError> {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open(&self.path)
            .map_err(|error| HostError::from_io("open", self.path.display(), &error))?;
        let failed = |errno| HostError::new("allocate_grant", format!("page for domain {domain}"), errno);
        let mut request =
            AllocateGrantReference { domain: domain.0, flags: WRITABLE, count: 1, index: 0, reference: 0 };
        // SAFETY: the descriptor is open and `request` is the struct, with room for the one reference, that this ioctl uses.
        unsafe { allocate_grant_reference(device.as_raw_fd(), &raw mut request) }.map_err(failed)?;
        let mapping = MappedGrant::new(device, request.index).map_err(failed)?;
        Ok(GrantedOwnPage { mapping, reference: request.reference })
    }
}

impl GrantedOwnPage {
    /// The grant reference, by which the other domain maps the page.
    #[must_use]
    pub fn reference(&self) -> u32 {
        self.reference
    }
}

impl GrantedPage for GrantedOwnPage {
    fn page(&self) -> &SharedPage {
        self.mapping.page()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    #[test]
    fn request_has_the_layout_of_the_header() {
        assert_eq!(size_of::<AllocateGrantReference>(), 24);
        assert_eq!(std::mem::offset_of!(AllocateGrantReference, index), 8);
        assert_eq!(std::mem::offset_of!(AllocateGrantReference, reference), 16);
    }

    #[test]
    fn device_that_is_not_there_is_an_error_that_names_it() {
        let error = GrantAllocator::new("/nonexistent/gntalloc").grant(DomainId::DOM0).err();
        assert_eq!(error, Some(HostError::new("open", "/nonexistent/gntalloc", Errno::ENOENT)));
    }

    #[test]
    fn device_that_is_another_one_is_refused_by_it() {
        let error = GrantAllocator::new("/dev/null").grant(DomainId::DOM0).err();
        assert_eq!(error, Some(HostError::new("allocate_grant", "page for domain 0", Errno::ENOTTY)));
    }
}
