//! One domain of the simulated hypervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use pcifront_shim::SharedPage;
use rangemap::RangeSet;
use tokio::sync::watch;
use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{DomainInfo, Errno, MsiVector, Pirq, ShutdownReason, Vcpu};
use xenpcid_policy::Resource;

use crate::events::Channel;

/// GSIs of the host: pirqs below this number are INTx lines.
pub(crate) const GSIS: u32 = 24;
/// How often a domain can be paused at the same time.
const PAUSES: u32 = 255;

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

/// Who keeps a domain from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pauser {
    Daemon,
    Toolstack,
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
    pub shutdown: Option<ShutdownReason>,
    /// How often it is paused, by whomever; its guest waits for 0.
    pauses: watch::Sender<u32>,
    /// How many of these are the daemon's.
    held: u32,
    /// Machine frames it may map.
    pub frames: RangeSet<u64>,
    /// I/O ports it may use.
    pub ports: RangeSet<u32>,
    /// Interrupts it may use, by dom0's pirq.
    pub interrupts: BTreeSet<Pirq>,
    pub pirqs: BTreeMap<Pirq, Source>,
    pub vcpus: Vec<Vcpu>,
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
            shutdown: None,
            pauses: watch::Sender::new(0),
            held: 0,
            frames: RangeSet::new(),
            ports: RangeSet::new(),
            interrupts: BTreeSet::new(),
            pirqs: BTreeMap::new(),
            vcpus: vec![Vcpu { id: 0, online: true, cpu: 0 }],
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
            paused: self.is_paused(),
            hvm: self.options.hvm,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.pauses.borrow() > 0
    }

    /// Paused by the daemon, which has not unpaused it yet.
    pub(crate) fn is_held(&self) -> bool {
        self.held > 0
    }

    /// What tells when it may run.
    pub(crate) fn pauses(&self) -> watch::Receiver<u32> {
        self.pauses.subscribe()
    }

    pub(crate) fn pause(&mut self, by: Pauser) -> Result<(), Errno> {
        if *self.pauses.borrow() >= PAUSES {
            return Err(Errno::EOVERFLOW);
        }
        self.pauses.send_modify(|pauses| *pauses += 1);
        self.held += u32::from(by == Pauser::Daemon);
        Ok(())
    }

    /// Xen does not look who paused it: `false` if it was not the one who unpauses it.
    pub(crate) fn unpause(&mut self, by: Pauser) -> Result<bool, Errno> {
        let pauses = *self.pauses.borrow();
        let left = pauses.checked_sub(1).ok_or(Errno::EINVAL)?;
        let own = match by {
            Pauser::Daemon => self.held,
            Pauser::Toolstack => pauses - self.held,
        };
        if by == Pauser::Daemon {
            self.held = self.held.saturating_sub(1);
        }
        self.held = self.held.min(left);
        self.pauses.send_replace(left);
        Ok(own > 0)
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
    pub(crate) fn free_pirq(&self, extra_guest_irqs: u32) -> Option<Pirq> {
        (GSIS..GSIS + extra_guest_irqs).rev().map(Pirq).find(|pirq| !self.pirqs.contains_key(pirq))
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
