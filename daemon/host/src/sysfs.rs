//! PCI functions through sysfs (Documentation/ABI/testing/sysfs-bus-pci of Linux).

mod place;
mod reserved_memory;
mod uses;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use xenpcid_address::Sbdf;
use xenpcid_policy::{Access, ConfigSize, Resource, Width};

use crate::{
    ConfigSpace, FunctionDescription, HostError, HostUse, PciHost, PowerPolicy, VirtualFunctions, virtual_function,
};

const POWER_CONTROL: &str = "power/control";
const D3COLD_ALLOWED: &str = "d3cold_allowed";

const PHYSICAL_FUNCTION: &str = "physfn";
const TOTAL_VIRTUAL_FUNCTIONS: &str = "sriov_totalvfs";
const VIRTUAL_FUNCTIONS: &str = "sriov_numvfs";

/// The sysfs tree of a host, and its procfs.
pub struct Sysfs {
    root: PathBuf,
    bus: PathBuf,
    processes: PathBuf,
}

impl Sysfs {
    /// The tree mounted at `root`, normally `/sys`, with the procfs of `/proc`.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self::with_processes(root, "/proc")
    }

    /// The tree mounted at `root`, with the procfs mounted at `processes`.
    #[must_use]
    pub fn with_processes(root: impl AsRef<Path>, processes: impl AsRef<Path>) -> Self {
        let root = root.as_ref();
        Self { root: root.to_owned(), bus: root.join("bus/pci"), processes: processes.as_ref().to_owned() }
    }

    /// A file of the first process, whose view is dom0's; or of this one, which may have one of its own.
    fn of_process(&self, name: &str) -> String {
        let read = |process: &str| std::fs::read_to_string(self.processes.join(process).join(name));
        read("1").or_else(|_| read("self")).unwrap_or_default()
    }

    /// The function's folder without links in it; `ENODEV` if the host does not have the function.
    fn folder(&self, operation: &'static str, function: Sbdf) -> Result<PathBuf, HostError> {
        std::fs::canonicalize(self.attribute(function, ""))
            .map_err(|_| HostError::new(operation, function, Errno::ENODEV))
    }

    fn attribute(&self, function: Sbdf, name: &str) -> PathBuf {
        self.bus.join("devices").join(function.to_string()).join(name)
    }

    fn read(&self, operation: &'static str, function: Sbdf, name: &str) -> Result<String, HostError> {
        let path = self.attribute(function, name);
        std::fs::read_to_string(&path).map_err(|error| HostError::from_io(operation, path.display(), &error))
    }

    /// As `read`, of an attribute that not every Linux or every function has.
    fn read_if_present(
        &self,
        operation: &'static str,
        function: Sbdf,
        name: &str,
    ) -> Result<Option<String>, HostError> {
        match self.read(operation, function, name) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_number(&self, operation: &'static str, function: Sbdf, name: &str) -> Result<u32, HostError> {
        let text = self.read(operation, function, name)?;
        let text = text.trim();
        let number = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map_err(|_| HostError::new(operation, self.attribute(function, name).display(), Errno::EINVAL))
    }

    fn read_number_if_present(
        &self,
        operation: &'static str,
        function: Sbdf,
        name: &str,
    ) -> Result<Option<u16>, HostError> {
        let invalid = || HostError::new(operation, self.attribute(function, name).display(), Errno::EINVAL);
        let text = self.read_if_present(operation, function, name)?;
        text.map(|text| text.trim().parse().map_err(|_| invalid())).transpose()
    }

    fn write(&self, operation: &'static str, function: Sbdf, name: &str, text: &str) -> Result<(), HostError> {
        write(operation, &self.attribute(function, name), text)
    }

    /// The physical function of a virtual one, and which of its virtual functions it is.
    fn physical_function(&self, operation: &'static str, function: Sbdf) -> Result<Option<(Sbdf, u16)>, HostError> {
        let physical = self.link(operation, function, PHYSICAL_FUNCTION)?;
        let Some(physical) = physical.and_then(|name| name.parse().ok()) else { return Ok(None) };
        let name = function.to_string();
        for index in 0..=u16::MAX {
            match self.link(operation, physical, &format!("virtfn{index}"))? {
                Some(found) if found == name => return Ok(Some((physical, index))),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// The name that a link of the function points to.
    fn link(&self, operation: &'static str, function: Sbdf, name: &str) -> Result<Option<String>, HostError> {
        let path = self.attribute(function, name);
        match std::fs::read_link(&path) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HostError::from_io(operation, path.display(), &error)),
        }
    }
}

/// A write of one attribute in one system call, which is how sysfs takes them.
fn write(operation: &'static str, path: &Path, text: &str) -> Result<(), HostError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| HostError::from_io(operation, path.display(), &error))
}

impl PciHost for Sysfs {
    fn functions(&self) -> Result<Vec<Sbdf>, HostError> {
        let path = self.bus.join("devices");
        let failed = |error: &std::io::Error| HostError::from_io("functions", path.display(), error);
        let mut functions = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(|e| failed(&e))? {
            let name = entry.map_err(|e| failed(&e))?.file_name();
            // Other names there are aliases of segments Linux invents (VMD), which Xen does not know.
            functions.extend(name.to_str().and_then(|name| name.parse::<Sbdf>().ok()));
        }
        functions.sort_unstable();
        Ok(functions)
    }

    fn describe(&self, function: Sbdf) -> Result<FunctionDescription, HostError> {
        const OPERATION: &str = "describe";
        let folder = self.folder(OPERATION, function)?;
        let identifier = |name| {
            let number = self.read_number(OPERATION, function, name)?;
            u16::try_from(number).map_err(|_| HostError::new(OPERATION, function, Errno::EINVAL))
        };
        let mut resources = [Resource::default(); 7];
        let table = self.read(OPERATION, function, "resource")?;
        for (resource, line) in resources.iter_mut().zip(table.lines()) {
            *resource = line.parse().map_err(|_| HostError::new(OPERATION, function, Errno::EINVAL))?;
        }
        let physical_function = self.link(OPERATION, function, PHYSICAL_FUNCTION)?;
        let only_driver = self.read_if_present(OPERATION, function, "driver_override")?.unwrap_or_default();
        let power = PowerPolicy {
            runtime_suspend: self.read(OPERATION, function, POWER_CONTROL)?.trim() == "auto",
            d3cold_allowed: self.read_if_present(OPERATION, function, D3COLD_ALLOWED)?.map(|text| text.trim() == "1"),
        };
        let total = self.read_number_if_present(OPERATION, function, TOTAL_VIRTUAL_FUNCTIONS)?;
        let enabled = self.read_number_if_present(OPERATION, function, VIRTUAL_FUNCTIONS)?;
        let (parent, path) = place::position(&folder);
        Ok(FunctionDescription {
            vendor: identifier("vendor")?,
            device: identifier("device")?,
            class: self.read_number(OPERATION, function, "class")?,
            driver: self.link(OPERATION, function, "driver")?,
            resources,
            interrupt: self.read_number(OPERATION, function, "irq")?,
            // How Linux shows that there is none.
            driver_override: Some(only_driver.trim().to_owned()).filter(|name| !name.is_empty() && name != "(null)"),
            power,
            physical_function: physical_function.and_then(|name| name.parse().ok()),
            subsystem: (identifier("subsystem_vendor")?, identifier("subsystem_device")?),
            parent,
            path,
            virtual_functions: total
                .filter(|total| *total > 0)
                .map(|total| VirtualFunctions { total, enabled: enabled.unwrap_or(0) }),
            driver_path: std::fs::canonicalize(self.attribute(function, "driver")).ok(),
        })
    }

    fn set_driver_override(&self, function: Sbdf, driver: Option<&str>) -> Result<(), HostError> {
        // An empty line is how the override is taken away.
        self.write("set_driver_override", function, "driver_override", driver.unwrap_or("\n"))
    }

    fn unbind(&self, function: Sbdf) -> Result<(), HostError> {
        if self.link("unbind", function, "driver")?.is_none() {
            return Ok(());
        }
        self.write("unbind", function, "driver/unbind", &function.to_string())
    }

    fn probe(&self, function: Sbdf) -> Result<(), HostError> {
        write("probe", &self.bus.join("drivers_probe"), &function.to_string())
    }

    fn bind(&self, function: Sbdf, driver: &str) -> Result<(), HostError> {
        write("bind", &self.bus.join("drivers").join(driver).join("bind"), &function.to_string())
    }

    fn uses(&self, function: Sbdf) -> Result<Vec<HostUse>, HostError> {
        Ok(uses::uses(self, &self.folder("uses", function)?))
    }

    fn port(&self, function: Sbdf) -> Result<Option<String>, HostError> {
        self.folder("port", function)?;
        Ok(place::port(self, function))
    }

    fn reserved_memory(&self, function: Sbdf) -> Result<bool, HostError> {
        let folder = self.folder("reserved_memory", function)?;
        let tables = self.root.join("firmware/acpi/tables");
        // Xen changes the signature, so that dom0 does not use the IOMMU itself.
        let table = ["DMAR", "RMAD"].iter().find_map(|name| std::fs::read(tables.join(name)).ok());
        Ok(table.is_some_and(|table| reserved_memory::reserves(&table, &folder)))
    }

    fn set_virtual_functions(&self, physical: Sbdf, count: u16) -> Result<(), HostError> {
        const OPERATION: &str = "set_virtual_functions";
        let now = self.read_number_if_present(OPERATION, physical, VIRTUAL_FUNCTIONS)?;
        let now = now.ok_or_else(|| HostError::new(OPERATION, physical, Errno::EOPNOTSUPP))?;
        if now == count {
            return Ok(());
        }
        // Before Linux 4.12 there was no such file, and drivers of dom0 took them.
        match self.write(OPERATION, physical, "sriov_drivers_autoprobe", "0") {
            Err(error) if error.errno == Errno::ENOENT => {}
            other => other?,
        }
        // Linux changes the number from and to 0 only.
        if now != 0 && count != 0 {
            self.write(OPERATION, physical, VIRTUAL_FUNCTIONS, "0")?;
        }
        self.write(OPERATION, physical, VIRTUAL_FUNCTIONS, &count.to_string())
    }

    fn set_virtual_function_address(
        &self,
        function: Sbdf,
        mac: Option<[u8; 6]>,
        vlan: Option<u16>,
    ) -> Result<(), HostError> {
        const OPERATION: &str = "set_virtual_function_address";
        let found = self.physical_function(OPERATION, function)?;
        let (physical, index) = found.ok_or_else(|| HostError::new(OPERATION, function, Errno::EINVAL))?;
        let failed = |errno| HostError::new(OPERATION, format_args!("virtual function {index} of {physical}"), errno);
        let interfaces = std::fs::read_dir(self.attribute(physical, "net")).map_err(|_| failed(Errno::ENODEV))?;
        let names = interfaces.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        // A function with several ports has its virtual functions at the first.
        let name = names.min().ok_or_else(|| failed(Errno::ENODEV))?;
        let interface = self.read_number(OPERATION, physical, &format!("net/{name}/ifindex"))?;
        virtual_function::set_address(interface, index, mac, vlan).map_err(failed)
    }

    fn set_enabled(&self, function: Sbdf, enabled: bool) -> Result<(), HostError> {
        self.write("set_enabled", function, "enable", if enabled { "1" } else { "0" })
    }

    fn set_power_policy(&self, function: Sbdf, policy: PowerPolicy) -> Result<(), HostError> {
        const OPERATION: &str = "set_power_policy";
        self.write(OPERATION, function, POWER_CONTROL, if policy.runtime_suspend { "auto" } else { "on" })?;
        match policy.d3cold_allowed {
            Some(allowed) => self.write(OPERATION, function, D3COLD_ALLOWED, if allowed { "1" } else { "0" }),
            None => Ok(()),
        }
    }

    fn reset_methods(&self, function: Sbdf) -> Result<Vec<String>, HostError> {
        let methods = self.read_if_present("reset_methods", function, "reset_method")?.unwrap_or_default();
        Ok(methods.split_whitespace().map(str::to_owned).collect())
    }

    fn reset(&self, function: Sbdf, method: &str) -> Result<(), HostError> {
        let methods = self.reset_methods(function)?;
        if !methods.iter().any(|known| known == method) {
            return Err(HostError::new("reset", function, Errno::ENOTTY));
        }
        // Linux tries all methods that are chosen, and does not tell which one it was.
        self.write("reset", function, "reset_method", method).map_err(|error| match error.errno {
            // Its list is from before it had found the other functions, which a reset of the bus would reset, too.
            Errno::EINVAL => HostError::new("reset", function, Errno::ENOTTY),
            _ => error,
        })?;
        let reset = self.write("reset", function, "reset", "1");
        let chosen = self.write("reset", function, "reset_method", &methods.join(" "));
        // That list cannot be written back, and this chooses what of it there really is.
        let chosen = chosen.or_else(|_| self.write("reset", function, "reset_method", "default"));
        reset.and(chosen)
    }

    fn open_config(&self, function: Sbdf) -> Result<Arc<dyn ConfigSpace>, HostError> {
        let path = self.attribute(function, "config");
        let failed = |error: &std::io::Error| HostError::from_io("open_config", path.display(), error);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| failed(&e))?;
        let length = file.metadata().map_err(|e| failed(&e))?.len();
        let size = usize::try_from(length)
            .ok()
            .and_then(ConfigSize::from_len)
            .ok_or_else(|| HostError::new("open_config", path.display(), Errno::EINVAL))?;
        Ok(Arc::new(ConfigFile { file, size, function }))
    }
}

