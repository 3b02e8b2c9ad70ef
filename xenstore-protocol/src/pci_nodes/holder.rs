//! What xl remembers of a device, below `/libxl/pci/SSSS-BB-DD-F`:
//!
//! | key | value | while |
//! |---|---|---|
//! | `domid` | the domain that holds it | a guest has it |
//! | `driver_path` | folder in sysfs of the driver that it was taken from | it is to go back there |
//! | `name` | what it is called | it is assignable |

use xenpcid_address::{DomainId, Sbdf};

use crate::number::decimal;
use crate::{Error, Path, Store};

/// `/libxl/pci/SSSS-BB-DD-F/domid`.
#[must_use]
pub fn holder_path(device: Sbdf) -> Path {
    key(device, "domid")
}

fn key(device: Sbdf, key: &str) -> Path {
    Path::trusted(format!("/libxl/pci/{}/{key}", device.libxl_name()))
}

/// Records that a device is assignable: the driver that it was taken from, and its name. An older record of the driver stays
/// if none is given.
///
/// # Errors
/// A node cannot be written.
pub async fn record_assignable(
    store: &Store,
    device: Sbdf,
    driver_path: Option<&str>,
    name: Option<&str>,
) -> Result<(), Error> {
    if let Some(driver_path) = driver_path {
        store.write(&key(device, "driver_path"), driver_path).await?;
    }
    match name {
        Some(name) => store.write(&key(device, "name"), name).await,
        None => store.rm_if_present(&key(device, "name")).await,
    }
}

/// Records that a device is not assignable any more; with `rebound`, that its driver has it again. A directory without keys
/// is removed.
///
/// # Errors
/// A node cannot be removed.
pub async fn forget_assignable(store: &Store, device: Sbdf, rebound: bool) -> Result<(), Error> {
    store.rm_if_present(&key(device, "name")).await?;
    if rebound {
        store.rm_if_present(&key(device, "driver_path")).await?;
    }
    remove_if_empty(store, device).await
}

async fn remove_if_empty(store: &Store, device: Sbdf) -> Result<(), Error> {
    let directory = Path::trusted(format!("/libxl/pci/{}", device.libxl_name()));
    if store.exists(&directory).await? && store.directory_if_present(&directory).await?.is_empty() {
        store.rm_if_present(&directory).await?;
    }
    Ok(())
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
    store.rm_if_present(&holder_path(device)).await?;
    remove_if_empty(store, device).await
}
