//! By what a device is found, whatever number its bus has today.

use std::fmt;

use xenpcid_address::Sbdf;

/// By what a device is found. All that is there must agree with the device; something is there.
///
/// Bus numbers change when cards and bridges come and go. A serial number goes with its card, a path or a port stays with its
/// slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Address, as it is now.
    pub bdf: Option<Sbdf>,
    /// Vendor ID.
    pub vendor: Option<u16>,
    /// Device ID.
    pub device: Option<u16>,
    /// Subsystem vendor ID and subsystem ID.
    pub subsystem: Option<(u16, u16)>,
    /// Device serial number (PCI Express Base Specification 7.9.3), its upper doubleword first.
    pub serial: Option<u64>,
    /// The way to it from its host bridge: `pci`, the bridge's segment and bus, then device and function of each step, such
    /// as `pci0000:00/1c.0/00.0`. No bus number below the host bridge is in it.
    pub path: Option<String>,
    /// What the firmware calls the device or its slot.
    pub port: Option<String>,
}

/// A function of this host, with all by which it can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFunction {
    /// Address.
    pub address: Sbdf,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID and subsystem ID.
    pub subsystem: (u16, u16),
    /// Device serial number, if it has one.
    pub serial: Option<u64>,
    /// As in [`Identity::path`].
    pub path: String,
    /// As in [`Identity::port`], if the firmware has a name for it.
    pub port: Option<String>,
}

/// Why a device is not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nothing in this host agrees.
    #[error("no device of this host is {identity}; {}", but_for(identity, nearly))]
    NotFound {
        /// What was looked for.
        identity: Identity,
        /// What agrees in all but one key.
        nearly: Vec<HostFunction>,
    },
    /// More than one agrees.
    #[error("{} devices of this host are {identity}: {}", found.len(), told_apart(identity, found))]
    Several {
        /// What was looked for.
        identity: Identity,
        /// What was found, at least two.
        found: Vec<HostFunction>,
    },
}

/// A key of the configuration, and how its value is written.
struct Key {
    name: &'static str,
    declared: fn(&Identity) -> Option<String>,
    present: fn(&HostFunction) -> Option<String>,
}

/// The keys of an identity, the sooner the better they stay with a device.
const KEYS: [Key; 7] = [
    Key {
        name: "serial",
        declared: |identity| identity.serial.map(serial_text),
        present: |function| function.serial.map(serial_text),
    },
    Key { name: "port", declared: |identity| identity.port.clone(), present: |function| function.port.clone() },
    Key { name: "path", declared: |identity| identity.path.clone(), present: |function| Some(function.path.clone()) },
    Key {
        name: "subsystem",
        declared: |identity| identity.subsystem.map(pair_text),
        present: |function| Some(pair_text(function.subsystem)),
    },
    Key {
        name: "device",
        declared: |identity| identity.device.map(id_text),
        present: |function| Some(id_text(function.device)),
    },
    Key {
        name: "vendor",
        declared: |identity| identity.vendor.map(id_text),
        present: |function| Some(id_text(function.vendor)),
    },
    Key {
        name: "bdf",
        declared: |identity| identity.bdf.map(|address| address.to_string()),
        present: |function| Some(function.address.to_string()),
    },
];

/// Most devices that a message lists.
const LISTED_MAX: usize = 8;

impl Identity {
    /// The device that this is.
    ///
    /// # Errors
    /// No function agrees, or several do; the message says which keys help.
    pub fn find<'a>(&self, functions: &'a [HostFunction]) -> Result<&'a HostFunction, IdentityError> {
        let found: Vec<&HostFunction> = functions.iter().filter(|function| self.matches(function)).collect();
        match found.as_slice() {
            [function] => Ok(function),
            [] => {
                let is_near = |function: &&HostFunction| self.given().count() > 1 && self.wrong(function).count() == 1;
                let nearly = functions.iter().filter(is_near).cloned().collect();
                Err(IdentityError::NotFound { identity: self.clone(), nearly })
            }
            several => {
                let found = several.iter().copied().cloned().collect();
                Err(IdentityError::Several { identity: self.clone(), found })
            }
        }
    }

    /// Whether all that is there agrees with a function.
    #[must_use]
    pub fn matches(&self, function: &HostFunction) -> bool {
        self.wrong(function).next().is_none()
    }

    /// Whether it says nothing, so that every function agrees.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.given().next().is_none()
    }

    fn given(&self) -> impl Iterator<Item = (&'static Key, String)> {
        KEYS.iter().filter_map(|key| (key.declared)(self).map(|value| (key, value)))
    }

    /// The keys in which a function disagrees.
    fn wrong(&self, function: &HostFunction) -> impl Iterator<Item = &'static Key> {
        self.given().filter(|(key, value)| (key.present)(function).as_ref() != Some(value)).map(|(key, _)| key)
    }
}

