//! PCI functions through sysfs (Documentation/ABI/testing/sysfs-bus-pci of Linux).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use xenpcid_address::Sbdf;
use xenpcid_policy::{Access, ConfigSize, Resource, Width};

use crate::{ConfigSpace, FunctionDescription, HostError, PciHost, PowerPolicy};

const POWER_CONTROL: &str = "power/control";
const D3COLD_ALLOWED: &str = "d3cold_allowed";

/// The sysfs tree of a host.
pub struct Sysfs {
    bus: PathBuf,
}

impl Sysfs {
    /// The tree mounted at `root`, normally `/sys`.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self { bus: root.as_ref().join("bus/pci") }
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

    fn write(&self, operation: &'static str, function: Sbdf, name: &str, text: &str) -> Result<(), HostError> {
        write(operation, &self.attribute(function, name), text)
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
        if !self.attribute(function, "").exists() {
            return Err(HostError::new(OPERATION, function, Errno::ENODEV));
        }
        let identifier = |name| {
            let number = self.read_number(OPERATION, function, name)?;
            u16::try_from(number).map_err(|_| HostError::new(OPERATION, function, Errno::EINVAL))
        };
        let mut resources = [Resource::default(); 7];
        let table = self.read(OPERATION, function, "resource")?;
        for (resource, line) in resources.iter_mut().zip(table.lines()) {
            *resource = line.parse().map_err(|_| HostError::new(OPERATION, function, Errno::EINVAL))?;
        }
        let physical_function = self.link(OPERATION, function, "physfn")?;
        let only_driver = self.read_if_present(OPERATION, function, "driver_override")?.unwrap_or_default();
        let power = PowerPolicy {
            runtime_suspend: self.read(OPERATION, function, POWER_CONTROL)?.trim() == "auto",
            d3cold_allowed: self.read_if_present(OPERATION, function, D3COLD_ALLOWED)?.map(|text| text.trim() == "1"),
        };
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

    fn reset(&self, function: Sbdf) -> Result<(), HostError> {
        match self.write("reset", function, "reset", "1") {
            Err(error) if error.errno == Errno::ENOENT => Err(HostError::new("reset", function, Errno::ENOTTY)),
            other => other,
        }
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
