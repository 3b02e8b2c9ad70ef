//! What the toolstack and the backend publish.

use xenpcid_address::Sbdf;

use super::{DEVICES_MAX, DeviceOptions, PciNodes};
use crate::number::decimal;
use crate::xenbus::{XenbusState, read_state};
use crate::{Error, Path, Store};

/// The keys of a device, without their number.
const DEVICE_KEYS: [&str; 7] = ["key", "dev", "vdevfn", "name", "opts", "state", "vdev"];

/// A device to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// Address on the host.
    pub host: Sbdf,
    /// What xl calls options.
    pub options: DeviceOptions,
}

/// A device in the backend directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNodes {
    /// The N of its keys. It changes when a device before it is removed: never keep it from one transaction to another.
    pub index: u32,
    /// `dev-N`: address on the host.
    pub host: Sbdf,
    /// `vdev-N`: address in the guest, once published.
    pub guest: Option<Sbdf>,
    /// `state-N`.
    pub state: XenbusState,
    /// `opts-N`.
    pub options: DeviceOptions,
}

/// A bus of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// PCI segment, which pciif.h calls domain.
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
}

/// The backend directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendView {
    /// `state`; [`XenbusState::Unknown`] if the directory is gone.
    pub state: XenbusState,
    /// `online`: the toolstack wants the bus to be there.
    pub online: bool,
    /// The devices; numbers whose `dev-N` is missing are left out.
    pub devices: Vec<DeviceNodes>,
}

impl PciNodes {
    /// Reads the backend directory. For a consistent view, `store` should be a transaction.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a key holds something else than it should.
    pub async fn read_backend(&self, store: &Store) -> Result<BackendView, Error> {
        let state = read_state(store, &self.backend_state()).await?;
        let online = store.read_if_present(&self.in_backend("online")).await?.is_some_and(|value| value == b"1");
        let mut devices = Vec::new();
        for index in 0..self.read_device_count(store).await? {
            devices.extend(self.read_device(store, index).await?);
        }
        Ok(BackendView { state, online, devices })
    }

    /// `num_devs`; 0 if it is not there.
    async fn read_device_count(&self, store: &Store) -> Result<u32, Error> {
        let path = self.in_backend("num_devs");
        let Some(value) = store.read_if_present(&path).await? else {
            return Ok(0);
        };
        let count = decimal(&value).filter(|count| *count <= DEVICES_MAX);
        count.ok_or_else(|| Error::malformed(&path, &value, "a number of devices, at most 256"))
    }

    async fn read_device(&self, store: &Store, index: u32) -> Result<Option<DeviceNodes>, Error> {
        let Some(host) = read_address(store, &self.of_device("dev", index)).await? else {
            return Ok(None);
        };
        let guest = read_address(store, &self.of_device("vdev", index)).await?;
        let state = read_state(store, &self.of_device("state", index)).await?;
        let options = store.read_string_if_present(&self.of_device("opts", index)).await?;
        let options = options.map_or_else(DeviceOptions::default, |text| DeviceOptions::parse(&text));
        Ok(Some(DeviceNodes { index, host, guest, state, options }))
    }

