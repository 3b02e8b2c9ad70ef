//! Which configuration bits of a function software can change: the PCI specifications as a table.
//!
//! What is not in the table is read-only, as a register of a capability that this crate does not know.

use xenpcid_policy::Resource;

use super::registers::{Behaviour, Cell, NO_SOFT_RESET, PowerManagement, Registers, VitalProductData};

/// The changeable bits of one register.
struct Bits {
    /// From the start of the capability, or of the header.
    offset: u16,
    /// Bits that keep what is written.
    writable: u32,
    /// Bits that a written 1 clears.
    cleared_by_one: u32,
    /// The writable bits after a reset.
    reset: u32,
    /// Whether a reset of the function leaves the register alone.
    sticky: bool,
}

const PLAIN: Bits = Bits { offset: 0, writable: 0, cleared_by_one: 0, reset: 0, sticky: false };

/// PCI Local Bus Specification 6.2: Status, Cache Line Size, Interrupt Line.
const HEADER: &[Bits] = &[
    Bits { offset: 0x06, cleared_by_one: 0xf900, ..PLAIN },
    Bits { offset: 0x0c, writable: 0xff, ..PLAIN },
    Bits { offset: 0x3c, writable: 0xff, ..PLAIN },
];
/// Latency Timer, which PCI Express functions do not have.
const LATENCY_TIMER: Bits = Bits { offset: 0x0d, writable: 0xff, ..PLAIN };
const COMMAND: u16 = 0x04;
const COMMAND_IO: u32 = 0x0001;
const COMMAND_MEMORY: u32 = 0x0002;
const COMMAND_MASTER: u32 = 0x0004;
const COMMAND_INVALIDATE: u32 = 0x0010;
/// Parity Error Response and SERR# Enable.
const COMMAND_ERRORS: u32 = 0x0140;
const COMMAND_INTX_DISABLE: u32 = 0x0400;

/// PCI Bus Power Management Interface Specification 3.2.4: PowerState, PME_En, PME_Status.
const POWER_MANAGEMENT: &[Bits] = &[Bits { offset: 4, writable: 0x0103, cleared_by_one: 0x8000, ..PLAIN }];
/// PCI Local Bus Specification appendix I: address with F, data.
const VITAL_PRODUCT_DATA: &[Bits] =
    &[Bits { offset: 2, writable: 0xffff, ..PLAIN }, Bits { offset: 4, writable: u32::MAX, ..PLAIN }];
/// PCI Local Bus Specification 6.8.2: MSI-X Enable, Function Mask.
const MSIX: &[Bits] = &[Bits { offset: 2, writable: 0xc000, ..PLAIN }];
/// PCI Express Base Specification 7.5.3: Device Control and Device Status; the rest depends on version and type.
const EXPRESS: &[Bits] = &[
    Bits { offset: 0x08, writable: 0x7fff, reset: 0x2810, ..PLAIN },
    Bits { offset: 0x0a, cleared_by_one: 0x000f, ..PLAIN },
];
/// Link Control, of functions that have a link.
const EXPRESS_LINK_CONTROL: Bits = Bits { offset: 0x10, writable: 0x01cb, ..PLAIN };
/// Device Control 2, of version 2 of the capability.
const EXPRESS_DEVICE_CONTROL_2: Bits = Bits { offset: 0x28, writable: 0x675f, ..PLAIN };
/// PCI Express Base Specification 7.8.4: Advanced Error Reporting.
const ADVANCED_ERROR_REPORTING: &[Bits] = &[
    Bits { offset: 0x04, cleared_by_one: 0x07ff_f030, sticky: true, ..PLAIN },
    Bits { offset: 0x08, writable: 0x07ff_f030, sticky: true, ..PLAIN },
    Bits { offset: 0x0c, writable: 0x07ff_f030, sticky: true, ..PLAIN },
    Bits { offset: 0x10, cleared_by_one: 0xf1c1, sticky: true, ..PLAIN },
    Bits { offset: 0x14, writable: 0xf1c1, sticky: true, ..PLAIN },
    Bits { offset: 0x18, writable: 0x0140, sticky: true, ..PLAIN },
];

const ID_POWER_MANAGEMENT: u8 = 0x01;
const ID_VITAL_PRODUCT_DATA: u8 = 0x03;
pub(crate) const ID_MSI: u8 = 0x05;
pub(crate) const ID_EXPRESS: u8 = 0x10;
pub(crate) const ID_MSIX: u8 = 0x11;
const ID_ADVANCED_FEATURES: u8 = 0x13;
const ID_EXTENDED_AER: u16 = 0x0001;

