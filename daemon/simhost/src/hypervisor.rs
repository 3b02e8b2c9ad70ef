//! Xen's domctls and physdev operations: what they refuse, in the order in which Xen looks.

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{
    DomainInfo, Errno, HostError, Hypervisor, HypervisorInfo, InterruptRoute, MsiVector, Pirq, ReservedMemory,
    ShutdownReason, Vcpu,
};

use crate::World;
use crate::domain::{GSIS, Pauser, Source};
use crate::function::MSIX_FUNCTION_MASK;
use crate::ledger::Call;
use crate::world::State;

/// I/O ports of x86.
const PORTS: u32 = 0x1_0000;
/// Pirqs that dom0 can have, as Xen's `extra_guest_irqs=` has it by default.
const DOM0_PIRQS: u32 = GSIS + 256;
/// Machine frames of 4 KiB that a physical address of 52 bits reaches.
const FRAMES: u64 = 1 << 40;

impl Hypervisor for World {
    fn info(&self) -> Result<HypervisorInfo, HostError> {
        self.perform(Call::new("info"), |state| {
            let command_line = format!("placeholder extra_guest_irqs={}", state.options.extra_guest_irqs);
            Ok(HypervisorInfo { version: (4, 17), iommu: state.options.iommu, command_line })
        })
    }

    fn domain(&self, domain: DomainId) -> Result<Option<DomainInfo>, HostError> {
        let call = Call::new("domain").domain(domain);
        self.perform(call, |state| Ok(state.domains.get(&domain).map(|domain| domain.info())))
    }

    fn domains(&self) -> Result<Vec<DomainInfo>, HostError> {
        self.perform(Call::new("domains"), |state| Ok(state.domains.values().map(|domain| domain.info()).collect()))
    }

    fn pause(&self, domain: DomainId) -> Result<(), HostError> {
        self.perform(Call::new("pause").domain(domain), |state| {
            if domain == DomainId::DOM0 {
                // dom0 asks, and would not be there to unpause itself.
                return Err(Errno::EINVAL);
            }
            state.domain(domain)?.pause(Pauser::Daemon)
        })
    }

    fn unpause(&self, domain: DomainId) -> Result<(), HostError> {
        self.perform(Call::new("unpause").domain(domain), |state| state.unpause(domain, Pauser::Daemon))
    }

    fn vcpus(&self, domain: DomainId) -> Result<Vec<Vcpu>, HostError> {
        self.perform(Call::new("vcpus").domain(domain), |state| Ok(state.domain(domain)?.vcpus.clone()))
    }

    fn interrupts(&self) -> Result<Vec<InterruptRoute>, HostError> {
        self.perform(Call::new("interrupts"), |state| Ok(state.interrupt_routes()))
    }

