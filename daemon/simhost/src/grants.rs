//! Pages that guests share.

use std::sync::Arc;

use pcifront_shim::SharedPage;
use xenpcid_address::DomainId;
use xenpcid_host::{Errno, GrantedPage, Grants, HostError};

use crate::World;
use crate::ledger::Call;

impl Grants for World {
    fn map(&self, domain: DomainId, reference: u32) -> Result<Box<dyn GrantedPage>, HostError> {
        let call = Call::new("map_grant").domain(domain).detail(format_args!("grant {reference}"));
        self.perform(call, |state| {
            // gntdev has one error for a reference, a domain and a page that cannot be had.
            let guest = state.domains.get_mut(&domain).filter(|guest| !guest.dying).ok_or(Errno::EINVAL)?;
            let grant = guest.grants.get_mut(&reference).ok_or(Errno::EINVAL)?;
            grant.mapped += 1;
            let page = Arc::clone(&grant.page);
            Ok(Box::new(Mapping { world: self.clone(), page, domain, reference }) as Box<dyn GrantedPage>)
        })
    }
}

/// A mapping by dom0.
struct Mapping {
    world: World,
    page: Arc<SharedPage>,
    domain: DomainId,
    reference: u32,
}

impl GrantedPage for Mapping {
    fn page(&self) -> &SharedPage {
        &self.page
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let call = Call::new("unmap_grant").domain(self.domain).detail(format_args!("grant {}", self.reference));
        self.world.record(call, |state| {
            let guest = state.domains.get_mut(&self.domain);
            if let Some(grant) = guest.and_then(|guest| guest.grants.get_mut(&self.reference)) {
                grant.mapped -= 1;
            }
        });
        self.world.bury(self.domain);
    }
}
