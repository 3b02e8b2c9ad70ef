//! What the control socket answers.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use xenpcid_address::Sbdf;
use xenpcid_control as control;
use xenpcid_control::{Refusal, Service};

use crate::claim::Facts;
use crate::denials::{Denial, Operation, Refusal as Refused};
use crate::pool::{Declared, Pool, Slot};
use crate::session::Guest;

/// The daemon, as its clients see it.
pub struct Control {
    pool: Arc<Pool>,
    status: control::Status,
}

impl Control {
    /// Answers for the devices of `pool`, in a daemon that starts now. `xen` is the version of Xen, `configuration` the file
    /// that the devices were declared in.
    #[must_use]
    pub fn new(pool: Arc<Pool>, xen: Option<String>, configuration: Option<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { pool, status: control::Status { version, xen, started, configuration } }
    }
}

impl Service for Control {
    async fn status(&self) -> Result<control::Status, Refusal> {
        Ok(self.status.clone())
    }

    async fn devices(&self) -> Result<Vec<control::Device>, Refusal> {
        Ok(self.pool.lock().values().map(device).collect())
    }

    async fn denied(&self, device: Option<Sbdf>) -> Result<control::DeniedReply, Refusal> {
        let facts: Vec<Arc<Facts>> = {
            let pool = self.pool.lock();
            if let Some(device) = device.filter(|device| !pool.contains_key(device)) {
                return Err(Refusal::DeviceNotFound { device });
            }
            let wanted = pool.iter().filter(|(function, _)| device.is_none_or(|device| device == **function));
            wanted.filter_map(|(_, declared)| declared.slot.facts().cloned()).collect()
        };
        Ok(control::DeniedReply {
            denied: facts.iter().flat_map(|facts| denied(facts)).collect(),
            uncounted: facts.iter().map(|facts| u64::from(facts.denials.overflow())).sum(),
        })
    }

    async fn describe(&self, device: Sbdf) -> Result<control::DeviceDescription, Refusal> {
        let pool = self.pool.lock();
        let declared = pool.get(&device).ok_or(Refusal::DeviceNotFound { device })?;
        let facts = declared.slot.facts().ok_or(Refusal::DeviceNotClaimed { device })?;
        let (name, policy) = (facts.name.clone(), facts.policy.name.as_ref().to_owned());
        Ok(control::DeviceDescription::new(device, name, policy, facts.vectors, &facts.snapshot))
    }
}

fn device(declared: &Declared) -> control::Device {
    let Declared { device, slot, .. } = declared;
    let (state, guest) = match slot {
        Slot::Unclaimed => (control::DeviceState::Unclaimed, None),
        Slot::Free(_) => (control::DeviceState::Quarantined, None),
        Slot::Lent(guest, _) => (control::DeviceState::Assigned, Some(self::guest(guest))),
        Slot::Broken(_) => (control::DeviceState::Broken, None),
    };
    // Which policy an unclaimed device will have is not known before its registers are.
    let policy = slot.facts().map(|facts| facts.policy.name.as_ref().to_owned());
    control::Device {
        address: device.sbdf,
        name: device.name.clone(),
        policy: policy.or_else(|| device.policy.clone()),
        state,
        guest,
    }
}

fn guest(guest: &Guest) -> control::Guest {
    control::Guest { id: guest.domain.0, name: guest.name.clone() }
}

/// What the device's guest did not get, with the names of the registers.
fn denied(facts: &Facts) -> Vec<control::Denied> {
    let (Some(guest), denials) = (facts.denials.guest(), facts.denials.list()) else { return Vec::new() };
    // Names cost a plan.
    if denials.is_empty() {
        return Vec::new();
    }
    let Ok(plan) = facts.plan() else { return Vec::new() };
    let named = |denial: Denial| {
        let Denial { register, operation, refusal, bits, count, last_value, last_time } = denial;
        let found = plan.register_at(register.offset());
        control::Denied {
            device: facts.function,
            guest: self::guest(&guest),
            offset: register.offset(),
            width: register.width().bytes(),
            register: found.as_ref().map(|found| found.name.clone().into_owned()),
            capability: found.as_ref().and_then(|found| found.capability).map(|id| id.to_string()),
            hidden: found.is_some_and(|found| found.bits.iter().any(|bits| bits.is_hidden)),
            operation: match operation {
                Operation::Read => control::Operation::Read,
                Operation::Write => control::Operation::Write,
            },
            outcome: match refusal {
                Refused::Discarded => control::Outcome::Discarded,
                Refused::Denied => control::Outcome::Denied,
            },
            bits,
            count: u64::from(count),
            last_value,
            last_time,
        }
    };
    denials.into_iter().map(named).collect()
}
