//! Devices from text: a recorded configuration space, or what `lspci` prints.

use xenpcid_address::Sbdf;

use crate::access::ConfigSize;
use crate::resource::Resource;
use crate::snapshot::Snapshot;

/// Text that is not a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// A line could not be read.
    #[error("line {line} of the recording: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The number of configuration bytes is wrong.
    #[error(
        "the recording has {length} configuration bytes; 256 or 4096 are needed: `lspci -xxx` (conventional) or `-xxxx`, as root"
    )]
    Length {
        /// How many there are.
        length: usize,
    },
    /// There is no address in front.
    #[error("the recording does not start with a PCI address, as `lspci` prints it")]
    NoAddress,
    /// A BAR has an address and no size.
    #[error("BAR {bar} has an address but no size: print the device with `lspci -vv -xxxx`, which adds the sizes")]
    NoSize {
        /// Number of the BAR, 6 for the expansion ROM.
        bar: usize,
    },
    /// It is not an endpoint.
    #[error("header type {header_type:#04x}: only type 0, an endpoint, can be given to a guest")]
    HeaderType {
        /// The register without the multi-function bit.
        header_type: u8,
    },
}

/// A device as text has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its address, if the text names one.
    pub function: Option<Sbdf>,
    /// Vendor and device ID, if the text names them beside the registers (`lspci -nn`).
    pub ids: Option<(u16, u16)>,
    /// Configuration space: 256 or 4096 bytes.
    pub config: Vec<u8>,
    /// BAR 0 to 5, then the expansion ROM.
    pub resources: [Resource; 7],
}

impl Recording {
    /// Reads rows of 16 hexadecimal bytes, then lines of sysfs' `resource`.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn rows(text: &str) -> Result<Self, RecordingError> {
        let mut recording = Self { function: None, ids: None, config: Vec::new(), resources: [Resource::default(); 7] };
        let mut resources = 0;
        for (number, line) in text.lines().enumerate() {
            let wrong = |reason: String| RecordingError::Line { line: number.saturating_add(1), reason };
            if line.starts_with("0x") {
                let resource = line.parse().map_err(|error| wrong(format!("{error}")))?;
                // Linux lists bridge windows and SR-IOV ranges after the first seven.
                if let Some(slot) = recording.resources.get_mut(resources) {
                    *slot = resource;
                }
                resources = resources.saturating_add(1);
            } else if !line.trim().is_empty() {
                recording.config.extend(row(line).ok_or_else(|| wrong("not a row of hexadecimal bytes".to_owned()))?);
            }
        }
        recording.checked()
    }

    /// Reads what `lspci -vv -xxxx` (or `-xxx`) prints of one device.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn lspci(text: &str) -> Result<Self, RecordingError> {
        Self::lspci_lines(text)?.checked()
    }

    fn lspci_lines(text: &str) -> Result<Self, RecordingError> {
        let first = text.split_whitespace().next().ok_or(RecordingError::NoAddress)?;
        let function = Some(first.parse().map_err(|_| RecordingError::NoAddress)?);
        let ids = text.lines().next().and_then(ids);
        let mut recording = Self { function, ids, config: Vec::new(), resources: [Resource::default(); 7] };
        for (number, line) in text.lines().enumerate().skip(1) {
            let wrong =
                |reason: &str| RecordingError::Line { line: number.saturating_add(1), reason: reason.to_owned() };
            // Those of its virtual functions' BARs are printed below the capability, one step further in.
            let is_in_capability = line.starts_with("\t\t");
            let line = line.trim();
            if let Some((offset, bytes)) = line.split_once(": ") {
                if let (Ok(offset), Some(bytes)) = (usize::from_str_radix(offset, 16), row(bytes)) {
                    if offset != recording.config.len() {
                        return Err(wrong("rows are missing before this one"));
                    }
                    recording.config.extend(bytes);
                    continue;
                }
            }
            if is_in_capability {
                continue;
            }
            if let Some((index, resource)) = region(line).map_err(wrong)? {
                if let Some(slot) = recording.resources.get_mut(index) {
                    *slot = resource;
                }
            }
        }
        Ok(recording)
    }

    /// As [`Recording::lspci`], for text without the sizes of BARs (`lspci -xxxx`): they are taken for as large as their
    /// addresses allow.
    ///
    /// # Errors
    /// As [`Recording::lspci`], but for [`RecordingError::NoSize`].
    pub fn lspci_without_sizes(text: &str) -> Result<Self, RecordingError> {
        let mut recording = Self::lspci_lines(text)?.of_endpoint()?;
        while let Some((bar, largest)) = recording.without_size() {
            if let Some(slot) = recording.resources.get_mut(bar) {
                *slot = largest;
            }
        }
        Ok(recording)
    }

    /// What a claim would know of the device, if the host were the one that the text comes from.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Self { ids, ref config, resources, .. } = *self;
        let mut snapshot = Snapshot {
            config: config.clone(),
            resources,
            vendor: 0,
            device: 0,
            interrupt_line: 0,
            is_virtual_function: false,
        };
        let registers = (snapshot.word(0x00), snapshot.word(0x02));
        // A virtual function's registers read ffff (SR-IOV 3.4.1.1).
        snapshot.is_virtual_function = registers == (u16::MAX, u16::MAX);
        (snapshot.vendor, snapshot.device) = ids.unwrap_or(registers);
        if snapshot.byte(0x3d) != 0 && snapshot.byte(0x3c) != u8::MAX {
            snapshot.interrupt_line = snapshot.byte(0x3c);
        }
        snapshot
    }

    fn checked(self) -> Result<Self, RecordingError> {
        let recording = self.of_endpoint()?;
        match recording.without_size() {
            Some((bar, _)) => Err(RecordingError::NoSize { bar }),
            None => Ok(recording),
        }
    }

    fn of_endpoint(self) -> Result<Self, RecordingError> {
        let length = self.config.len();
        ConfigSize::from_len(length).ok_or(RecordingError::Length { length })?;
        let header_type = self.config.get(0x0e).copied().unwrap_or_default() & 0x7f;
        if header_type == 0 { Ok(self) } else { Err(RecordingError::HeaderType { header_type }) }
    }

    /// The first BAR that has an address and no size, and what is behind it if it is as large as the address allows.
    fn without_size(&self) -> Option<(usize, Resource)> {
        let dword = |at: usize| match self.config.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        };
        let mut is_upper_half = false;
        for ((bar, resource), offset) in
            self.resources.iter().enumerate().zip([0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30])
        {
            let register = if bar == Snapshot::ROM { dword(offset) & !0x7ff } else { dword(offset) };
            if register & !0xf != 0 && !resource.is_present() && !is_upper_half {
                let is_64_bit = bar < 5 && register & 0x7 == 0x4;
                let upper = if is_64_bit { dword(offset.saturating_add(4)) } else { 0 };
                return Some((bar, largest(register, upper)));
            }
            is_upper_half = resource.is_64_bit();
        }
        None
    }
}

