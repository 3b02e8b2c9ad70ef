//! What the control socket answers.

mod denied;
mod resolve;
mod view;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xenpcid_address::Sbdf;
use xenpcid_config::{Config, Device, HostFunction, Override, ResetRequirement};
use xenpcid_control as control;
use xenpcid_control::{Progress, Refusal, Service};
use xenstore_protocol::pci_nodes::{DeviceOptions, RdmPolicy};

use crate::claim::{ClaimError, Facts};
use crate::files::Files;
use crate::plan::{Action, Plan, Problem, Request};
use crate::pool::Slot;
use crate::session::SessionError;
use crate::supervisor;
use crate::toolstack::{OperationError, Toolstack, named as guest};

/// The daemon, as its clients see it.
pub struct Control {
    toolstack: Rc<Toolstack>,
    files: Files,
    status: control::Status,
}

impl Control {
    /// Answers for a daemon that starts now. `xen` is the version of Xen.
    #[must_use]
    pub fn new(toolstack: Rc<Toolstack>, files: Files, xen: Option<String>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let configuration = Some(files.config.display().to_string());
        let status = control::Status { version, xen, started: milliseconds(SystemTime::now()), configuration };
        Self { toolstack, files, status }
    }

    fn patience(&self, timeout: Option<u64>) -> Duration {
        timeout.map_or(self.toolstack.declared().config.settings.detach_timeout, Duration::from_millis)
    }

    fn load(&self) -> Result<(Config, xenpcid_config::Policies), Refusal> {
        self.files.load().map_err(|error| Refusal::ConfigurationInvalid { text: error.to_string() })
    }

    /// What is to be attached for one parameter of a command: all functions that it names.
    fn requests(&self, wanted: &control::AttachDevice, all: &[HostFunction]) -> Result<Vec<Request>, Refusal> {
        let allow = overrides(&wanted.allow)?;
        let mut requests = Vec::new();
        for function in self.functions_of(&wanted.device, all)? {
            let base = self.declaration(function, all);
            let mut device = base.clone();
            let held = self.toolstack.pool().lock().get(&function).is_some_and(|entry| entry.slot.facts().is_some());
            if !held && !wanted.seize && self.declared(function, all).is_none() {
                return Err(Refusal::NotAssignable { device: function.to_string() });
            }
            device.allow.extend(&allow);
            if let Some(policy) = &wanted.policy {
                device.policy = Some(policy.clone());
            } else if wanted.options.permissive {
                device.policy = Some("permissive".to_owned());
            }
            if wanted.options.rdm_policy == control::ReservedMemory::Relaxed {
                device.allow.insert(Override::ReservedMemory);
            }
            if let Some(reset) = wanted.reset {
                device.reset = requirement(reset);
            }
            let options = options(wanted.options);
            requests.push(Request { device, slot: wanted.slot, options, ..Request::new(function, base) });
        }
        Ok(requests)
    }
}

impl Service for Control {
    async fn status(&self) -> Result<control::Status, Refusal> {
        Ok(self.status.clone())
    }

    async fn devices(&self) -> Result<Vec<control::Device>, Refusal> {
        view::devices(&self.toolstack).await.map_err(refusal)
    }

    async fn functions(&self) -> Result<Vec<control::Function>, Refusal> {
        view::functions(&self.toolstack).await.map_err(refusal)
    }

    async fn domains(&self) -> Result<Vec<control::Domain>, Refusal> {
        view::domains(&self.toolstack).await.map_err(refusal)
    }

    async fn interrupts(&self) -> Result<Vec<control::Interrupt>, Refusal> {
        view::interrupts(&self.toolstack).await.map_err(refusal)
    }

    async fn denied(&self, device: Option<Sbdf>) -> Result<control::DeniedReply, Refusal> {
        let facts: Vec<Arc<Facts>> = {
            let pool = self.toolstack.pool().lock();
            if let Some(device) = device.filter(|device| !pool.contains_key(device)) {
                return Err(Refusal::DeviceNotFound { device: device.to_string() });
            }
            let wanted = pool.iter().filter(|(function, _)| device.is_none_or(|device| device == **function));
            wanted.filter_map(|(_, entry)| entry.slot.facts().cloned()).collect()
        };
        Ok(control::DeniedReply {
            denied: facts.iter().flat_map(|facts| denied::denied(facts)).collect(),
            uncounted: facts.iter().map(|facts| u64::from(facts.denials.overflow())).sum(),
        })
    }

