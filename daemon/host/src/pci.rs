use std::path::PathBuf;
use std::sync::Arc;

use xenpcid_address::Sbdf;
use xenpcid_policy::{Access, ConfigSize, Resource, Snapshot};

use crate::{HostError, HostUse};

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
    /// Subsystem vendor and subsystem identifier; 0 where a function has none.
    pub subsystem: (u16, u16),
    /// The bridge above it; `None` on a root bus.
    pub parent: Option<Sbdf>,
    /// Where it is plugged in, whatever the numbers of the buses: its host bridge, then device and function of each step from
    /// there, such as `pci0000:00/1c.0/00.0`. Empty if Linux does not show it.
    pub path: String,
    /// Its virtual functions, if it can have some.
    pub virtual_functions: Option<VirtualFunctions>,
    /// The folder of the driver that holds the function, below `/sys/bus/pci/drivers`, without links in it.
    pub driver_path: Option<PathBuf>,
}

/// The virtual functions of a physical one (Single Root I/O Virtualization).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualFunctions {
    /// As many as there can be.
    pub total: u16,
    /// As many as there are now.
    pub enabled: u16,
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

    /// Has the driver of that name take the function. `ENOENT` if there is no such driver, `ENODEV` if it does not want the
    /// function.
    fn bind(&self, function: Sbdf, driver: &str) -> Result<(), HostError>;

    /// What dom0 does with the function, or with what is behind it, now; empty if nothing that would be missed.
    fn uses(&self, function: Sbdf) -> Result<Vec<HostUse>, HostError>;

    /// What firmware calls the function's place (SMBIOS or ACPI), or else `slot` and the name of its physical slot. Looks at each
    /// slot of the host.
    fn port(&self, function: Sbdf) -> Result<Option<String>, HostError>;

    /// Whether firmware reserves memory for the function (RMRR of Intel's DMAR table). False where the tables cannot be read: Xen
    /// then refuses with `EPERM` when it is assigned.
    fn reserved_memory(&self, function: Sbdf) -> Result<bool, HostError>;

    /// Makes as many virtual functions of a physical one, without drivers of dom0 on them; those of before go. `EOPNOTSUPP` if
    /// the function or its driver has none, `ERANGE` if there are not so many.
    fn set_virtual_functions(&self, physical: Sbdf, count: u16) -> Result<(), HostError>;

    /// Gives a virtual function its MAC address and its VLAN, by the physical function's driver; what is `None` stays, an address
    /// of zeros takes it away, and VLAN 0 is none. The guest cannot change them afterwards. They outlive the guest, and any reset
    /// of the virtual function. `EINVAL` if it is no virtual function, or the driver does not take that value; `ENODEV` if the
    /// physical function has no network interface; `EOPNOTSUPP` if its driver does not do that.
    fn set_virtual_function_address(
        &self,
        function: Sbdf,
        mac: Option<[u8; 6]>,
        vlan: Option<u16>,
    ) -> Result<(), HostError>;

    /// Counts one more (`true`) or one less user of the function: D0, decoding on, INTx routed. `EBUSY` while a driver holds it.
    fn set_enabled(&self, function: Sbdf, enabled: bool) -> Result<(), HostError>;

    /// Says how the function's power is managed from now on.
    fn set_power_policy(&self, function: Sbdf, policy: PowerPolicy) -> Result<(), HostError>;

    /// Names of the reset methods Linux would try, in order (`flr`, `af_flr`, `pm`, `bus`, ...); empty if there is none.
    fn reset_methods(&self, function: Sbdf) -> Result<Vec<String>, HostError>;

    /// Resets the function by this one of its [methods](Self::reset_methods), and restores the configuration space it has now. Can
    /// take a minute. `ENOTTY` if there is no such method.
    fn reset(&self, function: Sbdf, method: &str) -> Result<(), HostError>;

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
