//! What the checks look at, taken from the host once.

use std::collections::BTreeMap;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{
    ConfigSpace, Errno, FunctionDescription, Host, HostError, HostUse, find_capability, find_extended_capability,
};
use xenpcid_policy::{Access, CapabilityId, ExtendedCapabilityId};

use super::Owner;
use super::isolation::{Groups, Kind, Node};

const HEADER_TYPE: Access = Access::byte(0x0e);
const INTERRUPT_PIN: Access = Access::byte(0x3d);
const ACCESS_CONTROL: ExtendedCapabilityId = ExtendedCapabilityId(0x000d);
/// Services that send requests up (PCI Express Base Specification 7.7.11.2): Source Validation, P2P Request Redirect, P2P
/// Completion Redirect, Upstream Forwarding. A function that cannot have one has nothing for it to keep from going astray.
const SERVICES: u32 = 0x001d;

/// One function.
pub(super) struct Seen {
    pub description: FunctionDescription,
    pub owner: Owner,
    /// What its registers say, if that matters.
    pub registers: Option<Registers>,
}

/// What a function's registers say of its place among the others.
pub(super) struct Registers {
    /// Layout of the header: 0 of a device, 1 of a bridge; `None` if the function does not answer.
    pub header: Option<u8>,
    /// It has an INTx line.
    pub has_line: bool,
    kind: Kind,
    access_control: bool,
}

impl Registers {
    fn read(config: &dyn ConfigSpace) -> Result<Self, HostError> {
        let [header, ..] = config.read(HEADER_TYPE)?.to_le_bytes();
        // The upper bit says that the device has several functions.
        let header = Some(header & 0x7f).filter(|_| header != 0xff);
        Ok(Self {
            has_line: header.is_some() && config.read(INTERRUPT_PIN)? != 0,
            kind: kind(config, header)?,
            access_control: has_access_control(config)?,
            header,
        })
    }
}

/// The interrupts by messages that a device has.
pub(super) struct Messages {
    /// It has MSI or MSI-X.
    pub any: bool,
    /// Entries of its MSI-X table.
    pub msix_entries: Option<u16>,
}

impl Messages {
    fn read(config: &dyn ConfigSpace) -> Result<Self, HostError> {
        let msix = find_capability(config, CapabilityId::MSIX)?;
        let msix_entries = msix.map(|offset| table_size(config, offset)).transpose()?;
        let any = msix_entries.is_some() || find_capability(config, CapabilityId::MSI)?.is_some();
        Ok(Self { any, msix_entries })
    }
}

impl Seen {
    /// dom0's driver, if it has one that does something with the function.
    pub fn working_driver(&self) -> Option<&str> {
        /// Drivers that only hold a function.
        const STUBS: [&str; 3] = ["pci-stub", "pciback", "vfio-pci"];
        self.description.driver.as_deref().filter(|driver| !STUBS.contains(driver))
    }
}

fn table_size(config: &dyn ConfigSpace, msix: u16) -> Result<u16, HostError> {
    let [low, high, ..] = config.read(Access::word(msix.saturating_add(2)))?.to_le_bytes();
    Ok((u16::from_le_bytes([low, high]) & 0x07ff).saturating_add(1))
}

fn kind(config: &dyn ConfigSpace, header: Option<u8>) -> Result<Kind, HostError> {
    if header != Some(1) {
        return Ok(Kind::Endpoint);
    }
    let Some(express) = find_capability(config, CapabilityId::EXPRESS)? else { return Ok(Kind::ConventionalBridge) };
    // Device/Port Type (PCI Express Base Specification 7.5.3.2).
    let port_type = config.read(Access::word(express.saturating_add(2)))? >> 4 & 0xf;
    Ok(match port_type {
        4 => Kind::RootPort,
        5 => Kind::UpstreamPort,
        6 => Kind::DownstreamPort,
        _ => Kind::ConventionalBridge,
    })
}

fn has_access_control(config: &dyn ConfigSpace) -> Result<bool, HostError> {
    let Some(offset) = find_extended_capability(config, ACCESS_CONTROL)? else { return Ok(false) };
    let possible = config.read(Access::word(offset.saturating_add(4)))?;
    let on = config.read(Access::word(offset.saturating_add(6)))?;
    Ok(possible & SERVICES & !on == 0)
}

