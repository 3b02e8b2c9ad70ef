//! Devices of the simulated host.

mod bits;
mod bridges;
mod models;
mod registers;

use std::fmt;

use xenpcid_address::Sbdf;
use xenpcid_host::VirtualFunctions;
use xenpcid_policy::{Recording, RecordingError, Resource};

pub use bridges::Bridge;

pub(crate) use bits::{ID_EXPRESS, ID_MSI, ID_MSIX, conventional};
pub(crate) use registers::Registers;

/// The 82574L NIC of QEMU as a PV dom0 showed it: 4096 configuration bytes and sysfs' `resource`.
const E1000E: &str = include_str!("../fixtures/e1000e-82574.config.txt");

/// Makes a virtual function at an address, of a physical one, with a number.
pub(crate) type MakeVirtualFunction = fn(Sbdf, Sbdf, u8) -> SimDevice;

/// A PCI function to put into a [`World`](crate::World): its hardware, and what firmware and Linux know of it.
#[derive(Clone)]
pub struct SimDevice {
    pub(crate) function: Sbdf,
    pub(crate) config: Vec<u8>,
    pub(crate) resources: [Resource; 7],
    /// Vendor and device identifier as Linux knows them.
    pub(crate) identity: (u16, u16),
    pub(crate) driver: Option<String>,
    pub(crate) reset_methods: Vec<String>,
    pub(crate) gsi: Option<u32>,
    pub(crate) physical_function: Option<Sbdf>,
    pub(crate) parent: Option<Sbdf>,
    pub(crate) port: Option<String>,
    pub(crate) virtual_functions: Option<(VirtualFunctions, MakeVirtualFunction)>,
    pub(crate) reserved_memory: bool,
    pub(crate) vital_product_data: Vec<u8>,
}

