//! Devices from text: a recorded configuration space, or what `lspci` prints.

use xenpcid_address::Sbdf;
use xenpcid_policy::{ConfigSize, Resource};

/// Text that is not a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// A line could not be read.
    #[error("line {line} of the dump: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The number of configuration bytes is wrong.
    #[error(
        "the dump has {length} configuration bytes; 256 or 4096 are needed: `lspci -xxx` (conventional) or `-xxxx`, as root"
    )]
    Length {
        /// How many there are.
        length: usize,
    },
    /// There is no address in front.
    #[error("the dump does not start with a PCI address, as `lspci` prints it")]
    NoAddress,
    /// A BAR has an address and no size.
    #[error("BAR {bar} has an address but no size: print the device with `lspci -vv -xxxx`, which adds the sizes")]
    NoSize {
        /// Number of the BAR, 6 for the expansion ROM.
        bar: usize,
    },
    /// It is not an endpoint.
    #[error("header type {header_type:#04x}: only type 0 is simulated")]
    HeaderType {
        /// The register without the multi-function bit.
        header_type: u8,
    },
}

/// What a dump says.
#[derive(Debug)]
pub(super) struct Dump {
    pub function: Option<Sbdf>,
    pub config: Vec<u8>,
    pub resources: [Resource; 7],
}

impl Dump {
    /// Rows of 16 hexadecimal bytes, then lines of sysfs' `resource`.
    pub(super) fn recorded(text: &str) -> Result<Self, DumpError> {
        let mut dump = Self { function: None, config: Vec::new(), resources: [Resource::default(); 7] };
        let mut resources = 0;
        for (number, line) in text.lines().enumerate() {
            let wrong = |reason: String| DumpError::Line { line: number + 1, reason };
            if line.starts_with("0x") {
                let resource = line.parse().map_err(|error| wrong(format!("{error}")))?;
                // Linux lists bridge windows and SR-IOV ranges after the first seven.
                if let Some(slot) = dump.resources.get_mut(resources) {
                    *slot = resource;
                }
                resources += 1;
            } else if !line.trim().is_empty() {
                dump.config.extend(row(line).ok_or_else(|| wrong("not a row of hexadecimal bytes".to_owned()))?);
            }
        }
        dump.checked()
    }

    /// Output of `lspci -vv -xxxx` (or `-xxx`) for one device.
    pub(super) fn lspci(text: &str) -> Result<Self, DumpError> {
        let first = text.split_whitespace().next().ok_or(DumpError::NoAddress)?;
        let function = Some(first.parse().map_err(|_| DumpError::NoAddress)?);
        let mut dump = Self { function, config: Vec::new(), resources: [Resource::default(); 7] };
        for (number, line) in text.lines().enumerate().skip(1) {
            let wrong = |reason: &str| DumpError::Line { line: number + 1, reason: reason.to_owned() };
            let line = line.trim();
            if let Some((offset, bytes)) = line.split_once(": ") {
                if let (Ok(offset), Some(bytes)) = (usize::from_str_radix(offset, 16), row(bytes)) {
                    if offset != dump.config.len() {
                        return Err(wrong("rows are missing before this one"));
                    }
                    dump.config.extend(bytes);
                    continue;
                }
            }
            if let Some((index, resource)) = region(line).map_err(wrong)? {
                dump.resources[index] = resource;
            }
        }
        dump.checked()
    }

    fn checked(self) -> Result<Self, DumpError> {
        let length = self.config.len();
        ConfigSize::from_len(length).ok_or(DumpError::Length { length })?;
        let header_type = self.config[0x0e] & 0x7f;
        if header_type != 0 {
            return Err(DumpError::HeaderType { header_type });
        }
        let dword = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|lane| self.config[at + lane]));
        let mut upper_half = false;
        for (bar, resource) in self.resources.iter().enumerate() {
            let register = if bar == 6 { dword(0x30) & !0x7ff } else { dword(0x10 + 4 * bar) };
            if register & !0xf != 0 && !resource.is_present() && !upper_half {
                return Err(DumpError::NoSize { bar });
            }
            upper_half = resource.is_64_bit();
        }
        Ok(self)
    }
}

/// Bytes of a row, all in hexadecimal.
fn row(text: &str) -> Option<Vec<u8>> {
    text.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

/// `Region 0: Memory at feb80000 (64-bit, prefetchable) [size=128K]`, `Region 2: I/O ports at c060 [size=32]`,
/// `Expansion ROM at feb00000 [disabled] [size=256K]`. `lspci -v` leaves out `Region N:`, `-vv` has it.
fn region(line: &str) -> Result<Option<(usize, Resource)>, &'static str> {
    let (index, rest) = if let Some(rest) = line.strip_prefix("Expansion ROM at ") {
        (6, rest)
    } else if let Some((number, rest)) = line.strip_prefix("Region ").and_then(|line| line.split_once(": ")) {
        (number.parse().ok().filter(|number| *number < 6).ok_or("a region's number is 0 to 5")?, rest)
    } else if line.starts_with("Memory at ") || line.starts_with("I/O ports at ") {
        return Err("regions have no number here: print the device with `lspci -vv -xxxx`");
    } else {
        return Ok(None);
    };
    let is_io = rest.starts_with("I/O ports at ");
    let rest = rest.trim_start_matches("Memory at ").trim_start_matches("I/O ports at ");
    let address = rest.split_ascii_whitespace().next().unwrap_or_default();
    if address.starts_with('<') {
        return Ok(None);
    }
    let start = u64::from_str_radix(address, 16).map_err(|_| "the address is not hexadecimal")?;
    let size = rest.split_once("[size=").and_then(|(_, size)| size.split_once(']')).ok_or("there is no [size=...]")?.0;
    let size = self::size(size).ok_or("the size is not a power of two")?;
    let has = |word: &str, flag: u64| if rest.contains(word) { flag } else { 0 };
    // The low bits are those of the BAR: bit 0 port, bit 2 64-bit, bit 3 prefetchable.
    let flags = if is_io {
        Resource::IO | 0x1
    } else {
        Resource::MEMORY | has("64-bit", Resource::MEMORY_64 | 0x4) | has(" prefetchable", Resource::PREFETCHABLE | 0x8)
    };
    Ok(Some((index, Resource { start, end: start + (size - 1), flags })))
}

/// `32`, `128K`, `16M`, `1G`: bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift).filter(|size| size.is_power_of_two())
}
