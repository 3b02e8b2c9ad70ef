//! Which domains are held, and when they are let go.

use std::collections::BTreeSet;

use xenpcid_address::DomainId;
use xenpcid_control::EventKind;

use super::{Subject, Supervisor, look};
use crate::plan::{Action, Plan};
use crate::session::Guest;

impl Supervisor {
    /// Keeps domains from running before they have what is declared for them.
    pub(super) fn hold(&mut self, look: &look::Look, new: &BTreeSet<DomainId>, plan: &Plan) {
        let lacks = |guest: &Guest| {
            let attaching = |action: &Action| matches!(action, Action::Attach { guest: to, .. } if to == guest);
            plan.actions.iter().any(attaching)
                || plan.problems.iter().any(|problem| problem.guest.as_ref() == Some(guest))
        };
        let config = self.toolstack.declared().config;
        for domain in look.domains.iter().filter(|domain| domain.info.paused || new.contains(&domain.guest.domain)) {
            let (guest, uuid) = (&domain.guest, domain.info.uuid);
            if !domain.is_named {
                continue;
            }
            let Some(declared) = config.domain_for(guest.name.as_bytes(), &uuid) else { continue };
            let Some(patience) = declared.hold.unwrap_or(config.settings.hold) else { continue };
            if domain.info.hvm || domain.has.is_some() || !lacks(guest) {
                continue;
            }
            match self.holds.hold(guest, uuid, patience) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(domain = %guest, ?patience, "held until it has its devices");
                    let text = format!("{guest} waits, paused, for its devices");
                    self.tell(EventKind::Held, text, Some(guest));
                }
                Err(error) => tracing::warn!(domain = %guest, %error, "cannot be held until it has its devices"),
            }
        }
        for guest in self.holds.held() {
            if !lacks(&guest) && !self.busy.contains_key(&Subject::Domain(guest.domain)) {
                self.let_go(&guest, "it has its devices");
            }
        }
        for guest in self.holds.expired() {
            tracing::error!(domain = %guest, "runs without its devices: they were not to be had in the time that it was held for");
            self.let_go(&guest, "its devices were not to be had in time");
        }
    }

    fn let_go(&mut self, guest: &Guest, why: &str) {
        if self.holds.let_go(guest.domain) {
            tracing::info!(domain = %guest, "let go: {why}");
            self.tell(EventKind::Resumed, format!("{guest} runs: {why}"), Some(guest));
        }
    }
}
