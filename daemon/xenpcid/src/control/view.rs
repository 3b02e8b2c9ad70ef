//! What there is, as clients see it.

use std::collections::{BTreeMap, BTreeSet};

use xenpcid_address::Sbdf;
use xenpcid_config::{Config, Device, Source, Uuid, VECTORS_MAX};
use xenpcid_control as control;
use xenpcid_host::DomainInfo;
use xenpcid_policy::{InterruptMode, VirtualAddress};

use super::{guest, milliseconds};
use crate::checks::{self, Finding};
use crate::claim::{Facts, ResetReport};
use crate::pool::Slot;
use crate::session::{Guest, Placed};
use crate::supervisor::look::{self, Described};
use crate::toolstack::{OperationError, Toolstack};

/// Where a guest sees a device.
pub(super) fn guest_address(address: VirtualAddress) -> String {
    format!("{:02x}.{:x}", address.slot(), address.function())
}

pub(super) async fn functions(toolstack: &Toolstack) -> Result<Vec<control::Function>, OperationError> {
    let host = toolstack.host().clone();
    let labelled = look::described(toolstack).await?.into_iter();
    let labelled = tokio::task::spawn_blocking(move || {
        let label = |address| host.pci.port(address).ok().flatten();
        labelled.map(|(address, described)| (address, described, label(address))).collect::<Vec<_>>()
    });
    let function = |(address, Described { description, .. }, label)| control::Function {
        address,
        vendor: description.vendor,
        device: description.device,
        class: description.class,
        driver: description.driver,
        parent: description.parent,
        path: description.path,
        label,
    };
    Ok(labelled.await?.into_iter().map(function).collect())
}

pub(super) async fn devices(toolstack: &Toolstack) -> Result<Vec<control::Device>, OperationError> {
    let described = look::described(toolstack).await?;
    let identities: Vec<_> = described.iter().map(|(address, described)| described.identity(*address)).collect();
    let places: BTreeMap<Sbdf, VirtualAddress> =
        toolstack.guests().into_iter().flat_map(|(_, devices)| devices).map(|d| (d.function, d.address)).collect();
    let config = toolstack.declared().config;
    let problems = toolstack.progress().problems;
    let problem_of = |name: &str| {
        problems.iter().find(|problem| problem.device.as_deref() == Some(name)).map(|problem| problem.text.clone())
    };
    let mut declared: BTreeMap<Sbdf, &Device> = BTreeMap::new();
    let mut slots: BTreeMap<Sbdf, u8> = BTreeMap::new();
    let mut missing = Vec::new();
    for (index, device) in config.devices.iter().enumerate() {
        let slot = declared_slot(&config, index);
        match device.identity.find(&identities) {
            Ok(function) => {
                declared.insert(function.address, device);
                slots.extend(slot.map(|slot| (function.address, slot)));
            }
            Err(error) => missing.push(control::Device { slot, ..self::missing(device, error.to_string()) }),
        }
    }
    // What a domain was given by hand it gets there again.
    for request in toolstack.by_hand().borrow().attached.values().flatten() {
        slots.extend(request.slot.map(|slot| (request.function, slot)));
    }
    let pool = toolstack.pool().lock();
    let mut devices = Vec::new();
    for function in pool.keys().chain(declared.keys()).copied().collect::<BTreeSet<_>>() {
        let entry = pool.get(&function);
        let Some(device) = entry.map(|entry| &entry.device).or_else(|| declared.get(&function).copied()) else {
            continue;
        };
        let (state, holder, broken) = match entry.map(|entry| &entry.slot) {
            None | Some(Slot::Unclaimed) => (control::DeviceState::Unclaimed, None, None),
            Some(Slot::Busy) => (control::DeviceState::Claiming, None, None),
            Some(Slot::Free(_)) => (control::DeviceState::Quarantined, None, None),
            Some(Slot::Lent(holder, _)) => (control::DeviceState::Assigned, Some(guest(holder)), None),
            Some(Slot::Broken(_, reason)) => (control::DeviceState::Broken, None, Some(reason.clone())),
        };
        // Given back by a command, and nobody wants it.
        if state == control::DeviceState::Unclaimed && !declared.contains_key(&function) {
            continue;
        }
        let facts = entry.and_then(|entry| entry.slot.facts());
        let description = described.get(&function).map(|described| &described.description);
        let identity = match declared.get(&function) {
            Some(device) => device.identity.to_string(),
            None => function.to_string(),
        };
        let problem = broken.or_else(|| problem_of(&function.to_string())).or_else(|| toolstack.failure(function));
        devices.push(control::Device {
            address: Some(function),
            name: device.name.clone(),
            identity,
            declared: declared.contains_key(&function),
            vendor: description.map(|description| description.vendor),
            device: description.map(|description| description.device),
            class: description.map(|description| description.class),
            driver: description.and_then(|description| description.driver.clone()),
            // Which policy an unclaimed device will have is not known before its registers are.
            policy: facts.map(|facts| facts.policy.name.as_ref().to_owned()).or_else(|| device.policy.clone()),
            state,
            guest: holder,
            guest_address: places.get(&function).copied().map(guest_address),
            slot: match state {
                control::DeviceState::Assigned => facts.and_then(|facts| facts.slot),
                _ => slots.get(&function).copied(),
            },
            vectors: facts.map_or(0, |facts| u16::try_from(facts.vectors_in_use().len()).unwrap_or(u16::MAX)),
            denied: facts.map_or(0, |facts| denied_count(facts)),
            since: entry.map_or(0, |entry| milliseconds(entry.since)),
            last_reset: facts.and_then(|facts| facts.last_reset()).map(last_reset),
            problem,
        });
    }
    devices.extend(missing);
    Ok(devices)
}

