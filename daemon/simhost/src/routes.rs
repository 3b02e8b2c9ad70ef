//! Where Xen sends the interrupts of guests and of dom0.

use std::collections::BTreeMap;

use xenpcid_address::DomainId;
use xenpcid_host::{InterruptRoute, MsiVector, Pirq};

use crate::domain::{GSIS, Source};
use crate::world::State;

/// Vectors below are the CPU's own and Xen's.
const FIRST_VECTOR: u8 = 0x30;

impl State {
    pub(crate) fn interrupt_routes(&self) -> Vec<InterruptRoute> {
        let mut routes: BTreeMap<u32, InterruptRoute> = BTreeMap::new();
        for pirq in &self.dom0_pirqs {
            self.bind(&mut routes, pirq.0, "IO-APIC-level", DomainId::DOM0, *pirq);
        }
        let mut next = GSIS;
        for domain in self.domains.values() {
            for (pirq, source) in &domain.pirqs {
                match source {
                    Source::Gsi => self.bind(&mut routes, pirq.0, "IO-APIC-level", domain.id, *pirq),
                    Source::Message(function, vector) => {
                        let is_maskable = self.functions.get(function).and_then(|found| found.msi);
                        let is_plain = *vector == MsiVector::Msi && is_maskable.is_none_or(|msi| !msi.is_maskable);
                        let kind = if is_plain { "PCI-MSI" } else { "PCI-MSI/-X" };
                        self.bind(&mut routes, next, kind, domain.id, *pirq);
                        next += 1;
                    }
                }
            }
        }
        routes.into_values().collect()
    }

    /// An interrupt goes to where the domain that bound it last runs.
    fn bind(&self, routes: &mut BTreeMap<u32, InterruptRoute>, irq: u32, kind: &str, domain: DomainId, pirq: Pirq) {
        let number = u8::try_from(routes.len()).unwrap_or(u8::MAX);
        let route = routes.entry(irq).or_insert_with(|| InterruptRoute {
            irq,
            vector: FIRST_VECTOR.saturating_add(number),
            kind: kind.to_owned(),
            cpus: [].into(),
            bound: Vec::new(),
        });
        let runs_on = self.domains.get(&domain).and_then(|domain| domain.vcpus.first()).map_or(0, |vcpu| vcpu.cpu);
        let cpu = self.moved_interrupts.get(&(domain, pirq)).copied().unwrap_or(runs_on);
        route.cpus = [cpu].into();
        route.bound.push((domain, pirq));
    }
}