    fn test_assign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        let call = Call::new("test_assign_device").domain(domain).function(function);
        self.perform(call, |state| {
            // DOMID_INVALID asks whether any guest could have it.
            if domain == DomainId::INVALID {
                state.machine_has_iommu()?;
            } else {
                state.may_have_devices(domain)?;
            }
            // Xen has one error for a function it does not know and for one that a guest has.
            state.assignable(function).map_err(|_| Errno::EINVAL)
        })
    }

    fn assign_device(&self, domain: DomainId, function: Sbdf, reserved: ReservedMemory) -> Result<(), HostError> {
        let call = Call::new("assign_device").domain(domain).function(function).detail(format_args!("{reserved:?}"));
        self.perform(call, |state| state.assign(domain, function, reserved))
    }

    fn deassign_device(&self, domain: DomainId, function: Sbdf) -> Result<(), HostError> {
        let call = Call::new("deassign_device").domain(domain).function(function);
        self.perform(call, |state| state.deassign(domain, function))
    }

    fn iomem_permission(&self, domain: DomainId, first_frame: u64, frames: u64, allow: bool) -> Result<(), HostError> {
        let call = Call::new("iomem_permission")
            .domain(domain)
            .detail(format_args!("frames {first_frame:#x}+{frames:#x} {}", verb(allow)));
        self.perform(call, |state| {
            let domain = state.domain(domain)?;
            let end = first_frame.checked_add(frames).filter(|end| frames > 0 && *end <= FRAMES);
            let range = first_frame..end.ok_or(Errno::EINVAL)?;
            if allow {
                domain.frames.insert(range)
            } else {
                domain.frames.remove(range)
            }
            Ok(())
        })
    }

    fn ioport_permission(&self, domain: DomainId, first_port: u32, ports: u32, allow: bool) -> Result<(), HostError> {
        let call = Call::new("ioport_permission")
            .domain(domain)
            .detail(format_args!("ports {first_port:#x}+{ports:#x} {}", verb(allow)));
        self.perform(call, |state| {
            let domain = state.domain(domain)?;
            let end = first_port.checked_add(ports).filter(|end| ports > 0 && *end <= PORTS);
            let range = first_port..end.ok_or(Errno::EINVAL)?;
            if allow {
                domain.ports.insert(range)
            } else {
                domain.ports.remove(range)
            }
            Ok(())
        })
    }

    fn irq_permission(&self, domain: DomainId, pirq: Pirq, allow: bool) -> Result<(), HostError> {
        let call = Call::new("irq_permission").domain(domain).detail(format_args!("pirq {} {}", pirq.0, verb(allow)));
        self.perform(call, |state| {
            let known = state.dom0_pirqs.contains(&pirq);
            let domain = state.domain(domain)?;
            if pirq.0 >= DOM0_PIRQS {
                return Err(Errno::EINVAL);
            }
            if !known {
                return Err(Errno::EPERM);
            }
            if allow {
                domain.interrupts.insert(pirq)
            } else {
                domain.interrupts.remove(&pirq)
            };
            Ok(())
        })
    }

    fn map_gsi(&self, domain: DomainId, gsi: u32) -> Result<Pirq, HostError> {
        let call = Call::new("map_gsi").domain(domain).detail(format_args!("GSI {gsi}"));
        self.perform(call, |state| {
            let pirq = Pirq(gsi);
            let is_set_up = state.dom0_pirqs.contains(&pirq);
            let guest = state.domain(domain)?;
            if gsi >= GSIS {
                return Err(Errno::EINVAL);
            }
            // Mapping it again changes nothing. Mapping also gives the permission.
            guest.pirqs.insert(pirq, Source::Gsi);
            guest.interrupts.insert(pirq);
            if !is_set_up {
                state.violation(format!("GSI {gsi} mapped for domain {domain}, but dom0 never set the line up"));
            }
            Ok(pirq)
        })
    }

    fn map_msi(&self, domain: DomainId, function: Sbdf, vector: MsiVector) -> Result<Pirq, HostError> {
        let call = Call::new("map_msi").domain(domain).function(function).detail(format_args!("{vector:?}"));
        self.perform(call, |state| state.map_message(domain, function, vector))
    }

    fn unmap_pirq(&self, domain: DomainId, pirq: Pirq) -> Result<(), HostError> {
        let call = Call::new("unmap_pirq").domain(domain).detail(format_args!("pirq {}", pirq.0));
        self.perform(call, |state| {
            let guest = state.domain(domain)?;
            let source = guest.pirqs.remove(&pirq).ok_or(Errno::EINVAL)?;
            guest.interrupts.remove(&pirq);
            if let Source::Message(function, _) = source {
                if let Some(function) = state.functions.get_mut(&function) {
                    function.vectors.remove(&(domain, pirq));
                }
            }
            Ok(())
        })
    }

    fn prepare_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.perform(Call::new("prepare_msix").function(function), |state| state.prepare(function))
    }

    fn release_msix(&self, function: Sbdf) -> Result<(), HostError> {
        self.perform(Call::new("release_msix").function(function), |state| {
            let found = state.function(function)?;
            if found.msix.is_none() {
                state.violation(format!("{function}: release_msix without an MSI-X capability crashes Xen"));
                return Err(Errno::EFAULT);
            }
            // Xen counts the preparation as one use, and lets go of the last one only.
            if found.msix_uses() != 1 {
                return Err(Errno::EBUSY);
            }
            found.prepared = false;
            Ok(())
        })
    }
}

