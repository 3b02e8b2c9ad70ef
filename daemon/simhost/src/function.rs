//! One function of the simulated host: its hardware, and what Linux and Xen know of it.

use std::collections::BTreeMap;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::{HostUse, MsiVector, Pirq, PowerPolicy, VirtualFunctions};
use xenpcid_policy::{Access, Resource, Width};

use crate::device::{self, MakeVirtualFunction, Registers, SimDevice};
use crate::virtual_functions::VirtualFunctionAddress;

/// Where the MSI capability is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msi {
    pub offset: u16,
    pub is_64_bit: bool,
    pub is_maskable: bool,
}

/// Where the MSI-X capability is, and how many entries its table has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msix {
    pub offset: u16,
    pub entries: u16,
    pub table_bar: usize,
}

pub(crate) struct Function {
    pub address: Sbdf,

    // Hardware.
    pub registers: Registers,
    /// Answers; otherwise reads are all ones and writes are lost.
    pub responding: bool,
    pub msi: Option<Msi>,
    pub msix: Option<Msix>,
    /// The guest that had it last, until the next reset: what a guest leaves in a device.
    pub used_by: Option<DomainId>,

    // Linux.
    pub identity: (u16, u16),
    pub class: u32,
    pub resources: [Resource; 7],
    pub gsi: Option<u32>,
    pub native_driver: Option<String>,
    pub driver: Option<String>,
    pub driver_override: Option<String>,
    /// Users counted by `enable`.
    pub enabled: u32,
    pub power: PowerPolicy,
    pub reset_methods: Vec<String>,
    pub physical_function: Option<Sbdf>,
    pub subsystem: (u16, u16),
    pub parent: Option<Sbdf>,
    pub port: Option<String>,
    /// What dom0 does with it while its driver has it.
    pub uses: Vec<HostUse>,
    pub virtual_functions: Option<(VirtualFunctions, MakeVirtualFunction)>,
    /// What the driver was told about them.
    pub addresses: BTreeMap<Sbdf, VirtualFunctionAddress>,

    // Xen.
    pub owner: DomainId,
    pub reserved_memory: bool,
    pub prepared: bool,
    /// Interrupts mapped for it, by domain and pirq.
    pub vectors: BTreeMap<(DomainId, Pirq), MsiVector>,
    /// Whether the device has their addresses and data, which a reset clears.
    pub programmed: bool,
}

pub(crate) const COMMAND_IO: u32 = 0x0001;
pub(crate) const COMMAND_MEMORY: u32 = 0x0002;
pub(crate) const COMMAND_MASTER: u32 = 0x0004;
pub(crate) const COMMAND_INTX_DISABLE: u32 = 0x0400;
pub(crate) const MSI_ENABLE: u32 = 0x0001;
pub(crate) const MSIX_ENABLE: u32 = 0x8000;
pub(crate) const MSIX_FUNCTION_MASK: u32 = 0x4000;
const INTERRUPT_LINE: Access = Access::byte(0x3c);
const INTERRUPT_PIN: Access = Access::byte(0x3d);
const CLASS: Access = Access::dword(0x08);

impl Function {
    /// How Linux manages power before anybody says otherwise.
    pub const POWER: PowerPolicy = PowerPolicy { runtime_suspend: true, d3cold_allowed: Some(true) };

    /// The function as firmware leaves it to Linux, before any driver.
    pub(crate) fn new(device: &SimDevice) -> Self {
        let registers = device.registers();
        let capability = |id| device::conventional(&device.config).into_iter().find(|(found, _)| *found == id);
        let control = |offset: u16| registers.read(Access::word(offset + 2));
        let msi = capability(device::ID_MSI).map(|(_, offset)| Msi {
            offset,
            is_64_bit: control(offset) & 0x0080 != 0,
            is_maskable: control(offset) & 0x0100 != 0,
        });
        let msix = capability(device::ID_MSIX).map(|(_, offset)| {
            let [entries_low, entries_high, ..] = (control(offset) & 0x07ff).to_le_bytes();
            Msix {
                offset,
                entries: u16::from_le_bytes([entries_low, entries_high]) + 1,
                table_bar: usize::from(registers.read(Access::byte(offset + 4)).to_le_bytes()[0] & 0x7),
            }
        });
        Self {
            address: device.function,
            responding: true,
            msi,
            msix,
            used_by: None,
            identity: device.identity,
            class: registers.read(CLASS) >> 8,
            resources: device.resources,
            gsi: device.gsi,
            native_driver: device.driver.clone(),
            driver: None,
            driver_override: None,
            enabled: 0,
            power: Self::POWER,
            reset_methods: device.reset_methods.clone(),
            physical_function: device.physical_function,
            subsystem: {
                let word = |at: usize| u16::from_le_bytes([device.config[at], device.config[at + 1]]);
                (word(0x2c), word(0x2e))
            },
            parent: device.parent,
            port: device.port.clone(),
            uses: Vec::new(),
            virtual_functions: device.virtual_functions,
            addresses: BTreeMap::new(),
            owner: DomainId::DOM0,
            reserved_memory: device.reserved_memory,
            prepared: false,
            vectors: BTreeMap::new(),
            programmed: false,
            registers,
        }
    }

    pub(crate) fn read(&self, access: Access) -> u32 {
        if self.responding { self.registers.read(access) } else { access.width().mask() }
    }

    /// A write by dom0, which Xen sees first.
    pub(crate) fn write(&mut self, access: Access, value: u32) {
        if self.responding && self.passes_xen(access) {
            self.registers.write(access, value);
        }
    }

