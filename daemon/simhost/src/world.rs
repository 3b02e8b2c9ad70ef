//! The simulated host as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{Errno, Host, HostError, HostUse, Pirq, Vcpu};
use xenstore_protocol::memory::Server;

use crate::device::SimDevice;
use crate::domain::{Domain, DomainOptions};
use crate::function::{COMMAND_MEMORY, Function};
use crate::ledger::{Call, Faults};

/// How the host is equipped.
#[derive(Clone, Copy, Debug)]
pub struct HostOptions {
    /// The machine has an IOMMU that Xen uses.
    pub iommu: bool,
    /// The driver pci-stub is loaded in dom0.
    pub pci_stub: bool,
    /// Pirqs that a guest can have beside those of the INTx lines: `extra_guest_irqs=` of Xen.
    pub extra_guest_irqs: u32,
}

impl Default for HostOptions {
    /// A machine that can pass devices through.
    fn default() -> Self {
        Self { iommu: true, pci_stub: true, extra_guest_irqs: 32 }
    }
}

/// A simulated host: devices, Linux' driver core, Xen, xenstore and domains. Clones are the same host.
#[derive(Clone)]
pub struct World {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    store: Server,
}

/// Everything but xenstore.
pub(crate) struct State {
    pub options: HostOptions,
    pub functions: BTreeMap<Sbdf, Function>,
    pub domains: BTreeMap<DomainId, Domain>,
    /// Interrupts that dom0 has: lines of functions that were enabled once. Linux never gives them back.
    pub dom0_pirqs: BTreeSet<Pirq>,
    /// Guests' ports that dom0 has bound.
    pub bound_ports: Vec<(DomainId, u32)>,
    pub faults: Faults,
    pub ledger: Vec<Call>,
    pub violations: Vec<String>,
    /// Where interrupts were moved, if not to where their guest runs.
    pub moved_interrupts: BTreeMap<(DomainId, Pirq), u32>,
    next_domain: u16,
}

