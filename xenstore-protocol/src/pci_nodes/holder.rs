//! Which guest holds a device, where xl looks: `/libxl/pci/<device>/domid`.

use xenpcid_address::{DomainId, Sbdf};

use crate::number::decimal;
use crate::{Error, Path, Store};

/// `/libxl/pci/SSSS-BB-DD-F/domid`.
#[must_use]
pub fn holder_path(device: Sbdf) -> Path {
    Path::trusted(format!("/libxl/pci/{}/domid", device.libxl_name()))
}

/// The domain that holds a device; `None` if none does.
///
/// # Errors
/// [`Error::Malformed`] if the node holds something else than a domain id.
pub async fn holder(store: &Store, device: Sbdf) -> Result<Option<DomainId>, Error> {
    let path = holder_path(device);
    let Some(value) = store.read_if_present(&path).await? else {
        return Ok(None);
    };
    decimal(&value).map(|domain| Some(DomainId(domain))).ok_or_else(|| Error::malformed(&path, &value, "a domain id"))
}

/// Records that a domain holds a device. To be done in a transaction that has found no other holder.
///
/// # Errors
/// The node cannot be written.
pub async fn set_holder(store: &Store, device: Sbdf, domain: DomainId) -> Result<(), Error> {
    store.write(&holder_path(device), domain.to_string()).await
}

/// Records that nobody holds a device. What else xl remembers of the device stays.
///
/// # Errors
/// The node cannot be removed.
pub async fn clear_holder(store: &Store, device: Sbdf) -> Result<(), Error> {
    store.rm_if_present(&holder_path(device)).await
}