/// The largest range that a BAR can stand for which reads so.
fn largest(register: u32, upper: u32) -> Resource {
    const MEMORY: u64 = 1 << 28;
    const PORTS: u64 = 256;
    let (address_bits, limit, flags) = match register & 0x7 {
        bits if bits & 1 != 0 => (!0x3, PORTS, Resource::IO | 0x1),
        0x4 => (!0xf, MEMORY, Resource::MEMORY | Resource::MEMORY_64 | 0x4),
        _ => (!0xf, MEMORY, Resource::MEMORY),
    };
    let start = u64::from(upper) << 32 | u64::from(register & address_bits);
    let size = (1_u64 << start.trailing_zeros().min(63)).min(limit);
    Resource { start, end: start.saturating_add(size.saturating_sub(1)), flags }
}

/// The last `[8086:10d3]` of the line, which is not a class, `[0200]`.
fn ids(line: &str) -> Option<(u16, u16)> {
    line.split('[')
        .skip(1)
        .filter_map(|part| {
            let (vendor, device) = part.split(']').next()?.split_once(':')?;
            let id = |text: &str| (text.len() == 4).then(|| u16::from_str_radix(text, 16).ok()).flatten();
            Some((id(vendor)?, id(device)?))
        })
        .last()
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
    Ok(Some((index, Resource { start, end: start.saturating_add(size.saturating_sub(1)), flags })))
}

/// `32`, `128K`, `16M`, `1G`: bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'K') => (text.get(..at)?, 10),
        (at, 'M') => (text.get(..at)?, 20),
        (at, 'G') => (text.get(..at)?, 30),
        (at, 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift).filter(|size| size.is_power_of_two())
}
