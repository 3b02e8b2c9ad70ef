//! `xenpci explain`: a policy applied to a device, register by register.

mod json;
mod map;
mod text;

use std::sync::Arc;

use xenpcid_policy::{ExplainedBits, Plan, Policy};

use crate::arguments::{Explain, Places};
use crate::device::Subject;
use crate::failure::Failure;
use crate::screen;

/// A device under a policy.
pub struct Explanation {
    pub subject: Subject,
    pub policy: Arc<Policy>,
    pub plan: Plan,
}

pub fn run(places: &Places, arguments: &Explain) -> Result<(), Failure> {
    let explanation = Explanation::new(places, arguments)?;
    screen::print(&match arguments {
        Explain { json: true, .. } => json::render(&explanation)?,
        Explain { map: true, .. } => map::render(&explanation, screen::width()),
        _ => text::render(&explanation, screen::width()),
    })
}

impl Explanation {
    fn new(places: &Places, arguments: &Explain) -> Result<Self, Failure> {
        let subject = match (&arguments.from, arguments.device) {
            (Some(file), device) => Subject::recorded(file, device)?,
            (None, Some(device)) => Subject::present(places, device)?,
            // The command line was parsed with one of the two required.
            (None, None) => return Err(Failure::Reported),
        };
        let policy = subject.policy(places, arguments.policy.as_deref())?;
        let plan = subject.plan(&policy)?;
        Ok(Self { subject, policy, plan })
    }

    /// The first line: what is explained.
    fn title(&self) -> String {
        let identity = self.subject.identity();
        let name = self.subject.name.as_deref().map(|name| format!(" {}", screen::harmless(name)));
        format!(
            "{}{} {:04x}:{:04x} (revision {:02x}) of class {:06x}, under policy {}",
            self.subject.title(),
            name.unwrap_or_default(),
            identity.vendor,
            identity.device,
            identity.revision,
            identity.class,
            self.policy.name
        )
    }

    /// Whether bits are as the policy treats everything that no rule names.
    fn is_ordinary(&self, bits: &ExplainedBits) -> bool {
        let otherwise = self.plan.otherwise();
        bits.guarded.is_none() && bits.origin == otherwise.origin && bits.why == otherwise.why && !bits.is_hidden
    }
}
