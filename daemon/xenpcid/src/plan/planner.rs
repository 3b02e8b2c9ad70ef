//! How the comparison is made.

use std::collections::{BTreeMap, BTreeSet};

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Domain, DomainDevice, HostFunction, Identity, Pool, Source, Start};

use super::{Action, Picture, Plan, Problem, Request, Running, Whereabouts};
use crate::claim::NetworkAddress;
use crate::session::Guest;

/// What is found for each declaration.
pub(super) struct Planner<'a> {
    picture: &'a Picture<'a>,
    plan: Plan,
    /// The function that each device of the configuration is, by its index.
    found: Vec<Option<Sbdf>>,
    /// The virtual functions of each pool, by its index.
    pools: Vec<Vec<Sbdf>>,
    /// Who gets what in this plan.
    given: BTreeMap<Sbdf, DomainId>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(picture: &'a Picture<'a>) -> Self {
        Self { picture, plan: Plan::default(), found: Vec::new(), pools: Vec::new(), given: BTreeMap::new() }
    }

    pub(super) fn plan(mut self) -> Plan {
        self.find_devices();
        self.fill_pools();
        self.claim();
        for running in &self.picture.domains {
            self.serve(running);
        }
        self.release();
        self.plan.actions.sort_by_key(|action| match action {
            Action::CreateFunctions { .. } => 0,
            Action::Detach { .. } => 1,
            Action::Release { .. } => 2,
            Action::Claim { .. } => 3,
            Action::Attach { .. } => 4,
        });
        self.plan
    }

    fn identities(&self) -> Vec<HostFunction> {
        self.picture.functions.iter().map(|function| function.identity.clone()).collect()
    }

    fn find_devices(&mut self) {
        let functions = self.identities();
        let mut seen: BTreeMap<Sbdf, String> = BTreeMap::new();
        for device in &self.picture.config.devices {
            let name = name(device);
            let found = match device.identity.find(&functions) {
                Ok(function) => Some(function.address),
                Err(error) => {
                    self.problem(None, Some(name.clone()), error.to_string());
                    None
                }
            };
            let found = found.filter(|address| match seen.insert(*address, name.clone()) {
                Some(other) => {
                    let text = format!("{address} is declared twice, as {other} and as {name}; remove one of the two");
                    self.problem(None, Some(name.clone()), text);
                    false
                }
                None => true,
            });
            self.found.push(found);
        }
    }

    fn fill_pools(&mut self) {
        let functions = self.identities();
        for pool in &self.picture.config.pools {
            let physical = match pool.physical_function.find(&functions) {
                Ok(function) => function.address,
                Err(error) => {
                    self.problem(None, Some(pool.name.clone()), error.to_string());
                    self.pools.push(Vec::new());
                    continue;
                }
            };
            let present = self
                .picture
                .functions
                .iter()
                .find(|f| f.identity.address == physical)
                .map_or(0, |f| f.virtual_functions);
            if present == 0 {
                let (count, pool) = (pool.count, pool.name.clone());
                self.plan.actions.push(Action::CreateFunctions { physical, count, pool });
            } else if present < pool.count {
                let text = format!(
                    "{physical} has {present} virtual functions, and pool {} wants {}; Linux changes that only from 0: \
                     give all of them back and `echo 0 > /sys/bus/pci/devices/{physical}/sriov_numvfs`",
                    pool.name, pool.count
                );
                self.problem(None, Some(pool.name.clone()), text);
            }
            let of_it = self.picture.functions.iter().filter(|function| function.physical == Some(physical));
            self.pools.push(of_it.map(|f| f.identity.address).take(usize::from(pool.count)).collect());
        }
    }

    /// What the pool says of each of its functions.
    fn pooled(pool: &Pool, function: Sbdf) -> Device {
        Device {
            identity: Identity::from(function),
            name: None,
            policy: pool.policy.clone(),
            reset: pool.reset,
            start: Start::Claim,
            allow: pool.allow.clone(),
        }
    }

    /// Every declared function with what is said of it.
    fn declared(&self) -> Vec<(Sbdf, Device)> {
        let config = self.picture.config;
        let single = self.found.iter().zip(&config.devices);
        let single = single.filter_map(|(found, device)| found.map(|function| (function, device.clone())));
        let pooled =
            self.pools.iter().zip(&config.pools).flat_map(|(functions, pool)| {
                functions.iter().map(|function| (*function, Self::pooled(pool, *function)))
            });
        single.chain(pooled).collect()
    }

    fn claim(&mut self) {
        for (function, device) in self.declared() {
            let unclaimed = matches!(self.whereabouts(function), Whereabouts::Unclaimed);
            let wanted = device.start == Start::Claim && !self.picture.by_hand.released.contains(&function);
            if unclaimed && wanted {
                self.plan.actions.push(Action::Claim { function, device });
            }
        }
    }

    fn release(&mut self) {
        let declared: BTreeSet<Sbdf> = self.declared().into_iter().map(|(function, _)| function).collect();
        for (function, whereabouts) in &self.picture.devices {
            let wanted = declared.contains(function)
                || self.picture.by_hand.claimed.contains(function)
                || self.given.contains_key(function);
            if !wanted && *whereabouts == Whereabouts::Free {
                self.plan.actions.push(Action::Release { function: *function });
            }
        }
    }

    fn serve(&mut self, running: &Running) {
        let guest = &running.guest;
        let domain = self.picture.config.domain_for(guest.name.as_bytes(), &running.uuid);
        let (wanted, mut ready) = domain.map_or((Vec::new(), true), |domain| self.wanted(domain, running));
        let by_hand = self.picture.by_hand;
        let attached = by_hand.attached.get(&running.uuid).into_iter().flatten();
        let wanted: Vec<Request> = wanted.into_iter().chain(attached.cloned()).collect();
        let surplus: Vec<Sbdf> = running
            .has
            .iter()
            .copied()
            .filter(|function| !wanted.iter().any(|request| request.function == *function))
            .collect();
        if !surplus.is_empty() {
            self.plan.actions.push(Action::Detach { guest: guest.clone(), functions: surplus });
        }
        let missing: Vec<Request> = wanted
            .into_iter()
            .filter(|request| {
                !running.has.contains(&request.function)
                    && !by_hand.detached.contains(&(guest.domain, request.function))
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        if running.hvm {
            let text = "is hardware virtualised and has no PCI frontend; only PV guests can be served: type=\"pv\"";
            return self.problem(Some(guest), None, text.to_owned());
        }
        // All of them or none: a guest never runs with half of what it was promised.
        for request in &missing {
            let function = request.function;
            match self.whereabouts(function) {
                Whereabouts::Free | Whereabouts::Unclaimed => {}
                Whereabouts::Busy => {
                    self.passing(guest, function, "is being claimed or renewed".to_owned());
                    ready = false;
                }
                // The domain's former life, perhaps, which is still being taken down.
                Whereabouts::Lent(other) => {
                    self.passing(guest, function, format!("is still with {other}"));
                    ready = false;
                }
                Whereabouts::Broken(reason) => {
                    self.problem(Some(guest), Some(function.to_string()), format!("{function} is broken: {reason}"));
                    ready = false;
                }
            }
        }
        if ready {
            self.given.extend(missing.iter().map(|request| (request.function, guest.domain)));
            self.plan.actions.push(Action::Attach { guest: guest.clone(), requests: missing });
        }
    }

    /// What is declared for a domain and can be found, and whether that is everything.
    fn wanted(&mut self, domain: &Domain, running: &Running) -> (Vec<Request>, bool) {
        let mut wanted = Vec::new();
        let mut complete = true;
        for device in &domain.devices {
            let request = match device.source {
                Source::Device(index) => self.of_device(domain, device, index, running),
                Source::Pool { pool, mac, vlan } => {
                    let network = Some(NetworkAddress { mac, vlan });
                    self.of_pool(domain, device, pool, running, &wanted).map(|request| Request { network, ..request })
                }
            };
            complete &= request.is_some();
            wanted.extend(request);
        }
        (wanted, complete)
    }

    fn of_device(
        &mut self,
        domain: &Domain,
        device: &DomainDevice,
        index: usize,
        running: &Running,
    ) -> Option<Request> {
        let declared = self.picture.config.devices.get(index)?;
        let Some(function) = *self.found.get(index)? else {
            // Why it is not found was said of the device; this is why the domain has to wait.
            let (guest, name) = (&running.guest, name(declared));
            let text = format!("{guest} does not get {name}, which is not to be found");
            let (guest, device) = (Some(guest.clone()), Some(name));
            self.plan.problems.push(Problem { guest, device, text, passes: false, follows: true });
            return None;
        };
        Some(request(domain, device, function, declared.clone()))
    }

    /// One that the domain has already, or any that is free.
    fn of_pool(
        &mut self,
        domain: &Domain,
        device: &DomainDevice,
        index: usize,
        running: &Running,
        before: &[Request],
    ) -> Option<Request> {
        let pool = self.picture.config.pools.get(index)?;
        let functions = self.pools.get(index)?;
        let mut left = functions.iter().filter(|function| before.iter().all(|request| request.function != **function));
        // Also one that it is being given.
        let own = left.clone().find(|function| {
            running.has.contains(function) || self.whereabouts(**function) == Whereabouts::Lent(running.guest.clone())
        });
        // One that was detached by hand is not made up for by another one.
        let detached = &self.picture.by_hand.detached;
        let own = own.or_else(|| left.clone().find(|function| detached.contains(&(running.guest.domain, **function))));
        let is_free =
            |function: &&Sbdf| matches!(self.whereabouts(**function), Whereabouts::Free | Whereabouts::Unclaimed);
        // Being claimed or renewed, or still with a domain that has ended: to be waited for.
        let is_coming = |function: &&Sbdf| match self.whereabouts(**function) {
            Whereabouts::Busy => !self.given.contains_key(*function),
            Whereabouts::Lent(guest) => self.picture.domains.iter().all(|running| running.guest != guest),
            _ => false,
        };
        let found = own.or_else(|| left.clone().find(is_free)).or_else(|| left.find(is_coming));
        match found.copied() {
            Some(function) => Some(request(domain, device, function, Self::pooled(pool, function))),
            None => {
                let text = format!(
                    "pool {} has no free function: {} of {} are there; raise its count, or take one from another domain",
                    pool.name,
                    functions.len(),
                    pool.count
                );
                self.problem(Some(&running.guest), Some(pool.name.clone()), text);
                None
            }
        }
    }

    fn whereabouts(&self, function: Sbdf) -> Whereabouts {
        match self.given.get(&function) {
            Some(_) => Whereabouts::Busy,
            None => self.picture.devices.get(&function).cloned().unwrap_or(Whereabouts::Unclaimed),
        }
    }

    fn problem(&mut self, guest: Option<&Guest>, device: Option<String>, text: String) {
        self.plan.problems.push(Problem { guest: guest.cloned(), device, text, passes: false, follows: false });
    }

    fn passing(&mut self, guest: &Guest, function: Sbdf, text: String) {
        let text = format!("{function} {text}");
        let device = Some(function.to_string());
        self.plan.problems.push(Problem { guest: Some(guest.clone()), device, text, passes: true, follows: false });
    }
}

fn request(domain: &Domain, device: &DomainDevice, function: Sbdf, declared: Device) -> Request {
    let vectors = device.vectors.unwrap_or(domain.vectors);
    Request { slot: device.slot, vectors, ..Request::new(function, declared) }
}

fn name(device: &Device) -> String {
    device.name.clone().unwrap_or_else(|| device.identity.to_string())
}
