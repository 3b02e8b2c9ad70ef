//! Linux' driver core and its sysfs files, as `xenpcid_host::sysfs` sees them.

use std::path::Path;
use std::sync::Arc;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{ConfigSpace, Errno, FunctionDescription, HostError, HostUse, PciHost, Pirq, PowerPolicy};
use xenpcid_policy::{Access, ConfigSize};

use crate::World;
use crate::function::{COMMAND_INTX_DISABLE, COMMAND_MASTER, Function, MSI_ENABLE, MSIX_ENABLE};
use crate::ledger::Call;
use crate::world::State;

const PCI_STUB: &str = "pci-stub";
const DRIVERS: &str = "/sys/bus/pci/drivers";
/// The number that Linux shows for a function whose driver uses MSI: not a GSI.
const FIRST_MESSAGE_INTERRUPT: u32 = 128;

impl PciHost for World {
    fn functions(&self) -> Result<Vec<Sbdf>, HostError> {
        self.perform(Call::new("functions"), |state| Ok(state.functions.keys().copied().collect()))
    }

    fn describe(&self, function: Sbdf) -> Result<FunctionDescription, HostError> {
        self.perform(Call::new("describe").function(function), |state| {
            let path = state.path(function);
            let function = state.function(function)?;
            let (vendor, device) = function.identity;
            Ok(FunctionDescription {
                vendor,
                device,
                class: function.class,
                driver: function.driver.clone(),
                resources: function.resources,
                interrupt: function.linux_interrupt(),
                driver_override: function.driver_override.clone(),
                power: function.power,
                physical_function: function.physical_function,
                subsystem: function.subsystem,
                parent: function.parent,
                path,
                virtual_functions: function.virtual_functions.as_ref().map(|(virtual_functions, _)| *virtual_functions),
                driver_path: function.driver.as_ref().map(|driver| Path::new(DRIVERS).join(driver)),
            })
        })
    }

    fn set_driver_override(&self, function: Sbdf, driver: Option<&str>) -> Result<(), HostError> {
        let call = Call::new("set_driver_override").function(function).detail(driver.unwrap_or_default());
        self.sysfs(call, function, |function| {
            function.driver_override = driver.map(str::to_owned);
            Ok(())
        })
    }

    fn unbind(&self, function: Sbdf) -> Result<(), HostError> {
        self.perform(Call::new("unbind").function(function), |state| {
            // A function that is not there has no driver.
            state.unbind_driver(function);
            Ok(())
        })
    }

    fn probe(&self, function: Sbdf) -> Result<(), HostError> {
        self.perform(Call::new("probe").function(function), |state| {
            state.function(function)?;
            state.bind_driver(function);
            Ok(())
        })
    }

    fn bind(&self, function: Sbdf, driver: &str) -> Result<(), HostError> {
        self.perform(Call::new("bind").function(function).detail(driver), |state| {
            let found = state.functions.get(&function).ok_or(Errno::ENODEV)?;
            let drivers = state.functions.values().filter_map(|function| function.native_driver.as_deref());
            if !drivers.chain(state.options.pci_stub.then_some(PCI_STUB)).any(|known| known == driver) {
                return Err(Errno::ENOENT);
            }
            let knows = found.native_driver.as_deref() == Some(driver);
            if found.driver.is_some() || !(knows || found.driver_override.as_deref() == Some(driver)) {
                return Err(Errno::ENODEV);
            }
            state.bind_driver(function);
            Ok(())
        })
    }

    fn uses(&self, function: Sbdf) -> Result<Vec<HostUse>, HostError> {
        self.perform(Call::new("uses").function(function), |state| {
            let function = state.function(function)?;
            let in_use = function.driver.is_some() && function.driver == function.native_driver;
            Ok(if in_use { function.uses.clone() } else { Vec::new() })
        })
    }

    fn port(&self, function: Sbdf) -> Result<Option<String>, HostError> {
        self.perform(Call::new("port").function(function), |state| Ok(state.function(function)?.port.clone()))
    }

    fn reserved_memory(&self, function: Sbdf) -> Result<bool, HostError> {
        let call = Call::new("reserved_memory").function(function);
        self.perform(call, |state| Ok(state.function(function)?.reserved_memory))
    }