fn verb(allow: bool) -> &'static str {
    if allow { "allowed" } else { "forbidden" }
}

impl State {
    pub(crate) fn unpause(&mut self, domain: DomainId, by: Pauser) -> Result<(), Errno> {
        let outcome = self.domain(domain)?.unpause(by);
        match outcome {
            Ok(true) => {}
            Ok(false) => self.violation(format!("domain {domain} was unpaused by the {by:?}, which had not paused it")),
            Err(_) => self.violation(format!("domain {domain} was unpaused, but it is not paused")),
        }
        outcome.map(drop)
    }

    /// `EOPNOTSUPP` without an IOMMU, of the machine or of the domain.
    fn may_have_devices(&self, domain: DomainId) -> Result<(), Errno> {
        let has_iommu = match self.domains.get(&domain) {
            Some(found) => found.options.iommu,
            None if domain == DomainId::IO => true,
            None => return Err(Errno::ESRCH),
        };
        if has_iommu { self.machine_has_iommu() } else { Err(Errno::EOPNOTSUPP) }
    }

    fn machine_has_iommu(&self) -> Result<(), Errno> {
        if self.options.iommu { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    /// Devices of dom0 and of quarantine are free to be assigned.
    fn assignable(&mut self, function: Sbdf) -> Result<(), Errno> {
        let owner = self.function(function)?.owner;
        if owner == DomainId::DOM0 || owner == DomainId::IO { Ok(()) } else { Err(Errno::EBUSY) }
    }

    fn assign(&mut self, domain: DomainId, address: Sbdf, reserved: ReservedMemory) -> Result<(), Errno> {
        self.may_have_devices(domain)?;
        // dom0 asks, and cannot be the one to be given a device.
        if domain == DomainId::DOM0 || self.domains.get(&domain).is_some_and(|domain| domain.dying) {
            return Err(Errno::EINVAL);
        }
        self.assignable(address)?;
        let function = self.function(address)?;
        if function.msix_control() & MSIX_FUNCTION_MASK != 0 {
            return Err(Errno::EBUSY);
        }
        if function.reserved_memory && reserved == ReservedMemory::Refuse {
            return Err(Errno::EPERM);
        }
        function.owner = domain;
        if domain != DomainId::IO {
            self.check_handover(domain, address);
        }
        Ok(())
    }

    /// What must be true of a device that a guest gets, although Xen does not look.
    fn check_handover(&mut self, domain: DomainId, address: Sbdf) {
        let Ok(function) = self.function(address) else { return };
        let mut wrong = Vec::new();
        match function.used_by.replace(domain) {
            Some(before) if before != domain && !function.reset_methods.is_empty() => {
                wrong.push(format!("given to domain {domain} with what domain {before} left in it: not reset"));
            }
            _ => {}
        }
        if let Some(driver) = function.driver.as_ref().filter(|driver| *driver != "pci-stub") {
            wrong.push(format!("given to domain {domain} while dom0's driver {driver} holds it"));
        }
        if function.power != crate::function::Function::POWER.pinned() && function.driver.is_none() {
            wrong.push(format!("given to domain {domain} while Linux may still power it down"));
        }
        let (resources, others) = (function.resources, self.domains.values());
        for other in others.filter(|other| other.id != domain && other.id != DomainId::DOM0) {
            if resources.iter().any(|resource| other.reaches(resource)) {
                wrong.push(format!("given to domain {domain} while domain {} may still use its BARs", other.id));
            }
        }
        for text in wrong {
            self.violation(format!("{address}: {text}"));
        }
    }

    fn deassign(&mut self, domain: DomainId, address: Sbdf) -> Result<(), Errno> {
        match self.may_have_devices(domain) {
            Err(Errno::EOPNOTSUPP) if self.options.iommu => return Err(Errno::EINVAL),
            other => other?,
        }
        if domain == DomainId::DOM0 {
            return Err(Errno::EINVAL);
        }
        let function = self.functions.get_mut(&address).filter(|function| function.owner == domain);
        let function = function.ok_or(Errno::ENODEV)?;
        if domain != DomainId::IO {
            function.owner = DomainId::IO;
            return Ok(());
        }
        function.owner = DomainId::DOM0;
        if let Some(guest) = function.used_by.filter(|_| !function.reset_methods.is_empty()) {
            self.violation(format!("{address}: given to dom0 with what domain {guest} left in it: not reset"));
        }
        Ok(())
    }

    fn map_message(&mut self, domain: DomainId, address: Sbdf, vector: MsiVector) -> Result<Pirq, Errno> {
        let extra = self.options.extra_guest_irqs;
        let pirq = self.domain(domain)?.free_pirq(extra).ok_or(Errno::ENOSPC)?;
        let memory = self.decodes_memory(address);
        let function = self.functions.get_mut(&address).filter(|function| function.owner == domain);
        let function = function.ok_or(Errno::ENODEV)?;
        let mut wrong = Vec::new();
        // Xen tells MSI-X from MSI by an address that is not 0.
        let vector = match vector {
            MsiVector::Msix { table_bar: 0, .. } => {
                wrong.push("an MSI-X vector at address 0 is mapped as MSI");
                MsiVector::Msi
            }
            vector => vector,
        };
        match vector {
            MsiVector::Msi => {
                function.msi.ok_or(Errno::ENODEV)?;
            }
            MsiVector::Msix { entry, table_bar } => {
                let msix = function.msix.ok_or(Errno::ENODEV)?;
                if entry >= msix.entries {
                    return Err(Errno::EINVAL);
                }
                if !memory {
                    return Err(Errno::ENXIO);
                }
                if function.msix_uses() == 0 {
                    return Err(Errno::ENODATA);
                }
                if function.resources.get(msix.table_bar).is_none_or(|bar| bar.start != table_bar) {
                    wrong.push("the MSI-X table is not in the memory at the given address");
                }
            }
        }
        if function.vectors.values().any(|mapped| *mapped == vector) {
            wrong.push("a vector is mapped that is mapped already");
        }
        let of_same_kind = |mapped: &MsiVector| (*mapped == MsiVector::Msi) == (vector == MsiVector::Msi);
        if function.vectors.values().any(|mapped| !of_same_kind(mapped)) {
            wrong.push("MSI and MSI-X are mapped at the same time");
        }
        function.vectors.insert((domain, pirq), vector);
        function.programmed = true;
        let guest = self.domain(domain)?;
        guest.pirqs.insert(pirq, Source::Message(address, vector));
        guest.interrupts.insert(pirq);
        for text in wrong {
            self.violation(format!("{address}: {text} ({vector:?})"));
        }
        Ok(pirq)
    }

    fn prepare(&mut self, address: Sbdf) -> Result<(), Errno> {
        let memory = self.decodes_memory(address);
        let function = self.function(address)?;
        if function.msix.is_none() {
            self.violation(format!("{address}: prepare_msix without an MSI-X capability crashes Xen"));
            return Err(Errno::EFAULT);
        }
        if function.msix_uses() != 0 {
            return Err(Errno::EBUSY);
        }
        if !memory {
            return Err(Errno::ENXIO);
        }
        function.prepared = true;
        let owner = function.owner;
        if owner != DomainId::DOM0 && owner != DomainId::IO {
            self.violation(format!("{address}: prepare_msix while domain {owner} has the device crashes that domain"));
            self.domain(owner)?.shutdown = Some(ShutdownReason::Crash);
        }
        Ok(())
    }
}