/// Where on its bus the domain wants a device that it is declared for.
fn declared_slot(config: &Config, index: usize) -> Option<u8> {
    let mut devices = config.domains.iter().flat_map(|domain| &domain.devices);
    devices.find(|device| device.source == Source::Device(index))?.slot
}

fn denied_count(facts: &Facts) -> u64 {
    let counted: u64 = facts.denials.list().iter().map(|denial| u64::from(denial.count)).sum();
    counted + u64::from(facts.denials.overflow())
}

fn last_reset(report: ResetReport) -> control::ResetReport {
    let ResetReport { time, methods, failed, used, took } = report;
    let failed = failed.into_iter().map(|(method, reason)| control::FailedReset { method, reason }).collect();
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    control::ResetReport { time: self::milliseconds(time), methods, failed, used, milliseconds }
}

fn missing(device: &Device, problem: String) -> control::Device {
    control::Device {
        address: None,
        name: device.name.clone(),
        identity: device.identity.to_string(),
        declared: true,
        vendor: None,
        device: None,
        class: None,
        driver: None,
        policy: device.policy.clone(),
        state: control::DeviceState::Missing,
        guest: None,
        guest_address: None,
        slot: None,
        vectors: 0,
        denied: 0,
        since: 0,
        last_reset: None,
        problem: Some(problem),
    }
}

pub(super) async fn domains(toolstack: &Toolstack) -> Result<Vec<control::Domain>, OperationError> {
    let guests = toolstack.guests();
    let held = toolstack.held();
    let pool = toolstack.pool().clone();
    let name_of = |function: Sbdf| pool.lock().get(&function).and_then(|entry| entry.device.name.clone());
    let bus_of = |info: &DomainInfo| {
        let devices = guests.iter().find(|(guest, _)| guest.domain == info.domain).map(|(_, devices)| devices);
        let device = |device: &Placed| control::BusDevice {
            guest_address: Some(guest_address(device.address)),
            device: device.function,
            name: name_of(device.function),
        };
        devices.into_iter().flatten().map(device).collect()
    };
    let domains = toolstack.domains().await?.into_iter();
    let others = domains.filter(|(info, _)| info.domain != xenpcid_address::DomainId::DOM0);
    Ok(others
        .map(|(info, name)| control::Domain {
            id: info.domain.0,
            name: Some(name),
            uuid: Uuid::from_bytes(info.uuid).to_string(),
            held: held.contains(&info.domain),
            bus: bus_of(&info),
        })
        .collect())
}