    async fn describe(&self, device: Sbdf) -> Result<control::DeviceDescription, Refusal> {
        let pool = self.toolstack.pool().lock();
        let entry = pool.get(&device).ok_or_else(|| Refusal::DeviceNotFound { device: device.to_string() })?;
        let facts = entry.slot.facts().ok_or_else(|| Refusal::DeviceNotClaimed { device: device.to_string() })?;
        let (name, policy) = (facts.name.clone(), facts.policy.name.as_ref().to_owned());
        Ok(control::DeviceDescription::new(device, name, policy, facts.vectors, &facts.snapshot))
    }

    async fn examine(&self, request: control::Examine) -> Result<Vec<control::Finding>, Refusal> {
        let domain = match &request.domain {
            Some(domain) => Some(self.guest(domain).await?),
            None => None,
        };
        let mut findings = Vec::new();
        let all = self.host_functions(&[&request.device]).await?;
        for function in self.functions_of(&request.device, &all)? {
            findings.extend(
                view::findings(&self.toolstack, function, domain.as_ref(), &self.declaration(function, &all))
                    .await
                    .map_err(refusal)?,
            );
        }
        Ok(findings)
    }

    async fn plan(&self) -> Result<control::Plan, Refusal> {
        let (config, _) = self.load()?;
        let look = look(&self.toolstack).await.map_err(refusal)?;
        let mut by_hand = self.toolstack.by_hand().borrow().clone();
        // As apply would have it.
        by_hand.detached.clear();
        by_hand.released.clear();
        Ok(plan(&Plan::new(&look.picture(&config, &by_hand))))
    }

    async fn apply(&self, _: control::Apply, progress: Progress) -> Result<control::Plan, Refusal> {
        let (config, policies) = self.load()?;
        let look = look(&self.toolstack).await.map_err(refusal)?;
        progress.accept();
        self.toolstack.declare(config.clone(), policies);
        let todo = {
            let by_hand = self.toolstack.by_hand().borrow();
            Plan::new(&look.picture(&config, &by_hand))
        };
        for action in &todo.actions {
            progress.say(action.to_string());
        }
        let settled = self.toolstack.settled().await;
        let failures = settled.failures.into_iter().map(|(_, reason)| reason);
        let problems = Problem::told(&settled.problems).into_iter().chain(failures).collect();
        Ok(control::Plan { problems, ..plan(&todo) })
    }

    async fn attach(&self, request: control::Attach, progress: Progress) -> Result<Vec<control::Attached>, Refusal> {
        let guest = self.guest(&request.domain).await?;
        let devices: Vec<&str> = request.devices.iter().map(|device| device.device.as_str()).collect();
        let all = self.host_functions(&devices).await?;
        let mut requests = Vec::new();
        for device in &request.devices {
            requests.extend(self.requests(device, &all)?);
        }
        progress.accept();
        for request in &requests {
            progress.say(format!("attaching {} to {guest}", request.function));
        }
        let patience = self.patience(request.timeout);
        let attached = self.toolstack.attach_by_hand(&guest, requests, patience).await.map_err(refusal)?;
        if attached.unanswered {
            progress.say(format!("{guest} has not looked at its bus yet; it finds the devices when it does"));
        }
        let attached = attached.devices.into_iter();
        Ok(attached
            .map(|device| control::Attached {
                device: device.function,
                guest_address: view::guest_address(device.address),
            })
            .collect())
    }

    async fn detach(&self, request: control::Detach, progress: Progress) -> Result<Vec<Sbdf>, Refusal> {
        let guest = self.guest(&request.domain).await?;
        let devices: Vec<&str> = request.devices.iter().map(String::as_str).collect();
        let (has, all) = (self.has(&guest), self.host_functions(&devices).await?);
        let mut functions = Vec::new();
        for device in &request.devices {
            let named = self.functions_of(device, &all)?;
            // All functions that the guest has of those that are named by *.
            let named: Vec<Sbdf> = match device.ends_with(".*") {
                true => named.into_iter().filter(|function| has.contains(function)).collect(),
                false => named,
            };
            if named.is_empty() || named.iter().any(|function| !has.contains(function)) {
                return Err(Refusal::NotAttached { device: device.clone(), domain: request.domain.clone() });
            }
            functions.extend(named);
        }
        progress.accept();
        progress.say(format!("asking {guest} to let go"));
        let patience = self.patience(request.timeout);
        self.toolstack.detach_by_hand(&guest, functions.clone(), request.force, patience).await.map_err(refusal)?;
        Ok(functions)
    }