/// The functions of the host. Registers are slow to read, so it is taken once for all devices that are asked about, and where no
/// domain is named, for which alone those of the others matter, without them.
pub(super) struct Functions(BTreeMap<Sbdf, Seen>);

impl Functions {
    pub fn take(
        host: &Host,
        owners: &dyn Fn(Sbdf) -> Owner,
        asked: &[Sbdf],
        domain: Option<DomainId>,
    ) -> Result<Self, HostError> {
        let see = |function: Sbdf| {
            let description = host.pci.describe(function)?;
            let registers = match domain.is_some() || asked.contains(&function) {
                true => Some(Registers::read(host.pci.open_config(function)?.as_ref())?),
                false => None,
            };
            Ok::<_, HostError>(Seen { description, owner: owners(function), registers })
        };
        let mut functions = BTreeMap::new();
        for function in asked {
            functions.insert(*function, see(*function)?);
        }
        for other in host.pci.functions()?.into_iter().filter(|other| !asked.contains(other)) {
            match see(other) {
                Ok(seen) => {
                    functions.insert(other, seen);
                }
                // Another function was pulled out meanwhile.
                Err(error) if matches!(error.errno, Errno::ENODEV | Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(functions))
    }
}

/// The host, as far as it matters to one device.
pub(super) struct Picture<'a> {
    /// The device.
    pub function: Sbdf,
    /// Who is to have it; `None` if nobody yet.
    pub domain: Option<DomainId>,
    /// Most MSI-X vectors that it is to show.
    pub vectors: u16,
    functions: &'a Functions,
    pub messages: Messages,
    pub uses: Vec<HostUse>,
    pub has_reset: bool,
    /// What Xen says to giving it to the domain, or to any.
    pub assignable: Result<(), Errno>,
    /// Firmware reserves memory for it.
    pub reserved_memory: bool,
    pub extra_guest_irqs: u32,
}

impl<'a> Picture<'a> {
    pub fn take(
        host: &Host,
        functions: &'a Functions,
        function: Sbdf,
        domain: Option<DomainId>,
        vectors: u16,
    ) -> Result<Self, HostError> {
        let assignable = match host.hypervisor.test_assign_device(domain.unwrap_or(DomainId::INVALID), function) {
            Err(error) if !matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => return Err(error),
            result => result.map_err(|error| error.errno),
        };
        Ok(Self {
            function,
            domain,
            vectors,
            functions,
            messages: Messages::read(host.pci.open_config(function)?.as_ref())?,
            uses: host.pci.uses(function)?,
            has_reset: !host.pci.reset_methods(function)?.is_empty(),
            assignable,
            reserved_memory: host.pci.reserved_memory(function)?,
            extra_guest_irqs: host.hypervisor.info()?.extra_guest_irqs(),
        })
    }

    /// The device; `None` never.
    pub fn device(&self) -> Option<&Seen> {
        self.functions.0.get(&self.function)
    }

    /// What its registers say; `None` never.
    pub fn registers(&self) -> Option<&Registers> {
        self.device()?.registers.as_ref()
    }

    /// The other functions.
    pub fn others(&self) -> impl Iterator<Item = (&Sbdf, &Seen)> {
        self.functions.0.iter().filter(|(function, _)| **function != self.function)
    }

    /// The other functions with their registers, which are known where a domain is named.
    pub fn others_in_depth(&self) -> impl Iterator<Item = (&Sbdf, &Seen, &Registers)> {
        self.others().filter_map(|(function, seen)| Some((function, seen, seen.registers.as_ref()?)))
    }

    /// Who has another function, if it belongs neither to the domain nor to nobody.
    pub fn elsewhere(&self, other: &Seen) -> Option<String> {
        match other.owner {
            Owner::Quarantine => None,
            Owner::Guest(guest) if Some(guest) == self.domain => None,
            Owner::Guest(guest) => Some(format!("domain {guest} has it")),
            Owner::Dom0 => other.working_driver().map(|driver| format!("dom0's driver {driver} has it")),
        }
    }

    pub fn groups(&self) -> Groups {
        let node = |seen: &Seen| {
            let Registers { kind, access_control, .. } = *seen.registers.as_ref()?;
            let description = &seen.description;
            let is_virtual = description.physical_function.is_some();
            Some(Node { parent: description.parent, kind, access_control, is_virtual })
        };
        let functions = self.functions.0.iter();
        Groups::new(&functions.filter_map(|(function, seen)| Some((*function, node(seen)?))).collect())
    }
}
