//! The devices that are declared, as this host has them: what can be told of them without a daemon.

use std::path::Path;

use xenpcid_address::Sbdf;
use xenpcid_config::{Config, Device, HostFunction, Override, ResetRequirement};
use xenpcid_host::{HostError, HostUse, PciHost, Sysfs, serial_number};

use super::Finding;
use crate::failure;

/// A finding for each that is good, and for each reason why one is not.
pub fn judge(root: &Path, config: &Config) -> Vec<Finding> {
    let host = Sysfs::with_processes(root.join("sys"), root.join("proc"));
    if config.identities().next().is_none() {
        return Vec::new();
    }
    let functions = match functions(&host, config) {
        Ok(functions) => functions,
        Err(error) => return vec![Finding::complaint(failure::chain(&error))],
    };
    let mut findings: Vec<Finding> =
        config.devices.iter().flat_map(|device| judge_device(&host, &functions, device)).collect();
    findings.extend(config.pools.iter().filter_map(|pool| {
        let missing = pool.physical_function.find(&functions).err()?;
        Some(Finding::complaint(format!("pool {}: {missing}", pool.name)))
    }));
    findings
}

/// All of the host. Those that vanish meanwhile are left out; serial numbers, which are read from the devices, and ports are
/// looked for only if the configuration asks for any.
fn functions(host: &Sysfs, config: &Config) -> Result<Vec<HostFunction>, HostError> {
    let serials = config.identities().any(|identity| identity.serial.is_some());
    let ports = config.identities().any(|identity| identity.port.is_some());
    let serial = |address| serial_number(&*host.open_config(address).ok()?).ok()?;
    let function = |address| {
        let description = host.describe(address).ok()?;
        Some(HostFunction {
            address,
            vendor: description.vendor,
            device: description.device,
            subsystem: description.subsystem,
            serial: if serials { serial(address) } else { None },
            path: description.path,
            port: if ports { host.port(address).ok()? } else { None },
        })
    };
    Ok(host.functions()?.into_iter().filter_map(function).collect())
}

fn judge_device(host: &Sysfs, functions: &[HostFunction], device: &Device) -> Vec<Finding> {
    let address = match device.identity.find(functions) {
        Ok(function) => function.address,
        Err(error) => return vec![Finding::complaint(error.to_string())],
    };
    let title = device.name.as_ref().map_or_else(|| address.to_string(), |name| format!("{address} {name}"));
    match against(host, device, address) {
        Ok(reasons) if reasons.is_empty() => {
            vec![Finding::good(format!("{title} is there, and can be given to a guest"))]
        }
        Ok(reasons) => {
            reasons.into_iter().map(|(reason, remedy)| Finding::problem(format!("{title}: {reason}"), remedy)).collect()
        }
        Err(error) => vec![Finding::complaint(format!("{title}: {}", failure::chain(&error)))],
    }
}

/// What keeps a device from being given away, with its remedy.
fn against(host: &Sysfs, device: &Device, address: Sbdf) -> Result<Vec<(String, String)>, HostError> {
    let mut reasons = Vec::new();
    if !device.allow.contains(&Override::HostUse) {
        let remedy = format!(
            "have dom0 do without it, or allow = [\"{}\"] in its entry of the configuration",
            Override::HostUse
        );
        let used = |used: HostUse| (format!("this system uses it: {used}"), remedy.clone());
        reasons.extend(host.uses(address)?.into_iter().map(used));
    }
    if device.reset == ResetRequirement::Required && host.reset_methods(address)?.is_empty() {
        let reason = "there is no way to reset it, so that what one guest leaves in it reaches the next";
        let remedy = format!("reset = \"{}\" in its entry, if you can live with that", ResetRequirement::BestEffort);
        reasons.push((reason.to_owned(), remedy));
    }
    Ok(reasons)
}