    async fn claim(&self, request: control::Claim, progress: Progress) -> Result<Vec<control::Claimed>, Refusal> {
        let allow = overrides(&request.allow)?;
        let all = self.host_functions(&[&request.device]).await?;
        let functions = self.functions_of(&request.device, &all)?;
        progress.accept();
        let mut wanted = Vec::new();
        let mut claimed = Vec::new();
        for function in functions {
            let mut device = self.declaration(function, &all);
            device.allow.extend(&allow);
            if let Some(reset) = request.reset {
                device.reset = requirement(reset);
            }
            if request.name.is_some() {
                device.name.clone_from(&request.name);
            }
            let already =
                self.toolstack.pool().lock().get(&function).is_some_and(|entry| matches!(entry.slot, Slot::Free(_)));
            claimed.push(control::Claimed { device: function, name: device.name.clone(), already });
            wanted.push((function, device));
        }
        self.toolstack.claim_by_hand(&wanted, |line| progress.say(line)).await.map_err(refusal)?;
        Ok(claimed)
    }

    async fn release(&self, request: control::Release, progress: Progress) -> Result<Vec<Sbdf>, Refusal> {
        let functions = self.functions_of(&request.device, &self.host_functions(&[&request.device]).await?)?;
        progress.accept();
        self.toolstack.release_by_hand(&functions, request.rebind, |line| progress.say(line)).await.map_err(refusal)?;
        Ok(functions)
    }

    fn watch(&self) -> control::Watcher {
        self.toolstack.events().watch()
    }
}

fn overrides(keys: &[String]) -> Result<BTreeSet<Override>, Refusal> {
    let unknown = |key: &String| Refusal::UnknownKey {
        key: key.clone(),
        known: Override::ALL.iter().map(ToString::to_string).collect(),
    };
    keys.iter().map(|key| key.parse().map_err(|_| unknown(key))).collect()
}

const fn requirement(reset: control::Reset) -> ResetRequirement {
    match reset {
        control::Reset::Required => ResetRequirement::Required,
        control::Reset::BestEffort => ResetRequirement::BestEffort,
    }
}

fn options(options: control::Options) -> DeviceOptions {
    let control::Options { msitranslate, power_mgmt, permissive, rdm_policy } = options;
    let rdm_policy = match rdm_policy {
        control::ReservedMemory::Strict => RdmPolicy::Strict,
        control::ReservedMemory::Relaxed => RdmPolicy::Relaxed,
    };
    DeviceOptions { msitranslate, power_mgmt, permissive, rdm_policy }
}

fn plan(plan: &Plan) -> control::Plan {
    let action = |action: &Action| {
        let (kind, device, domain) = match action {
            Action::CreateFunctions { physical, .. } => {
                (control::ActionKind::VirtualFunctions, Some(physical.to_string()), None)
            }
            Action::Claim { function, .. } => (control::ActionKind::Claim, Some(function.to_string()), None),
            Action::Release { function } => (control::ActionKind::Release, Some(function.to_string()), None),
            Action::Detach { guest, functions } => {
                (control::ActionKind::Detach, single(functions.iter().copied()), Some(guest.name.clone()))
            }
            Action::Attach { guest, requests } => {
                let functions = requests.iter().map(|request| request.function);
                (control::ActionKind::Attach, single(functions), Some(guest.name.clone()))
            }
        };
        control::Action { kind, device, domain, text: action.to_string() }
    };
    control::Plan { actions: plan.actions.iter().map(action).collect(), problems: Problem::told(&plan.problems) }
}

/// The devices, as one parameter of a command.
fn single(functions: impl Iterator<Item = Sbdf>) -> Option<String> {
    Some(functions.map(|function| function.to_string()).collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
}

async fn look(toolstack: &Toolstack) -> Result<supervisor::look::Look, OperationError> {
    supervisor::look::look(toolstack, supervisor::look::functions(toolstack).await?).await
}

/// What a client is told.
fn refusal(error: OperationError) -> Refusal {
    match error {
        OperationError::Lent { function, holder } => {
            Refusal::AlreadyAssigned { device: function.to_string(), guest: guest(&holder) }
        }
        OperationError::AlreadyAttached { function, guest: holder } => {
            Refusal::AlreadyAssigned { device: function.to_string(), guest: guest(&holder) }
        }
        OperationError::NotAttached { function, guest }
        | OperationError::Session(SessionError::NotAttached { function, guest }) => {
            Refusal::NotAttached { device: function.to_string(), domain: guest.to_string() }
        }
        OperationError::NotClaimed { function } => Refusal::NotAssignable { device: function.to_string() },
        OperationError::Busy { function } => Refusal::Busy { object: function.to_string() },
        OperationError::Session(error @ SessionError::NotLetGo { .. }) => {
            let domain = match &error {
                SessionError::NotLetGo { guest, .. } => guest.to_string(),
                _ => String::new(),
            };
            Refusal::GuestTimeout { domain, reason: error.to_string() }
        }
        OperationError::Claim(ClaimError::Checks { function, findings }) => Refusal::ChecksFailed {
            device: function.to_string(),
            findings: findings.iter().map(|finding| view::finding(finding, &Device::new(function))).collect(),
        },
        other => Refusal::Failed { reason: other.to_string() },
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
