//! Virtual functions that come and go with a number written to their physical one.

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::Errno;

use crate::World;
use crate::function::Function;
use crate::world::State;

/// First VF Offset and VF Stride of the simulated SR-IOV capability.
const OFFSET: u16 = 0x180;
const STRIDE: u16 = 2;

/// What a physical function's driver was told about a virtual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualFunctionAddress {
    /// Its MAC address.
    pub mac: Option<[u8; 6]>,
    /// Its VLAN; 0 for none.
    pub vlan: u16,
}

impl World {
    /// What the physical function's driver was told about a virtual function.
    #[must_use]
    pub fn virtual_function_address(&self, function: Sbdf) -> VirtualFunctionAddress {
        let state = self.lock();
        let mut told = state.functions.values().filter_map(|physical| physical.addresses.get(&function));
        told.next().copied().unwrap_or_default()
    }
}

/// Where the virtual function of that index is.
fn address(physical: Sbdf, index: u16) -> Option<Sbdf> {
    let routing_id = u16::from_be_bytes([physical.bus(), physical.devfn()]);
    let routing_id = routing_id.checked_add(OFFSET)?.checked_add(STRIDE.checked_mul(index)?)?;
    let [bus, devfn] = routing_id.to_be_bytes();
    Some(Sbdf::from_devfn(physical.segment(), bus, devfn))
}

impl State {
    pub(crate) fn set_virtual_functions(&mut self, physical: Sbdf, count: u16) -> Result<(), Errno> {
        let function = self.functions.get_mut(&physical).ok_or(Errno::EOPNOTSUPP)?;
        let (virtual_functions, make) = function.virtual_functions.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        // Only the driver knows how to make them.
        if function.driver.as_ref().is_none_or(|driver| function.native_driver.as_ref() != Some(driver)) {
            return Err(Errno::ENOENT);
        }
        if count > virtual_functions.total {
            return Err(Errno::ERANGE);
        }
        if count == virtual_functions.enabled {
            return Ok(());
        }
        let make = *make;
        self.remove_virtual_functions(physical);
        for index in 0..count {
            let (Some(address), Ok(number)) = (address(physical, index), u8::try_from(index)) else {
                return Err(Errno::ENOMEM);
            };
            let mut function = Function::new(&make(address, physical, number).without_driver());
            function.parent = self.functions.get(&physical).and_then(|physical| physical.parent);
            self.functions.insert(address, function);
        }
        if let Some((virtual_functions, _)) =
            self.functions.get_mut(&physical).and_then(|function| function.virtual_functions.as_mut())
        {
            virtual_functions.enabled = count;
        }
        Ok(())
    }

    /// They vanish, also with their physical function's driver.
    pub(crate) fn remove_virtual_functions(&mut self, physical: Sbdf) {
        let Some(function) = self.functions.get_mut(&physical) else { return };
        function.addresses.clear();
        let Some((virtual_functions, _)) = &mut function.virtual_functions else { return };
        for index in 0..std::mem::take(&mut virtual_functions.enabled) {
            let removed = address(physical, index).and_then(|address| self.functions.remove(&address));
            if let Some(lost) = removed.filter(|function| ![DomainId::DOM0, DomainId::IO].contains(&function.owner)) {
                let (function, domain) = (lost.address, lost.owner);
                self.violation(format!("{function}: vanished while domain {domain} has the device"));
            }
        }
    }

    pub(crate) fn set_virtual_function_address(
        &mut self,
        function: Sbdf,
        mac: Option<[u8; 6]>,
        vlan: Option<u16>,
    ) -> Result<(), Errno> {
        /// VLANs have 12 bits.
        const VLANS: u16 = 4096;
        /// No address, to a driver.
        const NO_MAC: [u8; 6] = [0; 6];
        let physical = self.functions.get(&function).and_then(|function| function.physical_function);
        let physical = physical.and_then(|physical| self.functions.get_mut(&physical)).ok_or(Errno::EINVAL)?;
        if physical.driver.is_none() || physical.driver != physical.native_driver {
            return Err(Errno::ENODEV);
        }
        if vlan.is_some_and(|vlan| vlan >= VLANS) {
            return Err(Errno::EINVAL);
        }
        let address = physical.addresses.entry(function).or_default();
        address.mac = mac.or(address.mac).filter(|mac| *mac != NO_MAC);
        address.vlan = vlan.unwrap_or(address.vlan);
        Ok(())
    }
}
