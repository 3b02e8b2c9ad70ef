//! What a Linux 6.1 PV guest does with its pcifront: look for functions, read what each one has, and what its drivers
//! do next ([`Driver`]).
//!
//! The accesses and their order are those that were recorded from such a guest, as far as an answer can depend on them;
//! what Linux repeats, and what it tunes (payload sizes, error reporting), is left out. Register names and meanings:
//! PCI Local Bus Specification 3.0 chapter 6, PCI Express Base Specification chapter 7.

mod bars;
mod capabilities;
mod config;
mod driver;

use xenpcid_address::Sbdf;

use crate::blocking::{Connection, Frontend, RequestError};
use crate::request::Width;

pub use bars::{Bar, BarKind};
pub use capabilities::{Capability, capabilities_of};
pub use driver::{Driver, DriverError};

use capabilities::ReadConfig;
use config::{COMMAND, FunctionConfig};

/// A function that answered, and what its configuration space says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredFunction {
    /// Address on the virtual bus.
    pub address: Sbdf,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Base class, sub-class and programming interface, 24 bits.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Header type with the multi-function bit (0x80).
    pub header_type: u8,
    /// Bytes of configuration space: 256 or 4096.
    pub config_size: u16,
    /// BARs that are implemented, and the expansion ROM.
    pub bars: Vec<Bar>,
    /// Capabilities below 0x100, in the order of their list.
    pub capabilities: Vec<Capability>,
    /// Extended capabilities, in the order of their list.
    pub extended_capabilities: Vec<Capability>,
    /// INTx pin: 0 for none, 1 for INTA#.
    pub interrupt_pin: u8,
    /// What the interrupt line register says; under Xen the pirq of the INTx. 0 without a pin.
    pub interrupt_line: u8,
}

impl DiscoveredFunction {
    /// Where the capability with this ID is, if the function has it.
    #[must_use]
    pub fn capability(&self, id: u16) -> Option<u16> {
        self.capabilities.iter().find(|capability| capability.id == id).map(|capability| capability.offset)
    }
}

/// Looks at all 256 device and function numbers of a bus and reads the configuration of each function that answers.
///
/// # Errors
/// The backend does not answer, or the event channel failed. That the backend refuses an access is no error: Linux takes
/// all ones for the value and goes on.
pub fn enumerate<C: Connection>(
    frontend: &mut Frontend<C>,
    segment: u16,
    bus: u8,
) -> Result<Vec<DiscoveredFunction>, RequestError> {
    let mut functions = Vec::new();
    for devfn in 0..=u8::MAX {
        functions.extend(examine(frontend, Sbdf::from_devfn(segment, bus, devfn))?);
    }
    Ok(functions)
}

/// Reads the configuration of one function; `None` if none answers at this address.
///
/// # Errors
/// As [`enumerate`].
pub fn examine<C: Connection>(
    frontend: &mut Frontend<C>,
    address: Sbdf,
) -> Result<Option<DiscoveredFunction>, RequestError> {
    let mut config = FunctionConfig { frontend, address };
    match identify(&mut config)? {
        Some((vendor, device)) => discover(&mut config, vendor, device).map(Some),
        None => Ok(None),
    }
}

/// Whether a function answers at this address. One read.
///
/// # Errors
/// As [`enumerate`].
pub fn is_present<C: Connection>(frontend: &mut Frontend<C>, address: Sbdf) -> Result<bool, RequestError> {
    Ok(identify(&mut FunctionConfig { frontend, address })?.is_some())
}

/// Bytes of configuration space that answer, 256 or 4096. Only reads.
///
/// # Errors
/// As [`enumerate`].
pub fn config_size<C: Connection>(frontend: &mut Frontend<C>, address: Sbdf) -> Result<u16, RequestError> {
    size_of_config(&mut FunctionConfig { frontend, address })
}

/// Vendor and device ID, or `None` if nothing is there.
fn identify<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<Option<(u16, u16)>, RequestError> {
    let [low, high, device @ ..] = config.dword(VENDOR_ID)?.to_le_bytes();
    let vendor = u16::from_le_bytes([low, high]);
    Ok((vendor != 0 && vendor != 0xffff).then_some((vendor, u16::from_le_bytes(device))))
}

fn discover<C: Connection>(
    config: &mut FunctionConfig<'_, C>,
    vendor: u16,
    device: u16,
) -> Result<DiscoveredFunction, RequestError> {
    let header_type = config.byte(HEADER_TYPE)?;
    let express = capabilities::find(config, capabilities::PCI_EXPRESS)?;
    if let Some(express) = express {
        config.word(express + 2)?; // PCI Express Capabilities: the port type.
        config.dword(express + 4)?; // Device Capabilities: the payload size.
    }
    let [revision, class @ ..] = config.dword(REVISION_ID)?.to_le_bytes();
    let [interface, sub_class, base_class] = class;
    let config_size = match express {
        Some(_) => size_of_config(config)?,
        None => 256,
    };
    if config_size > 256 {
        capabilities::extended(config)?; // Linux looks for a vendor-specific one, to know Thunderbolt ports.
    }
    toggle_interrupt_disable(config)?;
    let interrupt_pin = config.byte(INTERRUPT_PIN)?;
    let interrupt_line = if interrupt_pin == 0 { 0 } else { config.byte(INTERRUPT_LINE)? };
    let bars = if header_type & HEADER_TYPE_LAYOUT == 0 { bars::size_all(config)? } else { Vec::new() };
    let subsystem_vendor = config.word(SUBSYSTEM_VENDOR_ID)?;
    let subsystem = config.word(SUBSYSTEM_ID)?;
    let extended_capabilities = if config_size > 256 { capabilities::extended(config)? } else { Vec::new() };
    Ok(DiscoveredFunction {
        address: config.address,
        vendor,
        device,
        subsystem_vendor,
        subsystem,
        class: u32::from_be_bytes([0, base_class, sub_class, interface]),
        revision,
        header_type,
        config_size,
        bars,
        capabilities: capabilities::standard(config)?,
        extended_capabilities,
        interrupt_pin,
        interrupt_line,
    })
}

/// Whether there is configuration space above 255: it answers, and is not the space below it once more.
fn size_of_config<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<u16, RequestError> {
    if config.dword(capabilities::EXTENDED_START)? == Width::Dword.all_ones() {
        return Ok(256);
    }
    let first = config.dword(VENDOR_ID)?;
    let aliased = config.dword(capabilities::EXTENDED_START)? == first;
    Ok(if aliased { 256 } else { 4096 })
}

/// Finds out whether the Interrupt Disable bit of the Command register can be changed.
fn toggle_interrupt_disable<C: Connection>(config: &mut FunctionConfig<'_, C>) -> Result<(), RequestError> {
    let command = config.word(COMMAND)?;
    let toggled = command ^ config::COMMAND_INTERRUPT_DISABLE;
    config.set_word(COMMAND, toggled)?;
    if config.word(COMMAND)? == toggled {
        config.set_word(COMMAND, command)?;
    }
    Ok(())
}

const VENDOR_ID: u16 = 0x00;
const REVISION_ID: u16 = 0x08;
const HEADER_TYPE: u16 = 0x0e;
/// The bits of the header type that are not the multi-function bit.
const HEADER_TYPE_LAYOUT: u8 = 0x7f;
const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
const SUBSYSTEM_ID: u16 = 0x2e;
const INTERRUPT_LINE: u16 = 0x3c;
const INTERRUPT_PIN: u16 = 0x3d;
