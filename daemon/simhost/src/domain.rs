//! One domain of the simulated hypervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pcifront_shim::SharedPage;
use rangemap::RangeSet;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{DomainInfo, MsiVector, Pirq};
use xenpcid_policy::Resource;

use crate::events::Channel;

/// GSIs of the host: pirqs below this number are INTx lines.
pub(crate) const GSIS: u32 = 24;
/// Other pirqs that a domain can have, as Xen's `extra_guest_irqs=` has it by default.
pub(crate) const DYNAMIC_PIRQS: u32 = 32;

/// How a domain is created.
#[derive(Clone, Copy, Debug)]
pub struct DomainOptions {
    /// Devices can be assigned: `passthrough="enabled"` in xl.cfg.
    pub iommu: bool,
    /// Hardware virtualised: no PV frontend for PCI.
    pub hvm: bool,
}

impl Default for DomainOptions {
    /// A PV domain that can have devices.
    fn default() -> Self {
        Self { iommu: true, hvm: false }
    }
}

/// What stands behind a pirq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Gsi,
    Message(Sbdf, MsiVector),
}

/// A page that the domain shares with dom0.
pub(crate) struct Grant {
    pub page: Arc<SharedPage>,
    /// How often dom0 has it mapped.
    pub mapped: usize,
}

pub(crate) struct Domain {
    pub id: DomainId,
    pub uuid: [u8; 16],
    pub options: DomainOptions,
    pub dying: bool,
    pub shutdown: bool,
    /// Machine frames it may map.
    pub frames: RangeSet<u64>,
    /// I/O ports it may use.
    pub ports: RangeSet<u32>,
    /// Interrupts it may use, by dom0's pirq.
    pub interrupts: BTreeSet<Pirq>,
    pub pirqs: BTreeMap<Pirq, Source>,
    pub grants: BTreeMap<u32, Grant>,
    pub channels: BTreeMap<u32, Arc<Channel>>,
    next_grant: u32,
    next_channel: u32,
}

impl Domain {
    pub(crate) fn new(id: DomainId, uuid: [u8; 16], options: DomainOptions) -> Self {
        Self {
            id,
            uuid,
            options,
            dying: false,
            shutdown: false,
            frames: RangeSet::new(),
            ports: RangeSet::new(),
            interrupts: BTreeSet::new(),
            pirqs: BTreeMap::new(),
            grants: BTreeMap::new(),
            channels: BTreeMap::new(),
            // The first references and ports of a real guest are its console's and its xenstore's.
            next_grant: 8,
            next_channel: 3,
        }
    }

    pub(crate) fn info(&self) -> DomainInfo {
        DomainInfo {
            domain: self.id,
            uuid: self.uuid,
            dying: self.dying,
            shutdown: self.shutdown,
            hvm: self.options.hvm,
        }
    }

    /// Shares a page with dom0.
    pub(crate) fn grant(&mut self, page: Arc<SharedPage>) -> u32 {
        let reference = self.next_grant;
        self.next_grant += 1;
        self.grants.insert(reference, Grant { page, mapped: 0 });
        reference
    }

    /// Opens a port for dom0 to bind.
    pub(crate) fn open_channel(&mut self) -> (u32, Arc<Channel>) {
        let port = self.next_channel;
        self.next_channel += 1;
        let channel = Arc::new(Channel::default());
        self.channels.insert(port, Arc::clone(&channel));
        (port, channel)
    }

    /// A pirq for a message-signalled interrupt: the highest free one, as Xen takes them.
    pub(crate) fn free_pirq(&self) -> Option<Pirq> {
        (GSIS..GSIS + DYNAMIC_PIRQS).rev().map(Pirq).find(|pirq| !self.pirqs.contains_key(pirq))
    }

    pub(crate) fn is_mapped_by_dom0(&self) -> bool {
        self.grants.values().any(|grant| grant.mapped > 0)
    }
}

impl Domain {
    /// Whether it may use any of the addresses.
    pub(crate) fn reaches(&self, resource: &Resource) -> bool {
        match resource.is_io() {
            _ if !resource.is_present() => false,
            true => self.ports.overlaps(&ports(resource)),
            false => self.frames.overlaps(&frames(resource)),
        }
    }

    /// It may use none of the addresses any longer.
    pub(crate) fn forbid(&mut self, resource: &Resource) {
        if resource.is_io() {
            self.ports.remove(ports(resource));
        } else {
            self.frames.remove(frames(resource));
        }
    }
}

fn ports(resource: &Resource) -> Range<u32> {
    // Ports of x86 have 16 bits.
    let port = |address: u64| u32::try_from(address).unwrap_or(u32::MAX - 1);
    port(resource.start)..port(resource.end) + 1
}

fn frames(resource: &Resource) -> Range<u64> {
    resource.start >> 12..(resource.end >> 12) + 1
}
