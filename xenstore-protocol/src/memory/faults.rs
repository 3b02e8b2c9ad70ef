//! Failures on demand.

use xenpcid_address::DomainId;

use crate::wire::MessageType;
use crate::{ErrorName, Path};

/// A failure to inject. It happens once.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Only requests of this domain count.
    pub domain: DomainId,
    /// Only requests of this type count; `None`: of any type.
    pub kind: Option<MessageType>,
    /// Only requests whose path is this or below count; `None`: all, also those without a path.
    pub below: Option<Path>,
    /// How many of them are let through before.
    pub skip: u32,
    /// What happens then.
    pub action: FaultAction,
}

/// What a [`Fault`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The request is not carried out and answered with this error. TRANSACTION_END ends its transaction nevertheless.
    Error(ErrorName),
    /// The connection is closed; the request is not carried out.
    DisconnectBefore,
    /// The request is carried out; the connection is closed without an answer.
    DisconnectAfter,
}

impl Fault {
    /// Happens to the next request of this type from domain 0.
    #[must_use]
    pub fn next(kind: MessageType, action: FaultAction) -> Self {
        Self { domain: DomainId::DOM0, kind: Some(kind), below: None, skip: 0, action }
    }

    fn counts(&self, domain: DomainId, kind: MessageType, path: Option<&Path>) -> bool {
        let below = match (&self.below, path) {
            (None, _) => true,
            (Some(root), Some(path)) => root.contains(path),
            (Some(_), None) => false,
        };
        self.domain == domain && self.kind.is_none_or(|only| only == kind) && below
    }
}

/// Takes the fault that this request meets.
pub(super) fn take(
    faults: &mut Vec<Fault>,
    domain: DomainId,
    kind: MessageType,
    path: Option<&Path>,
) -> Option<FaultAction> {
    let index = faults.iter_mut().position(|fault| {
        if !fault.counts(domain, kind, path) {
            return false;
        }
        let due = fault.skip == 0;
        fault.skip = fault.skip.saturating_sub(1);
        due
    })?;
    Some(faults.remove(index).action)
}
