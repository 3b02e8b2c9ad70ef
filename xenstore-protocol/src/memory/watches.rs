//! Who is told about a change.

use xenpcid_address::DomainId;

use super::tree::{Change, NodePermissions};
use crate::Path;
use crate::wire::encode_strings;

/// A watch of one connection.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// Absolute, or special.
    pub(super) path: Path,
    /// As it was registered, and as it is named in events.
    pub(super) named: Path,
    pub(super) token: Vec<u8>,
}

impl Watch {
    /// The payload of the event for a change; `None` if the watch does not cover it.
    ///
    /// `permissions` are those of the node before and after the change, and of its parent: a domain learns of a change
    /// if it can read either.
    pub(super) fn event(&self, domain: DomainId, change: &Change, parent: Option<&NodePermissions>) -> Option<Vec<u8>> {
        let covers = if change.exact { self.path == change.path } else { self.path.contains(&change.path) };
        let readable = |permissions: &NodePermissions| permissions.access(domain).may_read();
        if !covers || !change.permissions.iter().chain(parent).any(readable) {
            return None;
        }
        let below = change.path.as_str().strip_prefix(self.path.as_str()).unwrap_or_default();
        Some(self.payload(&format!("{}{below}", self.named)))
    }

    /// The payload of an event that names the watch itself.
    pub(super) fn own_event(&self) -> Vec<u8> {
        self.payload(self.named.as_str())
    }

    fn payload(&self, path: &str) -> Vec<u8> {
        encode_strings([path.as_bytes(), &self.token])
    }
}
