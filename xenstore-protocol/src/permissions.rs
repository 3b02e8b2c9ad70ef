//! Who may read and write a node.

use std::fmt;
use std::str::FromStr;

use xenpcid_address::DomainId;

use crate::wire::{decode_strings, encode_strings};

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nothing (`n`).
    None,
    /// Read (`r`).
    Read,
    /// Write, but not read (`w`).
    Write,
    /// Read and write (`b`, both).
    Both,
}

/// Each access with its letter.
const LETTERS: [(Access, char); 4] =
    [(Access::None, 'n'), (Access::Read, 'r'), (Access::Write, 'w'), (Access::Both, 'b')];

impl Access {
    fn letter(self) -> char {
        LETTERS.iter().find(|(access, _)| *access == self).map_or('n', |(_, letter)| *letter)
    }

    /// Does it include reading?
    #[must_use]
    pub const fn may_read(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// Does it include writing?
    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// A node's permissions. Text form as `xenstore-ls -p` prints it: `n0,r1` means that domain 0 owns the node, domain 1
/// may read it and nobody else may do anything.
///
/// The owner and domain 0 may always do everything. A node that is created takes its parent's permissions, with the
/// creating domain as the owner unless that is domain 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permissions {
    /// Owner of the node.
    pub owner: DomainId,
    /// What a domain may do that is not in `others`.
    pub default: Access,
    /// Domains with an access of their own.
    pub others: Vec<(DomainId, Access)>,
}

impl Permissions {
    /// Owned by `owner`; nobody else may do anything.
    #[must_use]
    pub const fn private(owner: DomainId) -> Self {
        Self { owner, default: Access::None, others: Vec::new() }
    }

    /// The same with `access` for one more domain.
    #[must_use]
    pub fn with(mut self, domain: DomainId, access: Access) -> Self {
        self.others.push((domain, access));
        self
    }

    /// What `domain` may do.
    #[must_use]
    pub fn access(&self, domain: DomainId) -> Access {
        if domain == DomainId::DOM0 || domain == self.owner {
            return Access::Both;
        }
        self.others.iter().find(|(other, _)| *other == domain).map_or(self.default, |(_, access)| *access)
    }

    /// The entries in wire order: the owner with the default, then the others.
    fn entries(&self) -> impl Iterator<Item = String> {
        let owner = (self.owner, self.default);
        std::iter::once(owner)
            .chain(self.others.iter().copied())
            .map(|(domain, access)| format!("{}{domain}", access.letter()))
    }

    /// The payload form: each entry ended by NUL.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_strings(self.entries())
    }

    /// Reads the payload form.
    ///
    /// # Errors
    /// There is no entry, or one is not a letter `n`, `r`, `w` or `b` and a domain identifier.
    pub fn decode(payload: &[u8]) -> Result<Self, InvalidPermissions> {
        Self::from_entries(decode_strings(payload).map(|entry| String::from_utf8_lossy(entry)))
    }

    fn from_entries<S: AsRef<str>>(entries: impl Iterator<Item = S>) -> Result<Self, InvalidPermissions> {
        let mut entries = entries.map(|entry| parse_entry(entry.as_ref()));
        let (owner, default) = entries.next().unwrap_or_else(|| Err(InvalidPermissions(String::new())))?;
        Ok(Self { owner, default, others: entries.collect::<Result<_, _>>()? })
    }
}

/// Text that is not [`Permissions`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a permission: write n, r, w or b (none, read, write, both) and a domain identifier, such as r1"
)]
pub struct InvalidPermissions(String);

fn parse_entry(text: &str) -> Result<(DomainId, Access), InvalidPermissions> {
    let mut characters = text.chars();
    let access = characters.next().and_then(|c| LETTERS.iter().find(|(_, letter)| *letter == c));
    let digits = characters.as_str();
    let domain = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None };
    match (access, domain) {
        (Some((access, _)), Some(domain)) => Ok((DomainId(domain), *access)),
        _ => Err(InvalidPermissions(text.to_owned())),
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.entries().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Permissions {
    type Err = InvalidPermissions;

    fn from_str(text: &str) -> Result<Self, InvalidPermissions> {
        Self::from_entries(text.split(','))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access() -> impl Strategy<Value = Access> {
        prop::sample::select(LETTERS.map(|(access, _)| access).to_vec())
    }

    proptest! {
        #[test]
        fn permissions_survive_text_and_payload(
            owner: u16,
            default in access(),
            others in prop::collection::vec((any::<u16>().prop_map(DomainId), access()), 0..5),
        ) {
            let permissions = Permissions { owner: DomainId(owner), default, others };
            prop_assert_eq!(permissions.to_string().parse(), Ok(permissions.clone()));
            prop_assert_eq!(Permissions::decode(&permissions.encode()), Ok(permissions));
        }

        #[test]
        fn arbitrary_bytes_are_permissions_or_an_error(bytes: Vec<u8>) {
            let _ = Permissions::decode(&bytes);
        }
    }

    #[test]
    fn text_form_is_that_of_xenstore_ls() {
        let permissions = Permissions::private(DomainId(0)).with(DomainId(1), Access::Read);
        assert_eq!(permissions.to_string(), "n0,r1");
        assert_eq!(permissions.encode(), b"n0\0r1\0");
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in ["", "n", "x0", "0", "n0,", "n-1", "n65536", "n+1"] {
            assert!(text.parse::<Permissions>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn owner_and_domain_0_may_do_everything_others_what_is_written() {
        let permissions: Permissions = "r5,w6,n7".parse().unwrap();
        let accesses = [0, 5, 6, 7, 8].map(|domain| permissions.access(DomainId(domain)));
        assert_eq!(accesses, [Access::Both, Access::Both, Access::Write, Access::None, Access::Read]);
    }
}