    /// The device at this host address, as it is listed now.
    ///
    /// # Errors
    /// As [`PciNodes::read_backend`].
    pub async fn find_device(&self, store: &Store, host: Sbdf) -> Result<Option<DeviceNodes>, Error> {
        for index in 0..self.read_device_count(store).await? {
            if let Some(device) = self.read_device(store, index).await?.filter(|device| device.host == host) {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Lists one more device, with state [`XenbusState::Initialising`], and gives its number. The backend's own state is
    /// left alone; a bus that is connected needs [`XenbusState::Reconfiguring`] in the same transaction.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the directory is broken, or full.
    pub async fn add_device(&self, store: &Store, device: &NewDevice) -> Result<u32, Error> {
        let index = self.read_device_count(store).await?;
        let count = index.saturating_add(1);
        if count > DEVICES_MAX {
            let path = self.in_backend("num_devs");
            return Err(Error::malformed(&path, index.to_string().as_bytes(), "less than 256: the bus is full"));
        }
        let address = device.host.to_string();
        for (key, value) in [
            ("key", address.clone()),
            ("dev", address),
            ("opts", device.options.to_string()),
            ("state", XenbusState::Initialising.number().to_string()),
        ] {
            store.write(&self.of_device(key, index), value).await?;
        }
        store.write(&self.in_backend("num_devs"), count.to_string()).await?;
        Ok(index)
    }

    /// Unlists a device, and closes the gap as libxl does: each later one moves down by one.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the directory is broken.
    pub async fn remove_device(&self, store: &Store, index: u32) -> Result<(), Error> {
        let count = self.read_device_count(store).await?;
        if index >= count {
            return Ok(());
        }
        for key in DEVICE_KEYS {
            for to in index..count {
                let next = store.read_if_present(&self.of_device(key, to.saturating_add(1))).await?;
                let path = self.of_device(key, to);
                match next.filter(|_| to.saturating_add(1) < count) {
                    Some(value) => store.write(&path, value).await?,
                    None => store.rm_if_present(&path).await?,
                }
            }
        }
        store.write(&self.in_backend("num_devs"), count.saturating_sub(1).to_string()).await
    }

    /// Writes a device's `state-N`.
    ///
    /// # Errors
    /// The node cannot be written.
    pub async fn set_device_state(&self, store: &Store, index: u32, state: XenbusState) -> Result<(), Error> {
        store.write(&self.of_device("state", index), state.number().to_string()).await
    }

    /// Writes where the guest finds a device: `vdev-N` for the guest, `vdevfn-N` for `xl pci-list`.
    ///
    /// # Errors
    /// A node cannot be written.
    pub async fn publish_device(&self, store: &Store, index: u32, guest: Sbdf) -> Result<(), Error> {
        store.write(&self.of_device("vdevfn", index), format!("{:x}", guest.devfn())).await?;
        store.write(&self.of_device("vdev", index), guest.vdev_name()).await
    }

    /// Writes `root_num` and each `root-N`.
    ///
    /// # Errors
    /// A node cannot be written.
    pub async fn publish_roots(&self, store: &Store, roots: &[Root]) -> Result<(), Error> {
        for (number, root) in (0..).zip(roots) {
            let value = format!("{:04x}:{:02x}", root.segment, root.bus);
            store.write(&self.of_device("root", number), value).await?;
        }
        store.write(&self.in_backend("root_num"), roots.len().to_string()).await
    }

    /// Reads `root_num` and each `root-N`; none if they are not published.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a key holds something else than it should.
    pub async fn read_roots(&self, store: &Store) -> Result<Vec<Root>, Error> {
        let path = self.in_backend("root_num");
        let Some(value) = store.read_if_present(&path).await? else {
            return Ok(Vec::new());
        };
        let count = decimal(&value).filter(|count: &u32| *count <= DEVICES_MAX);
        let count = count.ok_or_else(|| Error::malformed(&path, &value, "a number of buses, at most 256"))?;
        let mut roots = Vec::new();
        for number in 0..count {
            let path = self.of_device("root", number);
            let value = store.read(&path).await?;
            let root = parse_root(&value).ok_or_else(|| Error::malformed(&path, &value, "SEGMENT:BUS"))?;
            roots.push(root);
        }
        Ok(roots)
    }
}

async fn read_address(store: &Store, path: &Path) -> Result<Option<Sbdf>, Error> {
    let Some(value) = store.read_if_present(path).await? else {
        return Ok(None);
    };
    let address = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    address.map(Some).ok_or_else(|| Error::malformed(path, &value, "a PCI address"))
}

fn parse_root(value: &[u8]) -> Option<Root> {
    let (segment, bus) = std::str::from_utf8(value).ok()?.split_once(':')?;
    if ![segment, bus].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return None;
    }
    Some(Root { segment: u16::from_str_radix(segment, 16).ok()?, bus: u8::from_str_radix(bus, 16).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_segment_and_bus_in_hexadecimal() {
        assert_eq!(parse_root(b"0001:1f"), Some(Root { segment: 1, bus: 0x1f }));
        for text in ["", ":", "0000", "0000:100", "10000:00", "+1:0", "0:0:0"] {
            assert_eq!(parse_root(text.as_bytes()), None, "{text}");
        }
    }
}
