//! A backend with one function, whose configuration space was recorded from QEMU's e1000e (82574L).
//!
//! It filters as the backend of the recorded trace did: the command register is a shadow, BARs only answer the sizing
//! protocol, the enable bits of MSI and MSI-X are refused, every other write is dropped with success.

use pcifront_shim::abi::{ErrorCode, Operation};
use pcifront_shim::trace::{Direction, TracedAccess};
use pcifront_shim::{Request, Width};

use crate::connection::Reply;

const DUMP: &str = include_str!("../fixtures/e1000e-82574.config.txt");

const BAR0: usize = 0x10;
const EXPANSION_ROM: usize = 0x30;
const MSI_CONTROL: usize = 0xd2;
const MSIX_CONTROL: usize = 0xa2;

pub struct RecordedDevice {
    config: Vec<u8>,
    /// Register, what it reads while it is being sized, and whether it is.
    bars: Vec<(usize, u32, bool)>,
    /// Each access to the configuration space of the function, and the other operations by name.
    pub log: Vec<TracedAccess>,
    pub operations: Vec<Operation>,
    /// Vectors that can be had.
    pub vectors_available: usize,
}

impl RecordedDevice {
    pub fn e1000e() -> Self {
        let lines = DUMP.lines().filter(|line| !line.starts_with('#'));
        let (resources, bytes): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("0x"));
        let mut config: Vec<u8> =
            bytes.iter().flat_map(|line| line.split(' ')).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(config.len(), 4096);
        config[0x3c] = 0x15; // The pirq, which it has since the device was claimed.
        let registers = (BAR0..).step_by(4).take(6).chain([EXPANSION_ROM]);
        let bars = registers
            .zip(resources)
            .map(|(register, resource)| {
                let fields: Vec<u64> =
                    resource.split(' ').map(|f| u64::from_str_radix(f.trim_start_matches("0x"), 16).unwrap()).collect();
                let flags = config[register] & if register == EXPANSION_ROM { 0 } else { 0xf };
                let size = if fields[1] == 0 { 0 } else { fields[1] - fields[0] + 1 };
                let mask = u32::try_from(size.wrapping_neg() & 0xffff_ffff).unwrap();
                (register, mask | u32::from(if flags & 1 == 1 { flags & 3 } else { flags }), false)
            })
            .collect();
        Self { config, bars, log: Vec::new(), operations: Vec::new(), vectors_available: 128 }
    }

    /// What the function's command register holds.
    pub fn command(&self) -> u32 {
        self.load(4, Width::Word)
    }

    pub fn answer(&mut self, request: &Request) -> Option<Reply> {
        if (request.domain, request.bus, request.devfn) != (0, 0, 0) {
            return Reply::error(ErrorCode::DEV_NOT_FOUND);
        }
        let width = Width::from_bytes(request.size.try_into().unwrap()).unwrap_or(Width::Dword);
        match request.operation {
            Operation::CONFIG_READ => {
                let value = self.read(request.offset.try_into().unwrap(), width);
                self.record(Direction::Read, request, width, value);
                Reply::success(value)
            }
            Operation::CONFIG_WRITE => {
                self.record(Direction::Write, request, width, request.value);
                self.write(request.offset.try_into().unwrap(), width, request.value)
            }
            operation => {
                self.operations.push(operation);
                self.interrupt_operation(request)
            }
        }
    }

    fn interrupt_operation(&mut self, request: &Request) -> Option<Reply> {
        match request.operation {
            Operation::ENABLE_MSI => {
                self.config[MSI_CONTROL] |= 1;
                Reply::success(60)
            }
            Operation::ENABLE_MSIX => {
                let count = request.entries.as_slice().len();
                if count > self.vectors_available {
                    return Reply::success(self.vectors_available.try_into().unwrap());
                }
                self.config[MSIX_CONTROL + 1] |= 0x80;
                Some(Reply { error: ErrorCode::SUCCESS, value: 0, vectors: (70..).take(count).collect() })
            }
            Operation::DISABLE_MSI | Operation::DISABLE_MSIX => {
                self.config[MSI_CONTROL] &= !1;
                self.config[MSIX_CONTROL + 1] &= !0x80;
                Reply::success(0)
            }
            _ => Reply::error(ErrorCode::NOT_IMPLEMENTED),
        }
    }

    fn read(&self, offset: usize, width: Width) -> u32 {
        match self.bars.iter().find(|(register, ..)| *register == offset) {
            Some((_, mask, true)) => *mask,
            _ => self.load(offset, width),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) -> Option<Reply> {
        if let Some((_, _, sizing)) = self.bars.iter_mut().find(|(register, ..)| *register == offset) {
            *sizing = value | 0x7ff == u32::MAX;
        } else if offset == 4 {
            self.config[4..6].copy_from_slice(&value.to_le_bytes()[..2]);
        } else if [MSI_CONTROL, MSIX_CONTROL].contains(&offset) && value != self.load(offset, width) {
            return Reply::error(ErrorCode::ACCESS_DENIED);
        }
        Reply::success(0)
    }

    fn load(&self, offset: usize, width: Width) -> u32 {
        let bytes = &self.config[offset..][..width.bytes().into()];
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn record(&mut self, direction: Direction, request: &Request, width: Width, value: u32) {
        self.log.push(TracedAccess { direction, width, offset: request.offset.try_into().unwrap(), value });
    }
}
