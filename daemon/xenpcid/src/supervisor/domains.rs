//! Domains that come and go.

use std::collections::{BTreeMap, BTreeSet};

use xenpcid_address::DomainId;
use xenpcid_host::{DomainInfo, ShutdownReason};

use super::{Subject, Supervisor, look};

/// What is remembered of a domain.
pub(super) struct Seen {
    uuid: [u8; 16],
    /// Why it shut down, if it did.
    shutdown: Option<ShutdownReason>,
    /// Whether it ever had a name, by which it is known whether something is declared for it.
    was_named: bool,
}

impl Supervisor {
    /// Sessions of domains that are gone end; what was attached by hand is kept for a domain that reboots. Gives the domains
    /// that are new.
    pub(super) fn notice_domains(&mut self, domains: &[look::Domain]) -> BTreeSet<DomainId> {
        let there: BTreeMap<DomainId, &look::Domain> =
            domains.iter().filter(|domain| !domain.info.dying).map(|domain| (domain.guest.domain, domain)).collect();
        // Xen gives numbers anew after a while.
        let is_same =
            |(domain, seen): &(&DomainId, &Seen)| there.get(domain).is_some_and(|now| now.info.uuid == seen.uuid);
        let gone: BTreeSet<DomainId> =
            self.seen.iter().filter(|seen| !is_same(seen)).map(|(domain, _)| *domain).collect();
        self.toolstack.end_sessions(|domain| there.contains_key(&domain) && !gone.contains(&domain));
        for domain in gone {
            self.attempts.forget(&Subject::Domain(domain));
            self.told.retain(|(of, _)| *of != Some(domain));
            self.holds.gone(domain);
            let mut by_hand = self.toolstack.by_hand().borrow_mut();
            by_hand.detached.retain(|(of, _)| *of != domain);
            if let Some(Seen { uuid, shutdown, .. }) = self.seen.remove(&domain) {
                let lives_on = there.values().any(|domain| domain.info.uuid == uuid);
                if shutdown != Some(ShutdownReason::Reboot) && !lives_on {
                    by_hand.attached.remove(&uuid);
                }
            }
        }
        let mut new = BTreeSet::new();
        for (id, domain) in there {
            let was_named = self.seen.get(&id).is_some_and(|seen| seen.was_named);
            if domain.is_named && !was_named {
                new.insert(id);
            }
            let DomainInfo { uuid, shutdown, .. } = domain.info;
            self.seen.insert(id, Seen { uuid, shutdown, was_named: was_named || domain.is_named });
        }
        new
    }
}