    fn set_virtual_functions(&self, physical: Sbdf, count: u16) -> Result<(), HostError> {
        let call = Call::new("set_virtual_functions").function(physical).detail(count);
        self.perform(call, |state| state.set_virtual_functions(physical, count))
    }

    fn set_virtual_function_address(
        &self,
        function: Sbdf,
        mac: Option<[u8; 6]>,
        vlan: Option<u16>,
    ) -> Result<(), HostError> {
        let call =
            Call::new("set_virtual_function_address").function(function).detail(format_args!("{mac:02x?} {vlan:?}"));
        self.perform(call, |state| state.set_virtual_function_address(function, mac, vlan))
    }

    fn set_enabled(&self, function: Sbdf, enabled: bool) -> Result<(), HostError> {
        let call = Call::new("set_enabled").function(function).detail(enabled);
        self.perform(call, |state| {
            let found = state.functions.get_mut(&function).ok_or(Errno::ENOENT)?;
            if found.driver.is_some() {
                return Err(Errno::EBUSY);
            }
            if enabled {
                found.enabled += 1;
                if found.enabled == 1 {
                    state.enable(function);
                }
            } else {
                found.enabled = found.enabled.checked_sub(1).ok_or(Errno::EIO)?;
                if found.enabled == 0 {
                    found.change_command(0, COMMAND_MASTER);
                }
            }
            Ok(())
        })
    }

    fn set_power_policy(&self, function: Sbdf, policy: PowerPolicy) -> Result<(), HostError> {
        let call = Call::new("set_power_policy").function(function).detail(format_args!("{policy:?}"));
        self.sysfs(call, function, |function| {
            function.power = policy;
            Ok(())
        })
    }

    fn reset_methods(&self, function: Sbdf) -> Result<Vec<String>, HostError> {
        self.perform(Call::new("reset_methods").function(function), |state| {
            // The file is not there for a function without a method, nor for no function.
            Ok(state.functions.get(&function).map(|function| function.reset_methods.clone()).unwrap_or_default())
        })
    }

    fn reset(&self, function: Sbdf, method: &str) -> Result<(), HostError> {
        self.perform(Call::new("reset").function(function).detail(method), |state| {
            let function = state.functions.get_mut(&function).ok_or(Errno::ENOTTY)?;
            // One that does not come back is one that the method failed for.
            if !function.reset_methods.iter().any(|known| known == method) || !function.responding {
                return Err(Errno::ENOTTY);
            }
            function.reset_and_restore();
            Ok(())
        })
    }

    fn open_config(&self, function: Sbdf) -> Result<Arc<dyn ConfigSpace>, HostError> {
        self.perform(Call::new("open_config").function(function), |state| {
            let found = state.functions.get(&function).ok_or(Errno::ENOENT)?;
            let size = ConfigSize::from_len(found.registers.len()).ok_or(Errno::EINVAL)?;
            Ok(Arc::new(ConfigFile { world: self.clone(), function, size }) as Arc<dyn ConfigSpace>)
        })
    }
}

impl World {
    /// A write of one of a function's files; `ENOENT` if the function is not there.
    fn sysfs(
        &self,
        call: Call,
        function: Sbdf,
        act: impl FnOnce(&mut Function) -> Result<(), Errno>,
    ) -> Result<(), HostError> {
        self.perform(call, |state| act(state.functions.get_mut(&function).ok_or(Errno::ENOENT)?))
    }
}

/// The open `config` file.
struct ConfigFile {
    world: World,
    function: Sbdf,
    size: ConfigSize,
}

impl ConfigFile {
    fn is_inside(&self, access: Access) -> bool {
        access.offset() < self.size.bytes()
    }
}

impl ConfigSpace for ConfigFile {
    fn size(&self) -> ConfigSize {
        self.size
    }

    fn read(&self, access: Access) -> Result<u32, HostError> {
        const OPERATION: &str = "read_config";
        let call = || Call::new(OPERATION).function(self.function).detail(access);
        let failed = |errno| HostError::new(OPERATION, call().object(), errno);
        self.world.strike(OPERATION, call)?;
        let state = self.world.lock();
        let function = state.functions.get(&self.function).ok_or_else(|| failed(Errno::ENODEV))?;
        // A read beyond the end of the file gives less than was asked for.
        if self.is_inside(access) { Ok(function.read(access)) } else { Err(failed(Errno::EIO)) }
    }

