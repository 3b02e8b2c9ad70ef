//! What a guest's driver does with a function that was found.

use xenpcid_address::Sbdf;

use crate::abi::MSIX_VECTORS_MAX;
use crate::blocking::{Connection, Frontend, MsixOutcome, RequestError};

use super::bars::BarKind;
use super::capabilities::ReadConfig;
use super::config::{
    COMMAND, COMMAND_BUS_MASTER, COMMAND_INTERRUPT_DISABLE, COMMAND_IO, COMMAND_MEMORY, FunctionConfig,
};
use super::{DiscoveredFunction, INTERRUPT_LINE, capabilities};

/// A driver bound to a function: the accesses that Linux makes on its behalf.
///
/// Around the MSI and MSI-X operations Linux also writes the enable bits itself, though the backend does that; a backend
/// refuses those writes or accepts them without effect, and Linux does not look.
pub struct Driver<'f, C> {
    config: FunctionConfig<'f, C>,
    function: &'f DiscoveredFunction,
}

/// Why a driver could not have what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The function has no such capability, or the backend hides it.
    #[error("{address} has no {capability} capability")]
    NoCapability {
        /// The function.
        address: Sbdf,
        /// Name of the capability.
        capability: &'static str,
    },
    /// Not a single MSI-X vector could be had.
    #[error("{address}: {wanted} MSI-X vectors asked for, none could be had")]
    NoVectors {
        /// The function.
        address: Sbdf,
        /// How many were asked for.
        wanted: u16,
    },
}

impl<'f, C: Connection> Driver<'f, C> {
    /// A driver for `function`.
    pub fn new(frontend: &'f mut Frontend<C>, function: &'f DiscoveredFunction) -> Self {
        Self { config: FunctionConfig { frontend, address: function.address }, function }
    }

    /// Brings the function to D0 and switches on decoding of the BARs that it has.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn enable(&mut self) -> Result<(), RequestError> {
        if let Some(power) = self.function.capability(capabilities::POWER_MANAGEMENT) {
            self.config.change_word(power + PM_CONTROL, PM_CONTROL_POWER_STATE, 0)?;
        }
        let decode = self.function.bars.iter().fold(0, |bits, bar| match bar.kind {
            BarKind::Io => bits | COMMAND_IO,
            BarKind::Memory32 { .. } | BarKind::Memory64 { .. } => bits | COMMAND_MEMORY,
            BarKind::ExpansionRom { .. } => bits,
        });
        self.config.change_word(COMMAND, 0, decode)?;
        Ok(())
    }

    /// Allows or forbids DMA.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn set_bus_master(&mut self, allowed: bool) -> Result<(), RequestError> {
        let (clear, set) = if allowed { (0, COMMAND_BUS_MASTER) } else { (COMMAND_BUS_MASTER, 0) };
        self.config.change_word(COMMAND, clear, set)?;
        Ok(())
    }

    /// The pirq of the function's INTx; `None` without a pin.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn intx(&mut self) -> Result<Option<u8>, RequestError> {
        match self.function.interrupt_pin {
            0 => Ok(None),
            _ => self.config.byte(INTERRUPT_LINE).map(Some),
        }
    }

    /// Enables the single MSI vector and gives its pirq.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn enable_msi(&mut self) -> Result<u32, DriverError> {
        let control = self.capability(capabilities::MSI, "MSI")? + MESSAGE_CONTROL;
        self.config.change_word(control, MSI_ENABLE, 0)?;
        let pirq = self.config.frontend.enable_msi(self.config.address)?;
        self.config.change_word(COMMAND, 0, COMMAND_INTERRUPT_DISABLE)?;
        self.config.change_word(control, 0, MSI_ENABLE)?;
        Ok(pirq)
    }

    /// Disables MSI.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn disable_msi(&mut self) -> Result<(), DriverError> {
        let control = self.capability(capabilities::MSI, "MSI")? + MESSAGE_CONTROL;
        self.disable(control, MSI_ENABLE)
    }

    /// Enables the first `wanted` vectors of the MSI-X table, or as many as there are, or as many as the backend can
    /// give, and gives their pirqs.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn enable_msix(&mut self, wanted: u16) -> Result<Vec<u16>, DriverError> {
        let capability = self.capability(capabilities::MSI_X, "MSI-X")?;
        let control = capability + MESSAGE_CONTROL;
        let table_size = (self.config.word(control)? & MSIX_TABLE_SIZE) + 1;
        let entries: Vec<u16> = (0..wanted.min(table_size)).take(MSIX_VECTORS_MAX).collect();
        self.config.change_word(control, 0, MSIX_ENABLE | MSIX_FUNCTION_MASK)?;
        self.config.dword(capability + MSIX_TABLE)?;
        match self.request_vectors(&entries, wanted) {
            Ok(vectors) => {
                self.config.change_word(COMMAND, 0, COMMAND_INTERRUPT_DISABLE)?;
                self.config.change_word(control, MSIX_FUNCTION_MASK, 0)?;
                Ok(vectors)
            }
            Err(error) => {
                self.config.change_word(control, MSIX_ENABLE | MSIX_FUNCTION_MASK, 0)?;
                Err(error)
            }
        }
    }

    /// Disables MSI-X as Linux 5.17 and newer do, which send [`DISABLE_MSI`](crate::abi::Operation::DISABLE_MSI) for it.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn disable_msix(&mut self) -> Result<(), DriverError> {
        let control = self.capability(capabilities::MSI_X, "MSI-X")? + MESSAGE_CONTROL;
        self.disable(control, MSIX_ENABLE)
    }

    fn disable(&mut self, control: u16, enable: u16) -> Result<(), DriverError> {
        self.config.change_word(control, enable, 0)?;
        self.config.change_word(COMMAND, COMMAND_INTERRUPT_DISABLE, 0)?;
        Ok(self.config.frontend.disable_msi(self.config.address)?)
    }

    /// Asks for all entries, and then for as many as the backend says there are, if those are fewer.
    fn request_vectors(&mut self, mut entries: &[u16], wanted: u16) -> Result<Vec<u16>, DriverError> {
        let address = self.config.address;
        loop {
            match self.config.frontend.enable_msix(address, entries)? {
                MsixOutcome::Enabled(vectors) => return Ok(vectors),
                MsixOutcome::Available(count) => {
                    let fewer = usize::try_from(count).ok().filter(|count| *count < entries.len());
                    entries = fewer
                        .and_then(|count| entries.get(..count))
                        .ok_or(DriverError::NoVectors { address, wanted })?;
                }
            }
        }
    }

    fn capability(&self, id: u16, capability: &'static str) -> Result<u16, DriverError> {
        let address = self.config.address;
        self.function.capability(id).ok_or(DriverError::NoCapability { address, capability })
    }
}

/// Offsets in a capability.
const PM_CONTROL: u16 = 4;
const MESSAGE_CONTROL: u16 = 2;
const MSIX_TABLE: u16 = 4;

/// Bits of Power Management Control/Status.
const PM_CONTROL_POWER_STATE: u16 = 0x3;

/// Bits of Message Control.
const MSI_ENABLE: u16 = 1 << 0;
const MSIX_TABLE_SIZE: u16 = 0x7ff;
const MSIX_FUNCTION_MASK: u16 = 1 << 14;
const MSIX_ENABLE: u16 = 1 << 15;
