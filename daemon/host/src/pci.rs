use std::sync::Arc;

use xenpcid_address::Sbdf;
use xenpcid_policy::{Access, ConfigSize, Resource, Snapshot};

use crate::HostError;

/// What Linux knows of a PCI function.
#[derive(Clone, Debug)]
pub struct FunctionDescription {
    /// Vendor identifier. A virtual function's own register reads 0xffff; this is the real one.
    pub vendor: u16,
    /// Device identifier, as `vendor`.
    pub device: u16,
    /// Class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// Driver that holds the function.
    pub driver: Option<String>,
    /// BAR 0 to 5 and the expansion ROM, as Linux assigned them.
    pub resources: [Resource; 7],
    /// Linux interrupt number, which on a PV dom0 is the GSI of the INTx line; 0 if there is none. To be trusted only while
    /// the function is enabled and no driver holds it.
    pub interrupt: u32,
    /// The only driver that may bind it, if one is set.
    pub driver_override: Option<String>,
    /// How its power is managed.
    pub power: PowerPolicy,
    /// The physical function, if this is an SR-IOV virtual function.
    pub physical_function: Option<Sbdf>,
}

impl FunctionDescription {
    /// All that a guest's view of the function is made from: this, and its registers as they are now.
    ///
    /// # Errors
    /// If a register cannot be read.
    pub fn snapshot(&self, config: &dyn ConfigSpace) -> Result<Snapshot, HostError> {
        /// Interrupt Pin: which of INTA to INTD the function uses, 0 for none.
        const INTERRUPT_PIN: u16 = 0x3d;
        let mut bytes = Vec::with_capacity(usize::from(config.size().bytes()));
        for register in config.size().dwords() {
            bytes.extend(config.read(register)?.to_le_bytes());
        }
        let mut snapshot = Snapshot {
            config: bytes,
            resources: self.resources,
            vendor: self.vendor,
            device: self.device,
            interrupt_line: 0,
            is_virtual_function: self.physical_function.is_some(),
        };
        if snapshot.byte(INTERRUPT_PIN) != 0 {
            // The register has 8 bits and 255 means unknown (PCI Local Bus Specification 6.2.4).
            snapshot.interrupt_line = u8::try_from(self.interrupt).ok().filter(|line| *line != 255).unwrap_or(0);
        }
        Ok(snapshot)
    }
}

/// How Linux manages a function's power (Documentation/ABI/testing/sysfs-devices-power, sysfs-bus-pci).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerPolicy {
    /// The function may be suspended while nobody uses it (`power/control` is `auto`).
    pub runtime_suspend: bool,
    /// It may be cut from power with the bridge above it (`d3cold_allowed`); `None` if this Linux has no say in that.
    pub d3cold_allowed: Option<bool>,
}

impl PowerPolicy {
    /// The same without any powering down.
    #[must_use]
    pub fn pinned(self) -> Self {
        Self { runtime_suspend: false, d3cold_allowed: self.d3cold_allowed.map(|_| false) }
    }
}

/// The PCI functions of the host, as the Linux driver model shows them.
///
/// Calls name the function each time and keep nothing open, but for [`PciHost::open_config`].
pub trait PciHost: Send + Sync {
    /// Every function of the host, in ascending order.
    fn functions(&self) -> Result<Vec<Sbdf>, HostError>;

    /// What is known of one function; `ENODEV` if the host does not have it.
    fn describe(&self, function: Sbdf) -> Result<FunctionDescription, HostError>;

    /// Allows only the driver of that name to bind, or any driver for `None`.
    fn set_driver_override(&self, function: Sbdf, driver: Option<&str>) -> Result<(), HostError>;

    /// Takes the function from its driver; nothing to do if no driver holds it.
    fn unbind(&self, function: Sbdf) -> Result<(), HostError>;

    /// Asks the driver core to find a driver. No driver found is no error, nor is one that did not want the function: see
    /// [`FunctionDescription::driver`].
    fn probe(&self, function: Sbdf) -> Result<(), HostError>;

    /// Counts one more (`true`) or one less user of the function: D0, decoding on, INTx routed. `EBUSY` while a driver holds it.
    fn set_enabled(&self, function: Sbdf, enabled: bool) -> Result<(), HostError>;

    /// Says how the function's power is managed from now on.
    fn set_power_policy(&self, function: Sbdf, policy: PowerPolicy) -> Result<(), HostError>;

    /// Names of the reset methods Linux would try, in order (`flr`, `af_flr`, `pm`, `bus`, ...); empty if there is none.
    fn reset_methods(&self, function: Sbdf) -> Result<Vec<String>, HostError>;

    /// Resets the function and restores the configuration space it has now. Can take a minute. `ENOTTY` without a method.
    fn reset(&self, function: Sbdf) -> Result<(), HostError>;

    /// Opens the configuration space.
    fn open_config(&self, function: Sbdf) -> Result<Arc<dyn ConfigSpace>, HostError>;
}

/// The configuration space of one function of the host.
///
/// Each access reaches the function as one access of that width. Xen drops some writes without a word (those to MSI-X other
/// than 16-bit ones to Message Control), so what matters is read back.
pub trait ConfigSpace: Send + Sync {
    /// 256 or 4096 bytes.
    fn size(&self) -> ConfigSize;

    /// Reads 1, 2 or 4 bytes; all ones if the function does not answer.
    fn read(&self, access: Access) -> Result<u32, HostError>;

    /// Writes 1, 2 or 4 bytes.
    fn write(&self, access: Access, value: u32) -> Result<(), HostError>;
}