    /// Xen drops writes to what it programs itself, without a word: all of MSI-X but 16 bits at Message Control, and
    /// all of MSI in use with masking but 16 bits at Message Control and 32 bits at the mask.
    fn passes_xen(&self, access: Access) -> bool {
        let touches = |start: u16, length: u16| {
            access.offset() < start + length && start < access.offset() + access.width().bytes()
        };
        let is = |offset: u16, width: Width| access.offset() == offset && access.width() == width;
        if let Some(msix) = self.msix {
            if touches(msix.offset, 12) {
                return is(msix.offset + 2, Width::Word);
            }
        }
        match self.msi {
            Some(msi) if msi.is_maskable && self.vectors.values().any(|vector| *vector == MsiVector::Msi) => {
                let mask = msi.offset + if msi.is_64_bit { 16 } else { 12 };
                !touches(msi.offset, mask + 8 - msi.offset) || is(msi.offset + 2, Width::Word) || is(mask, Width::Dword)
            }
            _ => true,
        }
    }

    pub(crate) fn command(&self) -> u32 {
        self.read(Access::COMMAND)
    }

    pub(crate) fn change_command(&mut self, set: u32, clear: u32) {
        let value = self.command() & !clear | set;
        self.write(Access::COMMAND, value);
    }

    /// Message Control of MSI-X; 0 without the capability.
    pub(crate) fn msix_control(&self) -> u32 {
        self.msix.map_or(0, |msix| self.read(Access::word(msix.offset + 2)))
    }

    /// Message Control of MSI; 0 without the capability.
    pub(crate) fn msi_control(&self) -> u32 {
        self.msi.map_or(0, |msi| self.read(Access::word(msi.offset + 2)))
    }

    pub(crate) fn has_intx(&self) -> bool {
        self.read(INTERRUPT_PIN) != 0
    }

    pub(crate) fn interrupt_line(&self) -> u32 {
        self.read(INTERRUPT_LINE)
    }

    /// Decode bits that assigned resources need: what Linux switches on for an enabled function.
    pub(crate) fn decode_bits(&self) -> u32 {
        if self.physical_function.is_some() {
            return 0;
        }
        let bit = |resource: &Resource| if resource.is_io() { COMMAND_IO } else { COMMAND_MEMORY };
        // The expansion ROM has an enable bit of its own.
        self.resources[..6].iter().filter(|resource| resource.is_present()).fold(0, |bits, found| bits | bit(found))
    }

    /// Vectors that Xen counts as in use, with the one that `prepare_msix` stands for.
    pub(crate) fn msix_uses(&self) -> usize {
        let mapped = self.vectors.values().filter(|vector| matches!(vector, MsiVector::Msix { .. })).count();
        mapped + usize::from(self.prepared)
    }

    /// Puts the function into D0 as Linux does: with the addresses that it lost on the way.
    pub(crate) fn wake(&mut self) {
        let resets = self.registers.resets();
        if self.responding {
            self.registers.wake();
        }
        if self.registers.resets() == resets {
            return;
        }
        for (resource, offset) in self.resources.iter().zip((0x10..0x28).step_by(4)).filter(|(bar, _)| bar.is_present())
        {
            let [a, b, c, d, upper @ ..] = resource.start.to_le_bytes();
            self.registers.write(Access::dword(offset), u32::from_le_bytes([a, b, c, d]));
            if resource.is_64_bit() {
                self.registers.write(Access::dword(offset + 4), u32::from_le_bytes(upper));
            }
        }
    }

    /// Linux' reset: the header and Device Control kept, everything else as after power-on, and that is D0.
    pub(crate) fn reset_and_restore(&mut self) {
        let header: Vec<u32> = HEADER.iter().map(|access| self.read(*access)).collect();
        let command = self.command();
        let express = self.express_controls().into_iter().map(|access| (access, self.read(access)));
        let express: Vec<(Access, u32)> = express.collect();
        self.registers.write(Access::COMMAND, COMMAND_INTX_DISABLE);
        self.registers.reset();
        for (access, value) in HEADER.iter().zip(header) {
            self.registers.write(*access, value);
        }
        for (access, value) in express {
            self.registers.write(access, value);
        }
        self.registers.write(Access::COMMAND, command);
        // A guest that resets its own device uses it again.
        self.used_by = Some(self.owner).filter(|owner| *owner != DomainId::DOM0 && *owner != DomainId::IO);
        self.programmed = false;
    }

    /// Device Control and its successors, as far as the capability's version has them: what Linux saves and restores.
    fn express_controls(&self) -> Vec<Access> {
        let capabilities = device::conventional(&self.registers.bytes());
        let Some((_, offset)) = capabilities.into_iter().find(|(id, _)| *id == device::ID_EXPRESS) else {
            return Vec::new();
        };
        let version = self.registers.read(Access::word(offset + 2)) & 0xf;
        let registers: &[u16] = if version < 2 { &[0x08] } else { &[0x08, 0x10, 0x28, 0x30] };
        registers.iter().map(|register| Access::word(offset + register)).collect()
    }
}

/// The registers of the header that a reset clears, but for Command: Cache Line Size, BARs, ROM, Interrupt Line.
const HEADER: &[Access] = &[
    Access::byte(0x0c),
    Access::byte(0x0d),
    Access::dword(0x10),
    Access::dword(0x14),
    Access::dword(0x18),
    Access::dword(0x1c),
    Access::dword(0x20),
    Access::dword(0x24),
    Access::dword(0x30),
    INTERRUPT_LINE,
];
