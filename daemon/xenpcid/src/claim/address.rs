//! The MAC address and the VLAN of a virtual function. The physical function's driver keeps them, so they outlive the guest and
//! every reset, and are taken away by themselves.

use xenpcid_host::Host;

use super::{ClaimError, Claimed};

/// What the physical function's driver is told about a virtual function of a pool, for one guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkAddress {
    /// Its MAC address; `None` leaves it to the guest.
    pub mac: Option<[u8; 6]>,
    /// The VLAN that it is kept in; `None` is none.
    pub vlan: Option<u16>,
}

/// What a virtual function may still have of its last guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    mac: bool,
    vlan: bool,
}

impl Claimed {
    /// Makes the address the one of the next guest: what that one is not given is taken away. With `None`, only what was given
    /// here before is taken away; what somebody else has told the driver stays.
    ///
    /// # Errors
    /// The driver refuses to give what is wanted, or to take away what was given here.
    pub fn set_address(&mut self, host: &Host, wanted: Option<NetworkAddress>) -> Result<(), ClaimError> {
        let function = self.function();
        if wanted.is_none() && self.left == Left::default() {
            return Ok(());
        }
        let NetworkAddress { mac, vlan } = wanted.unwrap_or_default();
        // A driver that does not do this has not done it for the last guest either: then there is nothing to take away.
        let matters = Left { mac: mac.is_some() || self.left.mac, vlan: vlan.is_some() || self.left.vlan };
        // Before it is done: a failure may come after it has taken effect.
        self.left = matters;
        let set_mac = host.pci.set_virtual_function_address(function, Some(mac.unwrap_or_default()), None);
        let set_vlan = host.pci.set_virtual_function_address(function, None, Some(vlan.unwrap_or_default()));
        let refused = |taken_away: bool, what, error| match taken_away {
            false => ClaimError::Host(error),
            true => ClaimError::AddressLeft { function, what, error },
        };
        match set_mac {
            Err(error) if matters.mac => return Err(refused(mac.is_none(), "MAC address", error)),
            Err(error) => tracing::debug!(%function, %error, "no MAC address to take away"),
            Ok(()) => self.left.mac = mac.is_some(),
        }
        match set_vlan {
            Err(error) if matters.vlan => return Err(refused(vlan.is_none(), "VLAN", error)),
            Err(error) => tracing::debug!(%function, %error, "no VLAN to take away"),
            Ok(()) => self.left.vlan = vlan.is_some(),
        }
        Ok(())
    }

    /// Takes away what its last guest was given. A driver that does not do that keeps no device from a guest with an address of
    /// its own.
    pub fn clear_address(&mut self, host: &Host) {
        if let Err(error) = self.set_address(host, None) {
            tracing::warn!(function = %self.function(), %error, "not as before its guest");
        }
    }
}