    fn write(&self, access: Access, value: u32) -> Result<(), HostError> {
        let call = Call::new("write_config").function(self.function).detail(format_args!("{access} = {value:#x}"));
        self.world.perform(call, |state| {
            let function = state.function(self.function)?;
            if !self.is_inside(access) {
                return Err(Errno::EFBIG);
            }
            let (before, owner) = (function.command(), function.owner);
            function.write(access, value);
            let lost = before & !function.command() & function.decode_bits();
            if lost != 0 && function.responding && owner != DomainId::DOM0 && owner != DomainId::IO {
                // An access of the guest to its BARs would now be an Unsupported Request, which can end the host.
                state.violation(format!(
                    "{}: decode bits {lost:#x} switched off while domain {owner} has the device",
                    self.function
                ));
            }
            Ok(())
        })
    }
}

impl Function {
    /// What the file `irq` shows: a GSI only while the function is enabled and driverless.
    fn linux_interrupt(&self) -> u32 {
        match &self.driver {
            Some(driver) if driver != PCI_STUB && (self.msi.is_some() || self.msix.is_some()) => {
                FIRST_MESSAGE_INTERRUPT + self.address.machine_sbdf()
            }
            None if self.enabled == 0 => self.interrupt_line(),
            _ => self.gsi.unwrap_or(0),
        }
    }
}

impl State {
    /// Host bridge, then device and function of each step.
    fn path(&self, address: Sbdf) -> String {
        let mut steps = vec![address];
        while let Some(parent) = steps.last().and_then(|step| self.functions.get(step)).and_then(|step| step.parent) {
            // A bridge behind itself is a mistake of a test.
            if steps.contains(&parent) {
                break;
            }
            steps.push(parent);
        }
        let root = format!("pci{:04x}:00", address.segment());
        steps.iter().rev().fold(root, |path, step| path + &format!("/{:02x}.{:x}", step.device(), step.function()))
    }

    /// Finds a driver for a function that has none.
    pub(crate) fn bind_driver(&mut self, address: Sbdf) {
        let pci_stub = self.options.pci_stub;
        let Some(function) = self.functions.get_mut(&address) else { return };
        if function.driver.is_some() {
            return;
        }
        let native = function.native_driver.clone();
        let candidate = match &function.driver_override {
            None => native,
            Some(wanted) if wanted == PCI_STUB => pci_stub.then(|| wanted.clone()),
            Some(wanted) => native.filter(|native| native == wanted),
        };
        function.driver.clone_from(&candidate);
        if candidate.as_deref().is_some_and(|driver| driver != PCI_STUB) {
            let owner = function.owner;
            self.enable(address);
            if let Some(function) = self.functions.get_mut(&address) {
                function.change_command(COMMAND_MASTER, 0);
            }
            if owner != DomainId::DOM0 {
                self.violation(format!("{address}: a driver of dom0 bound while domain {owner} owns the device"));
            }
        }
    }

    fn unbind_driver(&mut self, address: Sbdf) {
        let Some(function) = self.functions.get_mut(&address) else { return };
        let driver = function.driver.take();
        // pci-stub neither enables nor disables.
        if driver.is_some_and(|driver| driver != PCI_STUB) {
            if function.enabled == 0 {
                function.change_command(0, COMMAND_MASTER);
            }
            self.remove_virtual_functions(address);
        }
    }

    /// Linux' first `pci_enable_device`: D0, decoding of what has an address, INTx routed to dom0.
    fn enable(&mut self, address: Sbdf) {
        let Some(function) = self.functions.get_mut(&address) else { return };
        function.wake();
        let messages = function.msi_control() & MSI_ENABLE != 0 || function.msix_control() & MSIX_ENABLE != 0;
        let intx = if function.has_intx() && !messages { COMMAND_INTX_DISABLE } else { 0 };
        function.change_command(function.decode_bits(), intx);
        if let Some(gsi) = function.gsi.filter(|_| function.has_intx()) {
            self.dom0_pirqs.insert(Pirq(gsi));
        }
    }
}