impl SimDevice {
    /// A device from rows of 16 hexadecimal bytes (256 or 4096 in all) followed by the lines of its sysfs file `resource`.
    ///
    /// It has the reset methods that its capabilities promise, and no driver and no INTx line until they are given.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn from_recording(function: Sbdf, text: &str) -> Result<Self, RecordingError> {
        let recording = Recording::rows(text)?;
        Ok(Self::new(function, recording.config, recording.resources))
    }

    /// A device from the output of `lspci -vv -xxxx -s SBDF`, as root; otherwise as [`SimDevice::from_recording`].
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn from_lspci(text: &str) -> Result<Self, RecordingError> {
        let recording = Recording::lspci(text)?;
        let function = recording.function.ok_or(RecordingError::NoAddress)?;
        Ok(Self::new(function, recording.config, recording.resources))
    }

    fn new(function: Sbdf, config: Vec<u8>, resources: [Resource; 7]) -> Self {
        let word = |at: usize| u16::from_le_bytes([config[at], config[at + 1]]);
        Self {
            function,
            identity: (word(0), word(2)),
            reset_methods: bits::reset_methods(&config),
            config,
            resources,
            driver: None,
            gsi: None,
            physical_function: None,
            parent: None,
            port: None,
            virtual_functions: None,
            reserved_memory: false,
            vital_product_data: Vec::new(),
        }
    }

    /// An Intel 82574L NIC (8086:10d3, MSI and MSI-X), recorded in a real dom0; driver e1000e, INTx on GSI 21.
    ///
    /// # Panics
    /// Never: the recording is part of this crate.
    #[must_use]
    pub fn e1000e(function: Sbdf) -> Self {
        let Ok(device) = Self::from_recording(function, E1000E) else { unreachable!("the recording is well-formed") };
        device.with_driver("e1000e").with_gsi(21)
    }

    /// An NVMe controller (1b36:0010, class 010802, 65 MSI-X vectors, a 64-bit BAR above 4 GiB); driver nvme, GSI 22.
    #[must_use]
    pub fn nvme(function: Sbdf) -> Self {
        Self::from_model(function, models::nvme()).with_driver("nvme").with_gsi(22)
    }

    /// A conventional NIC (8086:100e) with memory and port BARs, INTx on GSI 23 only, and no reset method; driver e1000.
    #[must_use]
    pub fn e1000(function: Sbdf) -> Self {
        Self::from_model(function, models::e1000()).with_driver("e1000").with_gsi(23)
    }

    /// An Intel 82576 NIC (8086:10c9), physical function of [`SimDevice::igb_vf`]; driver igb, GSI 20.
    #[must_use]
    pub fn igb(function: Sbdf) -> Self {
        let device = Self::from_model(function, models::igb()).with_driver("igb").with_gsi(20);
        Self { virtual_functions: Some((VirtualFunctions { total: 8, enabled: 0 }, Self::igb_vf)), ..device }
    }

    /// A bridge or port, without ACS; driver pcieport for ports of PCI Express.
    #[must_use]
    pub fn bridge(function: Sbdf, kind: Bridge) -> Self {
        let device = Self::from_model(function, bridges::image(kind));
        if kind == Bridge::Conventional { device } else { device.with_driver("pcieport") }
    }

    /// Virtual function `number` of an Intel 82576 (8086:10ca, three MSI-X vectors); driver igbvf, no INTx.
    #[must_use]
    pub fn igb_vf(function: Sbdf, physical_function: Sbdf, number: u8) -> Self {
        let mut device = Self::from_model(function, models::igb_vf(number));
        device.identity = (0x8086, 0x10ca);
        device.physical_function = Some(physical_function);
        device.with_driver("igbvf")
    }

    fn from_model(function: Sbdf, image: models::Image) -> Self {
        Self::new(function, image.config, image.resources)
    }

    /// The driver that dom0 has for it, which binds when the device appears.
    #[must_use]
    pub fn with_driver(mut self, driver: &str) -> Self {
        self.driver = Some(driver.to_owned());
        self
    }

    /// No driver in dom0 knows it.
    #[must_use]
    pub fn without_driver(mut self) -> Self {
        self.driver = None;
        self
    }

    /// Other reset methods, in order; none means that it cannot be reset.
    #[must_use]
    pub fn with_reset_methods(mut self, methods: &[&str]) -> Self {
        self.reset_methods = methods.iter().map(|method| (*method).to_owned()).collect();
        self
    }

    /// The GSI of its INTx line.
    #[must_use]
    pub fn with_gsi(mut self, gsi: u32) -> Self {
        self.gsi = Some(gsi);
        self
    }

    /// Firmware reserves memory for it (RMRR, unity mapping).
    #[must_use]
    pub fn with_reserved_memory(mut self) -> Self {
        self.reserved_memory = true;
        self
    }

    /// What its Vital Product Data capability gives access to.
    #[must_use]
    pub fn with_vital_product_data(mut self, data: &[u8]) -> Self {
        self.vital_product_data = data.to_vec();
        self
    }

    /// Behind this bridge.
    #[must_use]
    pub fn behind(mut self, bridge: Sbdf) -> Self {
        self.parent = Some(bridge);
        self
    }

    /// What firmware calls its place.
    #[must_use]
    pub fn with_port(mut self, port: &str) -> Self {
        self.port = Some(port.to_owned());
        self
    }

    /// One of several functions of its device (PCI Local Bus Specification 6.2.1).
    #[must_use]
    pub fn multifunction(mut self) -> Self {
        self.config[0x0e] |= 0x80;
        self
    }

    /// With Access Control Services, all of them on (PCI Express Base Specification 7.7.11).
    ///
    /// # Panics
    /// If its configuration space has no room for another extended capability.
    #[must_use]
    pub fn with_access_control(mut self) -> Self {
        const ACCESS_CONTROL: u16 = 0x000d;
        /// All services but Egress Control and Direct Translated P2P.
        const SERVICES: u16 = 0x001f;
        const PLACE: u16 = 0xf00;
        assert_eq!(self.config.len(), 4096, "only PCI Express devices have extended capabilities");
        if let Some((_, last)) = bits::extended(&self.config).last() {
            let at = usize::from(*last) + 2;
            let version = self.config[at] & 0xf;
            self.config[at..at + 2].copy_from_slice(&(PLACE << 4 | u16::from(version)).to_le_bytes());
        }
        let place = if self.config[0x100..0x104] == [0; 4] { 0x100 } else { usize::from(PLACE) };
        for (at, word) in [ACCESS_CONTROL, 1, SERVICES, SERVICES].into_iter().enumerate() {
            self.config[place + 2 * at..place + 2 * at + 2].copy_from_slice(&word.to_le_bytes());
        }
        self
    }

    /// Changes recorded configuration bytes, for a device that is broken or odd.
    ///
    /// # Panics
    /// If the bytes do not fit into the space.
    #[must_use]
    pub fn with_config(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.config[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn registers(&self) -> Registers {
        bits::registers(&bits::Image {
            config: &self.config,
            resources: &self.resources,
            is_virtual_function: self.physical_function.is_some(),
            vital_product_data: &self.vital_product_data,
        })
    }
}

impl fmt::Debug for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, device) = self.identity;
        write!(f, "SimDevice({} [{vendor:04x}:{device:04x}])", self.function)
    }
}
