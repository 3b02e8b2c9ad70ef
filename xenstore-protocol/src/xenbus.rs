//! xenbus: how the two halves of a split driver agree on their connection (xen/include/public/io/xenbus.h).
//!
//! Each half has a directory with a node `state`, which only it writes (and the toolstack, for the backend) and the
//! other half watches:
//! ```text
//!  1 Initialising ─► 2 InitWait ─► 3 Initialised ─► 4 Connected ─► 5 Closing ─► 6 Closed
//!                                                    │       ▲
//!                             devices come and go    ▼       │
//!                                              7 Reconfiguring ─► 8 Reconfigured
//! ```

use std::fmt;

use crate::number::decimal;
use crate::{Client, Error, Path, Store};

/// State of one half. Numbers beyond the protocol are kept: the other half is a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XenbusState {
    /// 0: no node, or not yet decided.
    Unknown,
    /// 1: the toolstack has made the directory.
    Initialising,
    /// 2: waiting for the other half, or for a hotplug script.
    InitWait,
    /// 3: everything the other half needs is published.
    Initialised,
    /// 4: in use.
    Connected,
    /// 5: being taken down.
    Closing,
    /// 6: taken down.
    Closed,
    /// 7: devices on this bus come or go.
    Reconfiguring,
    /// 8: the backend has done its part of a reconfiguration.
    Reconfigured,
    /// Any other number.
    Other(u32),
}

const NUMBERS: [(XenbusState, u32); 9] = [
    (XenbusState::Unknown, 0),
    (XenbusState::Initialising, 1),
    (XenbusState::InitWait, 2),
    (XenbusState::Initialised, 3),
    (XenbusState::Connected, 4),
    (XenbusState::Closing, 5),
    (XenbusState::Closed, 6),
    (XenbusState::Reconfiguring, 7),
    (XenbusState::Reconfigured, 8),
];

impl XenbusState {
    /// Number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Other(number) => number,
            known => NUMBERS.iter().find(|(state, _)| *state == known).map_or(0, |(_, number)| *number),
        }
    }
}

impl From<u32> for XenbusState {
    fn from(number: u32) -> Self {
        NUMBERS.iter().find(|(_, known)| *known == number).map_or(Self::Other(number), |(state, _)| *state)
    }
}

impl fmt::Display for XenbusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "{number}"),
            known => write!(f, "{} ({known:?})", known.number()),
        }
    }
}

/// What [`switch_state`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// The state was written.
    Written,
    /// It was that already; writing it again would only wake the other half.
    Unchanged,
    /// The node is gone, and was not brought back.
    Gone,
}

/// Reads a state node; a node that is not there means [`XenbusState::Unknown`].
///
/// # Errors
/// [`Error::Malformed`] if it holds no decimal number; or the node cannot be read.
pub async fn read_state(store: &Store, path: &Path) -> Result<XenbusState, Error> {
    let Some(value) = store.read_if_present(path).await? else {
        return Ok(XenbusState::Unknown);
    };
    let number: Option<u32> = decimal(&value);
    number.map(XenbusState::from).ok_or_else(|| Error::malformed(path, &value, "a xenbus state"))
}

/// Writes a state node that exists, in a transaction of its own: a directory that its owner removed meanwhile is not
/// brought back to life.
///
/// # Errors
/// As [`Client::transaction`].
pub async fn switch_state(client: &Client, path: &Path, state: XenbusState) -> Result<Switched, Error> {
    client.transaction(async |transaction| switch_state_in(transaction, path, state).await).await
}

/// As [`switch_state`], inside a transaction of the caller.
///
/// # Errors
/// The node cannot be read or written.
pub async fn switch_state_in(store: &Store, path: &Path, state: XenbusState) -> Result<Switched, Error> {
    let Some(value) = store.read_if_present(path).await? else {
        return Ok(Switched::Gone);
    };
    if decimal(&value) == Some(state.number()) {
        return Ok(Switched::Unchanged);
    }
    store.write(path, state.number().to_string()).await?;
    Ok(Switched::Written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_number_is_a_state_and_comes_back(number: u32) {
            prop_assert_eq!(XenbusState::from(number).number(), number);
        }
    }

    #[test]
    fn names_are_those_of_the_header() {
        assert_eq!(XenbusState::from(4), XenbusState::Connected);
        assert_eq!(XenbusState::Connected.to_string(), "4 (Connected)");
        assert_eq!(XenbusState::from(9), XenbusState::Other(9));
        assert_eq!(XenbusState::from(9).to_string(), "9");
    }
}