/// What is known of a function before its registers are made.
pub(super) struct Image<'a> {
    /// Configuration bytes as they are now.
    pub config: &'a [u8],
    /// BARs and expansion ROM.
    pub resources: &'a [Resource; 7],
    /// A virtual function has no BARs and no decode bits of its own (SR-IOV Specification 3.4.1).
    pub is_virtual_function: bool,
    /// What its Vital Product Data capability gives access to.
    pub vital_product_data: &'a [u8],
}

/// Registers that behave as a function with these bytes does.
pub(super) fn registers(image: &Image<'_>) -> Registers {
    let cells = image.config.iter().map(|byte| Cell { value: *byte, reset: *byte, ..Cell::default() }).collect();
    let mut build = Build { cells, behaviour: Behaviour::default() };
    let capabilities = conventional(image.config);
    let is_express = capabilities.iter().any(|(id, _)| *id == ID_EXPRESS);
    build.all(0, HEADER);
    build.command(image, is_express);
    if !is_express {
        build.bits(0, &LATENCY_TIMER);
    }
    if !image.is_virtual_function {
        build.base_addresses(image.resources);
    }
    for (id, at) in capabilities {
        build.capability(id, at, image);
    }
    for (id, at) in extended(image.config) {
        if id == ID_EXTENDED_AER {
            build.all(at, ADVANCED_ERROR_REPORTING);
        }
    }
    Registers::new(build.cells, build.behaviour)
}

struct Build {
    cells: Vec<Cell>,
    behaviour: Behaviour,
}

impl Build {
    fn all(&mut self, base: u16, registers: &[Bits]) {
        for bits in registers {
            self.bits(base, bits);
        }
    }

    fn bits(&mut self, base: u16, bits: &Bits) {
        let lanes = bits.writable.to_le_bytes().into_iter().zip(bits.cleared_by_one.to_le_bytes());
        for (lane, ((writable, cleared_by_one), reset)) in lanes.zip(bits.reset.to_le_bytes()).enumerate() {
            let changeable = writable | cleared_by_one;
            let Some(cell) = self.cells.get_mut(usize::from(base + bits.offset) + lane) else { continue };
            if changeable != 0 {
                cell.writable |= writable;
                cell.cleared_by_one |= cleared_by_one;
                cell.reset = cell.reset & !changeable | reset & writable;
                cell.sticky |= if bits.sticky { changeable } else { 0 };
            }
        }
    }

    fn command(&mut self, image: &Image<'_>, is_express: bool) {
        let mut writable = COMMAND_MASTER;
        if !image.is_virtual_function {
            let has = |io| image.resources.iter().any(|resource| resource.is_present() && resource.is_io() == io);
            writable |= COMMAND_ERRORS;
            writable |= if has(true) { COMMAND_IO } else { 0 };
            writable |= if has(false) { COMMAND_MEMORY } else { 0 };
            writable |= if image.config[0x3d] != 0 { COMMAND_INTX_DISABLE } else { 0 };
            writable |= if is_express { 0 } else { COMMAND_INVALIDATE };
        }
        self.bits(0, &Bits { offset: COMMAND, writable, ..PLAIN });
    }

