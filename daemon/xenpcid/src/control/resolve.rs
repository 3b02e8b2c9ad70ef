//! From what a command names to devices and domains.

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, HostFunction};
use xenpcid_control::Refusal;

use super::{Control, refusal};
use crate::session::Guest;
use crate::supervisor::look;

impl Control {
    /// The domain of that number, if it is all digits, else of that name.
    pub(super) async fn guest(&self, domain: &str) -> Result<Guest, Refusal> {
        let domains = self.toolstack.domains().await.map_err(refusal)?;
        let number = domain.bytes().all(|byte| byte.is_ascii_digit()).then(|| domain.parse().ok()).flatten();
        let found = domains.into_iter().find(|(info, name)| match number {
            Some(number) => info.domain == DomainId(number),
            None => name == domain,
        });
        let unsuitable =
            |reason: &str| Err(Refusal::DomainNotSuitable { domain: domain.to_owned(), reason: reason.to_owned() });
        match found {
            Some((info, _)) if info.domain == DomainId::DOM0 => unsuitable("it is dom0"),
            Some((info, _)) if info.hvm => unsuitable(
                "it is hardware virtualised and has no PCI frontend; only PV guests can be served: type=\"pv\"",
            ),
            Some((info, name)) => Ok(Guest { domain: info.domain, name }),
            None => Err(Refusal::DomainNotFound { domain: domain.to_owned() }),
        }
    }

    /// The functions that an address, an address with `*`, or a name stands for, among `all` of the host.
    pub(super) fn functions_of(&self, device: &str, all: &[HostFunction]) -> Result<Vec<Sbdf>, Refusal> {
        let not_found = || Refusal::DeviceNotFound { device: device.to_owned() };
        // One that is gone from the host can still be taken from its guest.
        if let Some((function, _)) = self.looked_after(device) {
            return Ok(vec![function]);
        }
        if let Some(slot) = device.strip_suffix(".*") {
            let first: Sbdf = format!("{slot}.0").parse().map_err(|_| not_found())?;
            let addresses = all.iter().map(|function| function.address);
            let functions: Vec<Sbdf> = addresses.filter(|function| function.is_in_slot_of(first)).collect();
            return if functions.is_empty() { Err(not_found()) } else { Ok(functions) };
        }
        if let Ok(address) = device.parse::<Sbdf>() {
            let known = all.iter().any(|function| function.address == address);
            return if known { Ok(vec![address]) } else { Err(not_found()) };
        }
        let config = self.toolstack.declared().config;
        let declared = config.devices.iter().find(|declared| declared.name.as_deref() == Some(device));
        let found = declared.and_then(|declared| declared.identity.find(all).ok());
        found.map(|function| vec![function.address]).ok_or_else(not_found)
    }

    /// What is said of a device, by an earlier command or by the configuration; `all` are the functions of the host.
    pub(super) fn declaration(&self, function: Sbdf, all: &[HostFunction]) -> Device {
        let held = self.toolstack.pool().lock().get(&function).map(|entry| entry.device.clone());
        held.or_else(|| self.declared(function, all)).unwrap_or_else(|| Device::new(function))
    }

    /// What the configuration says of a device.
    pub(super) fn declared(&self, function: Sbdf, all: &[HostFunction]) -> Option<Device> {
        let config = self.toolstack.declared().config;
        let is_it = |declared: &&Device| declared.identity.find(all).is_ok_and(|found| found.address == function);
        config.devices.iter().find(is_it).cloned()
    }

    /// The device of that address or name that is looked after, and whether it is claimed.
    fn looked_after(&self, device: &str) -> Option<(Sbdf, bool)> {
        let address = device.parse::<Sbdf>().ok();
        let pool = self.toolstack.pool().lock();
        let found = pool
            .iter()
            .find(|(function, entry)| address == Some(**function) || entry.device.name.as_deref() == Some(device));
        found.map(|(function, entry)| (*function, entry.slot.facts().is_some()))
    }

    /// All functions of the host, since `devices` may be any of them: to be asked for once in a command, since each of them is
    /// read. None if all that are meant are claimed already.
    pub(super) async fn host_functions(&self, devices: &[&str]) -> Result<Vec<HostFunction>, Refusal> {
        if devices.iter().all(|device| matches!(self.looked_after(device), Some((_, true)))) {
            return Ok(Vec::new());
        }
        let described = look::described(&self.toolstack).await.map_err(refusal)?;
        Ok(described.iter().map(|(address, described)| described.identity(*address)).collect())
    }

    /// The devices that a guest has.
    pub(super) fn has(&self, guest: &Guest) -> Vec<Sbdf> {
        let guests = self.toolstack.guests();
        let devices = guests.into_iter().find(|(served, _)| served == guest).map(|(_, devices)| devices);
        devices.into_iter().flatten().map(|device| device.function).collect()
    }
}