/// The `config` attribute, held open so that an access is one system call.
struct ConfigFile {
    file: File,
    size: ConfigSize,
    function: Sbdf,
}

impl ConfigFile {
    fn error(&self, operation: &'static str, access: Access, error: &std::io::Error) -> HostError {
        HostError::from_io(operation, format_args!("{} offset {:#x}", self.function, access.offset()), error)
    }
}

impl ConfigSpace for ConfigFile {
    fn size(&self) -> ConfigSize {
        self.size
    }

    fn read(&self, access: Access) -> Result<u32, HostError> {
        let failed = |error: std::io::Error| self.error("read_config", access, &error);
        let offset = u64::from(access.offset());
        // PCI is little-endian on the wire of this file whatever the host is.
        match access.width() {
            Width::Byte => {
                let mut bytes = [0; 1];
                self.file.read_exact_at(&mut bytes, offset).map_err(failed)?;
                Ok(u32::from(u8::from_le_bytes(bytes)))
            }
            Width::Word => {
                let mut bytes = [0; 2];
                self.file.read_exact_at(&mut bytes, offset).map_err(failed)?;
                Ok(u32::from(u16::from_le_bytes(bytes)))
            }
            Width::Dword => {
                let mut bytes = [0; 4];
                self.file.read_exact_at(&mut bytes, offset).map_err(failed)?;
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }

    fn write(&self, access: Access, value: u32) -> Result<(), HostError> {
        let bytes = value.to_le_bytes();
        let (bytes, _) = bytes.split_at(usize::from(access.width().bytes()));
        self.file
            .write_all_at(bytes, u64::from(access.offset()))
            .map_err(|error| self.error("write_config", access, &error))
    }
}