    /// A BAR keeps the address bits above its size, which is how software finds the size (PCI Local Bus Specification
    /// 6.2.5.1); an expansion ROM also has its enable bit (6.2.5.2).
    fn base_addresses(&mut self, resources: &[Resource; 7]) {
        const OFFSETS: [u16; 7] = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30];
        const ROM: u16 = 0x30;
        for (resource, offset) in resources.iter().zip(OFFSETS) {
            if !resource.is_present() {
                continue;
            }
            let type_bits = if resource.is_io() { 0x3 } else { 0xf };
            let address = !(resource.size() - 1);
            let [low, high] = halves(address);
            let low = if offset == ROM { low & 0xffff_f800 | 1 } else { low & !type_bits };
            self.bits(0, &Bits { offset, writable: low, ..PLAIN });
            if resource.is_64_bit() {
                self.bits(0, &Bits { offset: offset + 4, writable: high, ..PLAIN });
            }
        }
    }

    fn capability(&mut self, id: u8, at: u16, image: &Image<'_>) {
        // A capability of a broken device may reach beyond the space, where everything reads as ones.
        let byte = |offset: u16| image.config.get(usize::from(at + offset)).copied().unwrap_or(0xff);
        let word = |offset: u16| u16::from_le_bytes([byte(offset), byte(offset + 1)]);
        match id {
            ID_POWER_MANAGEMENT => {
                self.all(at, POWER_MANAGEMENT);
                let capabilities = word(2);
                let states = [true, capabilities & 0x0200 != 0, capabilities & 0x0400 != 0, true];
                self.behaviour.power = Some(PowerManagement { status: at + 4, states });
            }
            ID_VITAL_PRODUCT_DATA => {
                self.all(at, VITAL_PRODUCT_DATA);
                let storage = image.vital_product_data.to_vec();
                self.behaviour.vital_product_data = Some(VitalProductData { capability: at, storage });
            }
            ID_MSI => self.message_signalled_interrupts(at, word(2)),
            ID_MSIX => self.all(at, MSIX),
            ID_EXPRESS => {
                self.all(at, EXPRESS);
                let capabilities = word(2);
                let (version, kind) = (capabilities & 0xf, capabilities >> 4 & 0xf);
                // Types 0 and 1 are endpoints with a link; an endpoint inside a root complex has none.
                if kind <= 1 {
                    self.bits(at, &EXPRESS_LINK_CONTROL);
                }
                if version >= 2 {
                    self.bits(at, &EXPRESS_DEVICE_CONTROL_2);
                }
                // Function Level Reset Capability, bit 28 of Device Capabilities; Initiate FLR, bit 15 of Device Control.
                if word(6) & 0x1000 != 0 {
                    self.behaviour.reset_triggers.push((at + 9, 0x80));
                }
            }
            // PCI Advanced Capabilities ECN: FLR capability, Initiate FLR.
            ID_ADVANCED_FEATURES if byte(3) & 0x02 != 0 => {
                self.behaviour.reset_triggers.push((at + 4, 0x01));
            }
            _ => {}
        }
    }

    /// PCI Local Bus Specification 6.8.1: layout by the 64-bit and per-vector masking bits.
    fn message_signalled_interrupts(&mut self, at: u16, control: u16) {
        let is_64_bit = control & 0x0080 != 0;
        let data = if is_64_bit { 12 } else { 8 };
        self.bits(at, &Bits { offset: 2, writable: 0x0071, ..PLAIN });
        self.bits(at, &Bits { offset: 4, writable: 0xffff_fffc, ..PLAIN });
        if is_64_bit {
            self.bits(at, &Bits { offset: 8, writable: u32::MAX, ..PLAIN });
        }
        self.bits(at, &Bits { offset: data, writable: 0xffff, ..PLAIN });
        if control & 0x0100 != 0 {
            self.bits(at, &Bits { offset: data + 4, writable: u32::MAX, ..PLAIN });
        }
    }
}

/// The reset methods that Linux finds in these bytes, in the order in which it tries them. (A bus reset depends on what
/// else is on the bus.)
pub(super) fn reset_methods(config: &[u8]) -> Vec<String> {
    let found = conventional(config);
    let byte = |id: u8, offset: u16| {
        let at = found.iter().find(|(found, _)| *found == id)?.1 + offset;
        config.get(usize::from(at)).copied()
    };
    let methods = [
        ("flr", byte(ID_EXPRESS, 7).is_some_and(|capabilities| capabilities & 0x10 != 0)),
        ("af_flr", byte(ID_ADVANCED_FEATURES, 3).is_some_and(|capabilities| capabilities & 0x03 == 0x03)),
        ("pm", byte(ID_POWER_MANAGEMENT, 4).is_some_and(|status| status & NO_SOFT_RESET == 0)),
    ];
    methods.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Identifier and offset of each entry of the conventional capability list.
pub(crate) fn conventional(config: &[u8]) -> Vec<(u8, u16)> {
    let mut list: Vec<(u8, u16)> = Vec::new();
    if config[0x06] & 0x10 == 0 {
        return list;
    }
    let mut at = config[0x34] & 0xfc;
    while at >= 0x40 && list.iter().all(|(_, seen)| *seen != u16::from(at)) {
        list.push((config[usize::from(at)], u16::from(at)));
        at = config[usize::from(at) + 1] & 0xfc;
    }
    list
}

/// Identifier and offset of each entry of the extended capability list.
pub(super) fn extended(config: &[u8]) -> Vec<(u16, u16)> {
    let mut list: Vec<(u16, u16)> = Vec::new();
    let mut at = 0x100;
    while at >= 0x100 && config.len() == 4096 && list.iter().all(|(_, seen)| *seen != at) {
        let byte = |offset: u16| config[usize::from(at + offset)];
        let id = u16::from_le_bytes([byte(0), byte(1)]);
        if id == 0 || id == 0xffff {
            break;
        }
        list.push((id, at));
        at = u16::from_le_bytes([byte(2), byte(3)]) >> 4 & 0xffc;
    }
    list
}
