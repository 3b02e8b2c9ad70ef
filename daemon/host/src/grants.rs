use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;

use crate::HostError;

/// Pages that guests share (xen/include/public/grant_table.h).
pub trait Grants: Send + Sync {
    /// Maps one granted page, writable. `EINVAL` and the like if the guest did not grant it: the reference is guest-written.
    fn map(&self, domain: DomainId, reference: u32) -> Result<Box<dyn GrantedPage>, HostError>;
}

/// A mapped page; unmapped when dropped. While it is mapped its domain cannot vanish completely.
pub trait GrantedPage: Send + Sync {
    /// The page, which the guest can change at any moment.
    fn page(&self) -> &SharedPage;
}
