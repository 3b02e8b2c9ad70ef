//! The host as it is now.

use std::collections::BTreeMap;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Config, HostFunction};
use xenpcid_host::{DomainInfo, FunctionDescription, Host, HostError};

use crate::plan::{ByHand, Function, Picture, Running, Whereabouts};
use crate::pool::{Pool, Slot};
use crate::session::{Guest, Placed};
use crate::toolstack::{OperationError, Toolstack};

/// A domain other than dom0.
#[derive(Clone, Debug)]
pub struct Domain {
    /// Who it is.
    pub guest: Guest,
    /// Whether xenstore has its name. Without, it is there, and nothing is planned for it: what it has it keeps.
    pub is_named: bool,
    /// What Xen says of it.
    pub info: DomainInfo,
    /// The devices that it has; `None` if it never had one.
    pub has: Option<Vec<Sbdf>>,
}

/// What was found.
#[derive(Debug)]
pub struct Look {
    /// The functions of the host.
    pub functions: Vec<Function>,
    /// The devices that are looked after.
    pub devices: BTreeMap<Sbdf, Whereabouts>,
    /// The domains, without dom0.
    pub domains: Vec<Domain>,
}

impl Look {
    /// What a plan is made from.
    #[must_use]
    pub fn picture<'a>(&self, config: &'a Config, by_hand: &'a ByHand) -> Picture<'a> {
        let runs = |domain: &&Domain| domain.is_named && !domain.info.dying && domain.info.shutdown.is_none();
        let running = |domain: &Domain| Running {
            guest: domain.guest.clone(),
            uuid: domain.info.uuid,
            hvm: domain.info.hvm,
            has: domain.has.clone().unwrap_or_default(),
        };
        Picture {
            config,
            functions: self.functions.clone(),
            devices: self.devices.clone(),
            domains: self.domains.iter().filter(runs).map(running).collect(),
            by_hand,
        }
    }
}

/// The functions of the host, which is the part of a look that takes its time.
///
/// # Errors
/// sysfs cannot be read.
pub async fn functions(toolstack: &Toolstack) -> Result<Vec<Function>, OperationError> {
    Ok(described(toolstack).await?.iter().map(|(address, described)| described.function(*address)).collect())
}

/// Looks at everything but the functions of the host.
///
/// # Errors
/// Xen or xenstore do not answer.
pub async fn look(toolstack: &Toolstack, functions: Vec<Function>) -> Result<Look, OperationError> {
    let served: BTreeMap<DomainId, Vec<Placed>> =
        toolstack.guests().into_iter().map(|(guest, devices)| (guest.domain, devices)).collect();
    let domains = toolstack.all_domains().await?.into_iter().filter(|(info, _)| info.domain != DomainId::DOM0);
    let domains = domains.map(|(info, name)| Domain {
        has: served.get(&info.domain).map(|devices| devices.iter().map(|device| device.function).collect()),
        is_named: name.is_some(),
        guest: Guest { domain: info.domain, name: name.unwrap_or_default() },
        info,
    });
    Ok(Look { functions, domains: domains.collect(), devices: devices(toolstack.pool()) })
}

/// What the host tells of one of its functions.
#[derive(Clone, Debug)]
pub struct Described {
    /// What Linux knows of it.
    pub description: FunctionDescription,
    /// Its serial number, if the configuration asks for any: it is read from the device.
    pub serial: Option<u64>,
    /// What its place is called, if the configuration asks for any: each slot of the host is looked at.
    pub port: Option<String>,
}

impl Described {
    /// By what it is found.
    #[must_use]
    pub fn identity(&self, address: Sbdf) -> HostFunction {
        let Self { description, serial, port } = self;
        HostFunction {
            address,
            vendor: description.vendor,
            device: description.device,
            subsystem: description.subsystem,
            serial: *serial,
            path: description.path.clone(),
            port: port.clone(),
        }
    }

    /// What a plan needs to know of it.
    fn function(&self, address: Sbdf) -> Function {
        Function {
            identity: self.identity(address),
            physical: self.description.physical_function,
            virtual_functions: self.description.virtual_functions.map_or(0, |functions| functions.enabled),
        }
    }
}

/// Every function of the host. One that vanishes meanwhile is left out.
///
/// # Errors
/// sysfs cannot be read.
pub async fn described(toolstack: &Toolstack) -> Result<BTreeMap<Sbdf, Described>, OperationError> {
    let host = toolstack.host().clone();
    let config = toolstack.declared().config;
    let serials = config.identities().any(|identity| identity.serial.is_some());
    let ports = config.identities().any(|identity| identity.port.is_some());
    let described = tokio::task::spawn_blocking(move || {
        let describe = |address: Sbdf| {
            let description = host.pci.describe(address).ok()?;
            let serial = if serials { serial_number(&host, address) } else { None };
            let port = if ports { host.pci.port(address).ok()? } else { None };
            Some((address, Described { description, serial, port }))
        };
        Ok::<_, HostError>(host.pci.functions()?.into_iter().filter_map(describe).collect())
    });
    Ok(described.await??)
}

fn serial_number(host: &Host, function: Sbdf) -> Option<u64> {
    let config = host.pci.open_config(function).ok()?;
    xenpcid_host::serial_number(config.as_ref()).ok().flatten()
}

fn devices(pool: &Pool) -> BTreeMap<Sbdf, Whereabouts> {
    let whereabouts = |slot: &Slot| match slot {
        Slot::Unclaimed => Whereabouts::Unclaimed,
        Slot::Busy => Whereabouts::Busy,
        Slot::Free(_) => Whereabouts::Free,
        Slot::Lent(guest, _) => Whereabouts::Lent(guest.clone()),
        Slot::Broken(_, reason) => Whereabouts::Broken(reason.clone()),
    };
    pool.lock().iter().map(|(function, entry)| (*function, whereabouts(&entry.slot))).collect()
}
