//! `probe`: an lspci of the virtual bus.

use std::io::{self, Write};

use pcifront_shim::Connection;
use pcifront_shim::guest::{self, Bar, BarKind, DiscoveredFunction};
use serde::Serialize;

use super::write_report;
use crate::Error;
use crate::bus::Bus;
use crate::cli::Probe;
use crate::config_text::short;
use crate::registers::{capability_name, capability_title};

pub fn run<C: Connection>(arguments: &Probe, bus: &mut Bus<C>, out: &mut dyn Write) -> Result<(), Error> {
    let mut functions = Vec::new();
    for address in bus.functions(&arguments.function)? {
        bus.stop.check()?;
        functions.extend(guest::examine(&mut bus.frontend, address)?);
    }
    let json: Vec<_> = functions.iter().map(FunctionJson::new).collect();
    write_report(arguments.output.as_deref(), out, arguments.json, &json, |out| {
        functions.iter().try_for_each(|function| show(function, out))
    })
}

fn show(function: &DiscoveredFunction, out: &mut dyn Write) -> io::Result<()> {
    let DiscoveredFunction { vendor, device, subsystem_vendor, subsystem, class, revision, .. } = function;
    let address = short(function.address);
    writeln!(out, "{address} {:04x}: {vendor:04x}:{device:04x} (rev {revision:02x})", class >> 8)?;
    writeln!(out, "\tClass: {class:06x}, header type {:02x}", function.header_type)?;
    writeln!(out, "\tSubsystem: {subsystem_vendor:04x}:{subsystem:04x}")?;
    writeln!(out, "\tConfiguration space: {} bytes", function.config_size)?;
    if let Some(pin) = pin(function) {
        writeln!(out, "\tInterrupt: pin {pin}, pirq {}", function.interrupt_line)?;
    }
    for bar in &function.bars {
        writeln!(out, "\t{}", describe(bar))?;
    }
    for capability in function.capabilities.iter().chain(&function.extended_capabilities) {
        let (name, title) = (capability_name(capability), capability_title(capability));
        writeln!(out, "\tCapability: [{:x}] {name}: {title}", capability.offset)?;
    }
    writeln!(out)
}

/// A to D; `None` without INTx.
fn pin(function: &DiscoveredFunction) -> Option<char> {
    function.interrupt_pin.checked_sub(1).filter(|pin| *pin < 4).map(|pin| char::from(b'A' + pin))
}

fn describe(bar: &Bar) -> String {
    let Bar { index, address, size, kind } = bar;
    let size = readable(*size);
    let prefetchable = |yes| if yes { "prefetchable" } else { "non-prefetchable" };
    match kind {
        BarKind::Io => format!("BAR {index}: I/O ports at {address:#06x}, {size}"),
        BarKind::Memory32 { prefetchable: yes } => {
            format!("BAR {index}: memory at {address:#010x}, 32-bit, {}, {size}", prefetchable(*yes))
        }
        BarKind::Memory64 { prefetchable: yes } => {
            format!("BAR {index}: memory at {address:#018x}, 64-bit, {}, {size}", prefetchable(*yes))
        }
        BarKind::ExpansionRom { enabled } => {
            let state = if *enabled { "enabled" } else { "disabled" };
            format!("Expansion ROM at {address:#010x}, {state}, {size}")
        }
    }
}

/// A size as lspci has it.
fn readable(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = UNITS.iter().find(|(shift, _)| bytes >> shift != 0 && bytes.trailing_zeros() >= *shift);
    match unit {
        Some((shift, name)) => format!("size={}{name}", bytes >> shift),
        None => format!("size={bytes}"),
    }
}

#[derive(Serialize)]
struct FunctionJson {
    address: String,
    vendor: u16,
    device: u16,
    subsystem_vendor: u16,
    subsystem: u16,
    class: u32,
    revision: u8,
    header_type: u8,
    config_size: u16,
    interrupt_pin: u8,
    interrupt_line: u8,
    bars: Vec<BarJson>,
    capabilities: Vec<CapabilityJson>,
}

#[derive(Serialize)]
struct BarJson {
    /// 0 to 5, 6 for the expansion ROM.
    index: u8,
    kind: &'static str,
    prefetchable: bool,
    address: u64,
    size: u64,
}

#[derive(Serialize)]
struct CapabilityJson {
    name: String,
    id: u16,
    offset: u16,
}

impl FunctionJson {
    fn new(function: &DiscoveredFunction) -> Self {
        let capabilities = function.capabilities.iter().chain(&function.extended_capabilities);
        Self {
            address: function.address.to_string(),
            vendor: function.vendor,
            device: function.device,
            subsystem_vendor: function.subsystem_vendor,
            subsystem: function.subsystem,
            class: function.class,
            revision: function.revision,
            header_type: function.header_type,
            config_size: function.config_size,
            interrupt_pin: function.interrupt_pin,
            interrupt_line: function.interrupt_line,
            bars: function.bars.iter().map(BarJson::new).collect(),
            capabilities: capabilities
                .map(|capability| CapabilityJson {
                    name: capability_name(capability),
                    id: capability.id,
                    offset: capability.offset,
                })
                .collect(),
        }
    }
}

impl BarJson {
    fn new(bar: &Bar) -> Self {
        let (kind, prefetchable) = match bar.kind {
            BarKind::Io => ("io", false),
            BarKind::Memory32 { prefetchable } => ("memory32", prefetchable),
            BarKind::Memory64 { prefetchable } => ("memory64", prefetchable),
            BarKind::ExpansionRom { .. } => ("expansion-rom", true),
        };
        Self { index: bar.index, kind, prefetchable, address: bar.address, size: bar.size }
    }
}
