//! Domains: how each is found, and the devices that it gets.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

/// A domain and the devices that it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// How the domain is found.
    pub selector: DomainSelector,
    /// Most MSI-X vectors that each of its devices shows it: 1 to [`VECTORS_MAX`](crate::VECTORS_MAX), which it is unless
    /// declared.
    pub vectors: u16,
    /// How long at most it is kept paused until it has its devices, and `Some(None)` lets it run at once; `None` leaves that
    /// to [`Settings::hold`](crate::Settings::hold).
    pub hold: Option<Option<Duration>>,
    /// Its devices in the order of the file, at most [`DEVICES_MAX`](crate::DEVICES_MAX).
    pub devices: Vec<DomainDevice>,
}

/// By what a domain is found among those that run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainSelector {
    /// Its name, not empty.
    Name(String),
    /// Its UUID.
    Uuid(Uuid),
    /// What its name is like: `*` stands for any characters, also none, and `?` for any one. At least one of them is in it.
    Glob(String),
}

/// A device that a domain gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainDevice {
    /// Which one.
    pub source: Source,
    /// Its slot on the domain's virtual bus, 0 to 31; `None` is the first that is free. No other device of the domain has it.
    pub slot: Option<u8>,
    /// Most MSI-X vectors that it shows the domain, if not [`Domain::vectors`].
    pub vectors: Option<u16>,
}

/// Where a device of a domain comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A device of its own: its place in [`Config::devices`](crate::Config::devices).
    Device(usize),
    /// Any free virtual function of a pool.
    Pool {
        /// Place of the pool in [`Config::pools`](crate::Config::pools).
        pool: usize,
        /// The Ethernet address that it is given; of one interface, and not zero.
        mac: Option<[u8; 6]>,
        /// The VLAN that its frames are put in, 1 to 4094.
        vlan: Option<u16>,
    },
}

impl DomainSelector {
    /// Whether a domain of this name, any bytes, and this UUID is meant.
    #[must_use]
    pub fn matches(&self, name: &[u8], uuid: &[u8; 16]) -> bool {
        match self {
            Self::Name(wanted) => wanted.as_bytes() == name,
            Self::Uuid(wanted) => wanted.as_bytes() == uuid,
            Self::Glob(pattern) => std::str::from_utf8(name).is_ok_and(|name| is_like(name, pattern)),
        }
    }

    /// The less, the sooner: what means one domain precedes what may mean several.
    pub(crate) const fn precedence(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Uuid(_) => 1,
            Self::Glob(_) => 2,
        }
    }

    /// What the operator wrote as `name`.
    pub(crate) fn named(name: String) -> Self {
        if name.contains(['*', '?']) { Self::Glob(name) } else { Self::Name(name) }
    }
}

/// Tries the shortest text for the last `*` first and lengthens it where the rest does not fit, which is enough: an earlier
/// `*` that took more could only leave less for the last one.
fn is_like(name: &str, pattern: &str) -> bool {
    let (mut name, mut pattern) = (name.chars(), pattern.chars());
    let mut last_star = None;
    loop {
        let unread = name.clone();
        match (name.next(), pattern.next()) {
            (_, Some('*')) => {
                last_star = Some((unread.clone(), pattern.clone()));
                name = unread;
            }
            (Some(_), Some('?')) => {}
            (Some(found), Some(wanted)) if found == wanted => {}
            (None, None) => return true,
            _ => {
                let Some((mut longer, after_star)) = last_star else { return false };
                if longer.next().is_none() {
                    return false;
                }
                (name, pattern) = (longer.clone(), after_star.clone());
                last_star = Some((longer, after_star));
            }
        }
    }
}

impl fmt::Display for DomainSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Glob(name) => name.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
        }
    }
}