impl World {
    /// A host with IOMMU, pci-stub, dom0 and xenstore, and no device yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(HostOptions::default())
    }

    /// A host that is equipped otherwise.
    #[must_use]
    pub fn with_options(options: HostOptions) -> Self {
        let dom0 = Domain::new(DomainId::DOM0, [0; 16], DomainOptions { iommu: true, hvm: false });
        let state = State {
            options,
            functions: BTreeMap::new(),
            domains: BTreeMap::from([(DomainId::DOM0, dom0)]),
            dom0_pirqs: BTreeSet::new(),
            bound_ports: Vec::new(),
            faults: Faults::default(),
            ledger: Vec::new(),
            violations: Vec::new(),
            moved_interrupts: BTreeMap::new(),
            next_domain: 1,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), store: Server::new() }) }
    }

    /// The host as the daemon sees it.
    #[must_use]
    pub fn host(&self) -> Host {
        Host {
            pci: Arc::new(self.clone()),
            hypervisor: Arc::new(self.clone()),
            grants: Arc::new(self.clone()),
            events: Arc::new(self.clone()),
        }
    }

    /// The host's xenstore.
    #[must_use]
    pub fn xenstore(&self) -> &Server {
        &self.shared.store
    }

    /// Plugs a function in, in the place of what was at its address. Linux finds it, and its driver binds.
    pub fn add_device(&self, device: SimDevice) {
        let mut state = self.lock();
        let function = Function::new(&device);
        let address = function.address;
        state.functions.insert(address, function);
        state.bind_driver(address);
    }

    /// Pulls a function out: Linux and Xen forget it.
    pub fn remove_device(&self, function: Sbdf) {
        self.lock().functions.remove(&function);
    }

    /// Makes a function stop answering (reads are all ones, writes are lost), or answer again.
    pub fn set_responding(&self, function: Sbdf, responding: bool) {
        if let Some(function) = self.lock().functions.get_mut(&function) {
            function.responding = responding;
        }
    }

    /// What dom0 does with a function for as long as its own driver has it.
    pub fn set_uses(&self, function: Sbdf, uses: Vec<HostUse>) {
        if let Some(function) = self.lock().functions.get_mut(&function) {
            function.uses = uses;
        }
    }

    /// The CPUs of a domain; one that runs on the host's CPU 0 until this is said.
    pub fn set_vcpus(&self, domain: DomainId, vcpus: Vec<Vcpu>) {
        if let Some(domain) = self.lock().domains.get_mut(&domain) {
            domain.vcpus = vcpus;
        }
    }

    /// Has Xen deliver an interrupt of a domain to that CPU of the host, wherever the domain runs.
    pub fn move_interrupt(&self, domain: DomainId, pirq: Pirq, cpu: u32) {
        self.lock().moved_interrupts.insert((domain, pirq), cpu);
    }

    /// Makes the `nth` call of `operation` from now on fail with `errno`, 1 being the next.
    pub fn fail(&self, operation: &'static str, nth: usize, errno: Errno) {
        self.lock().faults.add(Some(operation), nth, errno);
    }

    /// Makes the `nth` call of any operation from now on fail with `errno`, 1 being the next.
    pub fn fail_any(&self, nth: usize, errno: Errno) {
        self.lock().faults.add(None, nth, errno);
    }

    /// The calls so far, in order. Reads of configuration space and the use of a bound port come too often to be kept, unless
    /// they failed by a fault.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().ledger.clone()
    }

    /// What was done that a real host would have been harmed by.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// The domain that Xen has assigned the function to; `None` if there is no such function.
    #[must_use]
    pub fn owner(&self, function: Sbdf) -> Option<DomainId> {
        self.lock().functions.get(&function).map(|function| function.owner)
    }

    /// Whether somebody keeps the domain from running; `None` if there is no such domain.
    #[must_use]
    pub fn is_paused(&self, domain: DomainId) -> Option<bool> {
        self.lock().domains.get(&domain).map(|domain| domain.is_paused())
    }

    /// The function's configuration bytes as the hardware has them now; empty if there is no such function.
    #[must_use]
    pub fn hardware(&self, function: Sbdf) -> Vec<u8> {
        self.lock().functions.get(&function).map(|function| function.registers.bytes()).unwrap_or_default()
    }

    /// How often the function was reset.
    #[must_use]
    pub fn resets(&self, function: Sbdf) -> u64 {
        self.lock().functions.get(&function).map_or(0, |function| function.registers.resets())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a test thread leaves nothing half done that another one could not look at.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of a trait: fails if it is to fail, and is recorded.
    pub(crate) fn perform<T>(
        &self,
        mut call: Call,
        act: impl FnOnce(&mut State) -> Result<T, Errno>,
    ) -> Result<T, HostError> {
        let mut state = self.lock();
        let outcome = match state.faults.strike(call.operation) {
            Some(errno) => Err(errno),
            None => act(&mut state),
        };
        call.error = outcome.as_ref().err().copied();
        let outcome = outcome.map_err(|errno| HostError::new(call.operation, call.object(), errno));
        state.ledger.push(call);
        outcome
    }

    /// A call that comes too often to be recorded, unless it is made to fail.
    pub(crate) fn strike(&self, operation: &'static str, call: impl FnOnce() -> Call) -> Result<(), HostError> {
        let mut state = self.lock();
        let Some(errno) = state.faults.strike(operation) else { return Ok(()) };
        let call = Call { error: Some(errno), ..call() };
        state.ledger.push(call.clone());
        Err(HostError::new(call.operation, call.object(), errno))
    }

    /// A call that cannot fail.
    pub(crate) fn record(&self, call: Call, act: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        act(&mut state);
        state.ledger.push(call);
    }

    /// A new domain for Xen; the toolstack's part is [`World::create_domain`].
    pub(crate) fn new_domain(&self, uuid: [u8; 16], options: DomainOptions) -> DomainId {
        let mut state = self.lock();
        let id = DomainId(state.next_domain);
        state.next_domain += 1;
        state.domains.insert(id, Domain::new(id, uuid, options));
        id
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    pub(crate) fn function(&mut self, address: Sbdf) -> Result<&mut Function, Errno> {
        self.functions.get_mut(&address).ok_or(Errno::ENODEV)
    }

    pub(crate) fn domain(&mut self, id: DomainId) -> Result<&mut Domain, Errno> {
        self.domains.get_mut(&id).ok_or(Errno::ESRCH)
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// Whether the function's memory is decoded: a virtual function's by its physical function.
    pub(crate) fn decodes_memory(&self, address: Sbdf) -> bool {
        let Some(function) = self.functions.get(&address) else { return false };
        let decoder = match function.physical_function {
            Some(physical) => self.functions.get(&physical),
            None => Some(function),
        };
        decoder
            .is_some_and(|function| function.command() & COMMAND_MEMORY != 0 && function.registers.power_state() == 0)
    }

    /// What Xen does when a domain is destroyed, before the domain is gone: its interrupts and devices are taken back,
    /// its event channels close.
    pub(crate) fn kill(&mut self, id: DomainId) -> Option<[u8; 16]> {
        let domain = self.domains.get_mut(&id)?;
        domain.dying = true;
        domain.pirqs.clear();
        for channel in std::mem::take(&mut domain.channels).values() {
            channel.close();
        }
        let uuid = domain.uuid;
        for function in self.functions.values_mut() {
            function.vectors.retain(|(owner, _), _| *owner != id);
            if function.owner == id {
                function.owner = DomainId::IO;
            }
        }
        Some(uuid)
    }
}