impl From<Sbdf> for Identity {
    fn from(address: Sbdf) -> Self {
        Self { bdf: Some(address), ..Self::default() }
    }
}

impl fmt::Display for Identity {
    /// As in `0000:03:00.0, 8086:10d3, serial 00-11-22-ff-ff-33-44-55`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = |id: Option<u16>| id.map_or_else(|| "*".to_owned(), id_text);
        let ids = (self.vendor.is_some() || self.device.is_some())
            .then(|| format!("{}:{}", id(self.vendor), id(self.device)));
        let parts = [
            self.bdf.map(|address| address.to_string()),
            ids,
            self.subsystem.map(|subsystem| format!("subsystem {}", pair_text(subsystem))),
            self.serial.map(|serial| format!("serial {}", serial_text(serial))),
            self.path.as_ref().map(|path| format!("path {path}")),
            self.port.as_ref().map(|port| format!("port {port:?}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

fn but_for(identity: &Identity, nearly: &[HostFunction]) -> String {
    let but_for = |function: &HostFunction| {
        let wrong = identity.wrong(function).next()?;
        let disagrees = match (wrong.present)(function) {
            Some(value) => format!("its {} is {}", wrong.name, toml::Value::from(value)),
            None => format!("it has no {}", wrong.name),
        };
        Some(format!("{} would be, but {disagrees}", function.address))
    };
    match listed(nearly.iter().filter_map(but_for).collect()) {
        near if near.is_empty() => "`lspci -Dnn` lists those that there are".to_owned(),
        near => near,
    }
}

fn told_apart(identity: &Identity, found: &[HostFunction]) -> String {
    let tells_apart = |key: &Key, function: &HostFunction| {
        let value = (key.present)(function)?;
        let is_its_own = found.iter().filter(|other| (key.present)(other).as_ref() == Some(&value)).count() == 1;
        is_its_own.then(|| format!("{} = {}", key.name, toml::Value::from(value)))
    };
    let with_keys = |function: &HostFunction| {
        let keys: Vec<String> = KEYS
            .iter()
            .filter(|key| (key.declared)(identity).is_none())
            // The address is there in any case, and the device ID means nothing without the vendor's.
            .filter(|key| key.name != "bdf" && (key.name != "device" || identity.vendor.is_some()))
            .filter_map(|key| tells_apart(key, function))
            .collect();
        match keys.as_slice() {
            [] => format!("{} (bdf = \"{0}\")", function.address),
            keys => format!("{} ({})", function.address, keys.join(" or ")),
        }
    };
    let list = listed(found.iter().map(with_keys).collect());
    format!("{list}; add what is in the brackets of the one that is meant")
}

/// Not more than a message can have.
fn listed(mut items: Vec<String>) -> String {
    let rest = items.len().saturating_sub(LISTED_MAX);
    items.truncate(LISTED_MAX);
    if rest > 0 {
        items.push(format!("and {rest} more"));
    }
    items.join(", ")
}

fn id_text(id: u16) -> String {
    format!("{id:04x}")
}

fn pair_text((vendor, device): (u16, u16)) -> String {
    format!("{vendor:04x}:{device:04x}")
}

/// A device serial number as `lspci` prints it, such as `00-11-22-ff-ff-33-44-55`.
#[must_use]
pub fn serial_text(serial: u64) -> String {
    serial.to_be_bytes().map(|byte| format!("{byte:02x}")).join("-")
}
