//! What was given and not taken back.

use xenpcid_address::DomainId;

use crate::World;
use crate::domain::Domain;
use crate::function::Function;
use crate::virtual_functions::VirtualFunctionAddress;

impl World {
    /// Everything that guests still have, that is only half undone, or that was wrong: empty when the host is as it was
    /// before the first guest got a device. Devices may be with dom0 or claimed and in quarantine.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        let state = self.lock();
        let mut found: Vec<String> = state.violations.clone();
        for domain in state.domains.values().filter(|domain| domain.id != DomainId::DOM0) {
            found.extend(held_by(domain));
        }
        found.extend(state.bound_ports.iter().map(|(domain, port)| format!("port {port} of domain {domain} is bound")));
        for function in state.functions.values() {
            found.extend(left_at(function).into_iter().map(|text| format!("{}: {text}", function.address)));
            let told = function.addresses.iter().filter(|(_, told)| **told != VirtualFunctionAddress::default());
            found.extend(told.map(|(function, told)| format!("{function}: it still has {told:02x?}")));
        }
        found
    }
}

fn held_by(domain: &Domain) -> Vec<String> {
    let id = domain.id;
    let mut found = Vec::new();
    let mapped = domain.grants.iter().filter(|(_, grant)| grant.mapped > 0);
    found.extend(mapped.map(|(reference, _)| format!("grant {reference} of domain {id} is mapped")));
    // What a dying domain may do goes with it.
    if !domain.dying {
        found.extend(domain.is_held().then(|| format!("domain {id} is paused by the daemon")));
        let frames = domain.frames.iter();
        found.extend(frames.map(|range| format!("domain {id} may map frames {:#x}..{:#x}", range.start, range.end)));
        let ports = domain.ports.iter();
        found.extend(ports.map(|range| format!("domain {id} may use ports {:#x}..{:#x}", range.start, range.end)));
        found.extend(domain.interrupts.iter().map(|pirq| format!("domain {id} may use interrupt {}", pirq.0)));
        found.extend(domain.pirqs.keys().map(|pirq| format!("domain {id} has pirq {}", pirq.0)));
    }
    found
}

fn left_at(function: &Function) -> Vec<String> {
    let mut found = Vec::new();
    let claimed = function.owner == DomainId::IO;
    if function.owner != DomainId::DOM0 && !claimed {
        found.push(format!("domain {} has the device", function.owner));
    }
    let decodes = function.decode_bits();
    if claimed && function.responding && function.command() & decodes != decodes {
        found.push("it is claimed, but does not decode its addresses".to_owned());
    }
    if function.owner == DomainId::DOM0 {
        let kept = [
            (function.prepared, "dom0 has it, but prepare_msix was not undone"),
            (function.enabled != 0, "dom0 has it, but it is still enabled by the claim"),
            (function.driver_override.is_some(), "dom0 has it, but its driver_override is still set"),
            (function.power != Function::POWER, "dom0 has it, but its power is still pinned"),
        ];
        found.extend(kept.into_iter().filter(|(is, _)| *is).map(|(_, text)| text.to_owned()));
    }
    found
}