pub(super) async fn interrupts(toolstack: &Toolstack) -> Result<Vec<control::Interrupt>, OperationError> {
    let lent: Vec<(Guest, std::sync::Arc<Facts>)> = {
        let pool = toolstack.pool().lock();
        let lent = pool.values().filter_map(|entry| match &entry.slot {
            Slot::Lent(guest, facts) => Some((guest.clone(), facts.clone())),
            _ => None,
        });
        lent.collect()
    };
    if lent.is_empty() {
        return Ok(Vec::new());
    }
    let host = toolstack.host().clone();
    let guests: BTreeSet<_> = lent.iter().map(|(guest, _)| guest.domain).collect();
    let asked = tokio::task::spawn_blocking(move || {
        let routes = host.hypervisor.interrupts()?;
        let mut cpus = BTreeMap::new();
        for domain in guests {
            let vcpus = host.hypervisor.vcpus(domain)?;
            let of: BTreeSet<u32> = vcpus.iter().filter(|vcpu| vcpu.online).map(|vcpu| vcpu.cpu).collect();
            cpus.insert(domain, of);
        }
        Ok::<_, xenpcid_host::HostError>((routes, cpus))
    });
    let (routes, cpus) = asked.await??;
    let mut interrupts = Vec::new();
    for (holder, facts) in &lent {
        let in_use = facts.vectors_in_use();
        let line = facts.snapshot.interrupt_line;
        let vectors: Vec<(control::InterruptKind, u16, u32)> = if in_use.is_empty() && line != 0 {
            vec![(control::InterruptKind::Intx, 0, u32::from(line))]
        } else {
            let kind = |mode| match mode {
                InterruptMode::Msix => control::InterruptKind::Msix,
                _ => control::InterruptKind::Msi,
            };
            in_use.iter().map(|vector| (kind(vector.mode), vector.entry, vector.pirq.0)).collect()
        };
        for (kind, entry, pirq) in vectors {
            let bound = |route: &&xenpcid_host::InterruptRoute| {
                route.bound.iter().any(|(domain, bound)| *domain == holder.domain && bound.0 == pirq)
            };
            let route = routes.iter().find(bound);
            let delivered: Vec<u32> = route.map(|route| route.cpus.iter().copied().collect()).unwrap_or_default();
            let guest_cpus: Vec<u32> =
                cpus.get(&holder.domain).map(|cpus| cpus.iter().copied().collect()).unwrap_or_default();
            interrupts.push(control::Interrupt {
                device: facts.function,
                guest: guest(holder),
                kind,
                entry,
                pirq,
                irq: route.map(|route| route.irq),
                vector: route.map(|route| route.vector),
                agrees: control::Interrupt::agreement(&delivered, &guest_cpus),
                cpus: delivered,
                guest_cpus,
            });
        }
    }
    Ok(interrupts)
}

/// Every reason why a device could not be attached.
pub(super) async fn findings(
    toolstack: &Toolstack,
    function: Sbdf,
    domain: Option<&Guest>,
    device: &Device,
) -> Result<Vec<control::Finding>, OperationError> {
    let (host, id) = (toolstack.host().clone(), domain.map(|guest| guest.domain));
    let owners = toolstack.owners();
    let examined = tokio::task::spawn_blocking(move || checks::examine(&host, &owners, function, id, VECTORS_MAX));
    Ok(examined.await??.iter().map(|found| finding(found, device)).collect())
}

pub(super) fn finding(finding: &Finding, device: &Device) -> control::Finding {
    control::Finding {
        check: finding.check.to_string(),
        message: finding.message.clone(),
        key: finding.check.key().map(|key| key.to_string()),
        allowed: finding.is_accepted(device),
    }
}
