//! The nodes of a guest's PCI bus, as libxl writes them and Linux' xen-pcifront reads them
//! (xen/include/public/io/pciif.h; tools/libs/light/libxl_pci.c).
//!
//! A guest has at most one bus; all its devices are on it. Two directories belong to it:
//!
//! | key in the backend directory | value | written by |
//! |---|---|---|
//! | `frontend`, `frontend-id` | path of the frontend directory; domain id | toolstack |
//! | `online` | `1` | toolstack |
//! | `state` | xenbus state | backend; toolstack writes 1, and 7 when devices come or go |
//! | `domain` | name of the guest | toolstack |
//! | `num_devs` | number of devices, decimal | toolstack |
//! | `dev-N`, `key-N` | host address `SSSS:BB:DD.F` | toolstack |
//! | `vdevfn-N` | slot and function, hexadecimal: xl's are those that were asked for, ours where the device is | toolstack |
//! | `name-N` | name of the device | toolstack, if it has one |
//! | `opts-N` | `msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict` | toolstack |
//! | `state-N` | state of the device: 1 to be added, 3 there, 5 to be removed | toolstack 1 and 5, backend 3 |
//! | `vdev-N` | guest's address `SSSS:BB:DD.FF`, function of two digits | backend |
//! | `root_num`, `root-N` | number of buses; `SSSS:BB` of each | backend |
//!
//! | key in the frontend directory | value | written by |
//! |---|---|---|
//! | `backend`, `backend-id` | path of the backend directory; 0 | toolstack |
//! | `state` | xenbus state | frontend; toolstack writes 1 |
//! | `pci-op-ref` | grant reference of the shared page, decimal | frontend |
//! | `event-channel` | port in the guest, decimal | frontend |
//! | `magic` | `7` | frontend |
//!
//! The frontend directory belongs to the guest, so whatever is read there is checked, and wrong values are
//! [`Error::Malformed`]. Functions that take a [`Store`] work inside and outside of transactions; those that make
//! several changes belong into one.

mod backend;
mod frontend;
mod holder;
mod options;

pub use backend::{BackendView, DeviceNodes, NewDevice, Root};
pub use frontend::{FrontendView, MAGIC, RingNodes};
pub use holder::{clear_holder, forget_assignable, holder, holder_path, record_assignable, set_holder};
pub use options::{DeviceOptions, RdmPolicy};

use xenpcid_address::DomainId;

use crate::xenbus::XenbusState;
use crate::{Access, Error, Path, Permissions, Store};

/// Most devices that a bus may have: a function each at 32 slots of 8. More in `num_devs` is an error.
pub const DEVICES_MAX: u32 = 256;

/// Directory below which each guest with a bus has one, named by its domain id.
pub const BACKENDS: Path = Path::from_static("/local/domain/0/backend/pci");

/// The two directories of a guest's bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciNodes {
    guest: DomainId,
    backend: Path,
    frontend: Path,
}

impl PciNodes {
    /// The directories of this guest's bus, whether they exist or not.
    #[must_use]
    pub fn new(guest: DomainId) -> Self {
        Self {
            guest,
            backend: Path::trusted(format!("{BACKENDS}/{guest}/0")),
            frontend: Path::trusted(format!("/local/domain/{guest}/device/pci/0")),
        }
    }

    /// The guest.
    #[must_use]
    pub fn guest(&self) -> DomainId {
        self.guest
    }

    /// `/local/domain/0/backend/pci/<guest>/0`.
    #[must_use]
    pub fn backend(&self) -> &Path {
        &self.backend
    }

    /// `/local/domain/<guest>/device/pci/0`.
    #[must_use]
    pub fn frontend(&self) -> &Path {
        &self.frontend
    }

    /// The backend's `state`.
    #[must_use]
    pub fn backend_state(&self) -> Path {
        self.in_backend("state")
    }

    /// The frontend's `state`.
    #[must_use]
    pub fn frontend_state(&self) -> Path {
        Path::trusted(format!("{}/state", self.frontend))
    }

    /// A key of the backend directory.
    fn in_backend(&self, key: &str) -> Path {
        Path::trusted(format!("{}/{key}", self.backend))
    }

    /// A key of one device in the backend directory.
    fn of_device(&self, key: &str, index: u32) -> Path {
        Path::trusted(format!("{}/{key}-{index}", self.backend))
    }

    /// The guests that have a directory below [`BACKENDS`].
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn list(store: &Store) -> Result<Vec<Self>, Error> {
        let names = store.directory_if_present(&BACKENDS).await?;
        Ok(names
            .iter()
            .filter_map(|name| crate::number::decimal(name.as_bytes()))
            .map(DomainId)
            .map(Self::new)
            .collect())
    }

    /// Makes both directories afresh, with both states [`XenbusState::Initialising`] and these devices. Whatever was in
    /// them is removed.
    ///
    /// # Errors
    /// A node cannot be written; ENOENT if the guest does not exist.
    pub async fn create(&self, store: &Store, guest_name: &str, devices: &[NewDevice]) -> Result<(), Error> {
        let initialising = XenbusState::Initialising.number().to_string();
        let guest = self.guest.to_string();
        let readable_by_guest = Permissions::private(DomainId::DOM0).with(self.guest, Access::Read);
        fresh_directory(store, &self.backend, &readable_by_guest).await?;
        for (key, value) in [
            ("frontend", self.frontend.as_str()),
            ("frontend-id", &guest),
            ("online", "1"),
            ("state", &initialising),
            ("domain", guest_name),
            ("num_devs", "0"),
        ] {
            store.write(&self.in_backend(key), value).await?;
        }
        let owned_by_guest = Permissions::private(self.guest).with(DomainId::DOM0, Access::Read);
        fresh_directory(store, &self.frontend, &owned_by_guest).await?;
        for (key, value) in [("backend", self.backend.as_str()), ("backend-id", "0"), ("state", initialising.as_str())]
        {
            store.write(&Path::trusted(format!("{}/{key}", self.frontend)), value).await?;
        }
        for device in devices {
            self.add_device(store, device).await?;
        }
        Ok(())
    }

    /// Removes both directories; it is no error if they are gone.
    ///
    /// # Errors
    /// A node cannot be removed.
    pub async fn remove(&self, store: &Store) -> Result<(), Error> {
        for directory in [&self.frontend, &self.backend] {
            store.rm_if_present(directory).await?;
            // The directory above was made for this one alone, unless it has others.
            let above = directory.parent().unwrap_or(Path::ROOT);
            if store.directory_if_present(&above).await?.is_empty() {
                store.rm_if_present(&above).await?;
            }
        }
        Ok(())
    }
}

async fn fresh_directory(store: &Store, path: &Path, permissions: &Permissions) -> Result<(), Error> {
    store.rm_if_present(path).await?;
    store.mkdir(path).await?;
    store.set_permissions(path, permissions).await
}
