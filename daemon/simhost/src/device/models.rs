//! Configuration spaces of ready-made devices, written from the PCI specifications and the devices' public datasheets.

use xenpcid_policy::Resource;

/// A configuration space under construction.
pub(super) struct Image {
    pub config: Vec<u8>,
    pub resources: [Resource; 7],
}

/// What stands in every header.
struct Header {
    vendor: u16,
    device: u16,
    class: u32,
    subsystem: [u16; 2],
    /// 1 for INTA#; 0 for a function without INTx.
    interrupt_pin: u8,
}

impl Image {
    /// A header of type 0, decoding and bus mastering off, as after power-on.
    fn new(length: usize, header: &Header) -> Self {
        let mut image = Self { config: vec![0; length], resources: [Resource::default(); 7] };
        image.word(0x00, header.vendor);
        image.word(0x02, header.device);
        image.dword(0x08, header.class << 8);
        image.word(0x2c, header.subsystem[0]);
        image.word(0x2e, header.subsystem[1]);
        image.bytes(0x3d, &[header.interrupt_pin]);
        image
    }

    /// A header of type 1, without a device's BARs.
    pub(super) fn bridge(length: usize) -> Self {
        let header =
            Header { vendor: 0x1b36, device: 0x000c, class: 0x06_0400, subsystem: [0x0000, 0x0000], interrupt_pin: 1 };
        let mut image = Self::new(length, &header);
        image.bytes(0x0e, &[0x01]);
        image
    }

    /// A PCI Express capability of a port.
    pub(super) fn express(&mut self, kind: u8) {
        self.capabilities(&[(0x40, &[0x10, 0x02 | kind << 4, 0x00])]);
    }

    fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        self.config[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, offset: usize, value: u16) {
        self.bytes(offset, &value.to_le_bytes());
    }

    fn dword(&mut self, offset: usize, value: u32) {
        self.bytes(offset, &value.to_le_bytes());
    }

    /// Gives a BAR (6: expansion ROM) an address, in the register unless it is a virtual function's.
    fn bar(&mut self, index: usize, start: u64, size: u64, flags: u64) {
        self.resources[index] = Resource { start, end: start + (size - 1), flags };
        if self.config[..2] == [0xff, 0xff] {
            return;
        }
        let offset = if index == 6 { 0x30 } else { 0x10 + 4 * index };
        let [flag_bits, ..] = flags.to_le_bytes();
        let bytes = start.to_le_bytes();
        self.bytes(offset, &bytes[..4]);
        self.config[offset] |= flag_bits & 0xf;
        if flags & Resource::MEMORY_64 != 0 {
            self.bytes(offset + 4, &bytes[4..]);
        }
    }

    /// Chains the capabilities in this order; each is its offset and its bytes but for the pointer to the next.
    fn capabilities(&mut self, list: &[(u8, &[u8])]) {
        self.config[0x06] |= 0x10;
        let mut pointer = 0x34;
        for (offset, bytes) in list {
            self.config[pointer] = *offset;
            let at = usize::from(*offset);
            self.bytes(at, &bytes[..1]);
            self.bytes(at + 2, &bytes[1..]);
            pointer = at + 1;
        }
    }

    /// Chains the extended capabilities: identifier, version, offset, and the dwords after the header.
    fn extended(&mut self, list: &[(u16, u16, u16, &[u32])]) {
        for (index, (id, version, offset, dwords)) in list.iter().enumerate() {
            let next = list.get(index + 1).map_or(0, |(_, _, next, _)| *next);
            let at = usize::from(*offset);
            self.word(at, *id);
            self.word(at + 2, next << 4 | version);
            for (index, dword) in dwords.iter().enumerate() {
                self.dword(at + 4 + 4 * index, *dword);
            }
        }
    }
}

const MEMORY: u64 = Resource::MEMORY;
const MEMORY_64: u64 = Resource::MEMORY | Resource::MEMORY_64 | 0x4;
const MEMORY_64_PREFETCHABLE: u64 = MEMORY_64 | Resource::PREFETCHABLE | 0x8;
const IO: u64 = Resource::IO | 0x1;

const KIB: u64 = 1024;
/// Advanced Error Reporting.
const AER: u16 = 0x0001;
/// Alternative Routing-ID Interpretation.
const ARI: u16 = 0x000e;
const SERIAL_NUMBER: u16 = 0x0003;
const SR_IOV: u16 = 0x0010;
/// Severity bits that AER has after power-on (PCI Express Base Specification 7.8.4.4).
const AER_REGISTERS: &[u32] = &[0, 0, 0x0046_2030, 0, 0x2000, 0xa0];
/// Power Management 1.2 with D0 and D3hot; No_Soft_Reset is clear.
const POWER_MANAGEMENT: &[u8] = &[0x01, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00];
/// PCI Express 2, endpoint, Function Level Reset; Device Control as after power-on.
const EXPRESS_ENDPOINT: &[u8] = &[
    0x10, 0x02, 0x00, // capabilities
    0x00, 0x80, 0x00, 0x10, // device capabilities: role-based errors, FLR
    0x10, 0x28, 0x00, 0x00, // device control and status
    0x11, 0x04, 0x00, 0x00, // link capabilities: 2.5 GT/s, x1
    0x00, 0x00, 0x11, 0x00, // link control and status
];

/// An NVM Express controller (NVM Express Base Specification 2.1): class 010802, one 64-bit BAR above 4 GiB with the
/// registers, the MSI-X table of 65 entries at 0x2000 and its pending bits at 0x3000.
pub(super) fn nvme() -> Image {
    let header =
        Header { vendor: 0x1b36, device: 0x0010, class: 0x01_0802, subsystem: [0x1af4, 0x1100], interrupt_pin: 1 };
    let mut image = Image::new(4096, &header);
    image.bar(0, 0x38_0000_0000, 16 * KIB, MEMORY_64);
    let msix: &[u8] = &[0x11, 0x40, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x30, 0x00, 0x00];
    image.capabilities(&[(0x40, POWER_MANAGEMENT), (0x50, msix), (0x60, EXPRESS_ENDPOINT)]);
    image.extended(&[(AER, 2, 0x100, AER_REGISTERS), (SERIAL_NUMBER, 1, 0x140, &[0x4e56_4d65, 0x0001_0203])]);
    image
}

/// Intel 82540EM as its datasheet and QEMU have it without capabilities: registers in memory and in ports, INTx only,
/// and no way to reset it.
pub(super) fn e1000() -> Image {
    let header =
        Header { vendor: 0x8086, device: 0x100e, class: 0x02_0000, subsystem: [0x8086, 0x001e], interrupt_pin: 1 };
    let mut image = Image::new(256, &header);
    image.bytes(0x08, &[0x03]);
    image.bar(0, 0xfe90_0000, 128 * KIB, MEMORY);
    image.bar(1, 0xc000, 64, IO);
    image.bar(6, 0xfe88_0000, 256 * KIB, MEMORY);
    image
}

/// Intel 82576, the physical function of [`igb_vf`]: memory and port BARs, MSI with masking, 10 MSI-X vectors, SR-IOV.
pub(super) fn igb() -> Image {
    let header =
        Header { vendor: 0x8086, device: 0x10c9, class: 0x02_0000, subsystem: [0x8086, 0xa02b], interrupt_pin: 1 };
    let mut image = Image::new(4096, &header);
    image.bytes(0x08, &[0x01]);
    image.bar(0, 0xfe80_0000, 128 * KIB, MEMORY);
    image.bar(2, 0xd000, 32, IO);
    image.bar(3, 0xfe82_0000, 16 * KIB, MEMORY);
    let msi: &[u8] = &[0x05, 0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let msix: &[u8] = &[0x11, 0x09, 0x00, 0x03, 0x00, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00];
    image.capabilities(&[(0x40, POWER_MANAGEMENT), (0x50, msi), (0x70, msix), (0xa0, EXPRESS_ENDPOINT)]);
    image.extended(&[
        (AER, 1, 0x100, AER_REGISTERS),
        (SERIAL_NUMBER, 1, 0x140, &[0xff12_3456, 0x0080_e5ff]),
        (ARI, 1, 0x150, &[0x0000_0000]),
        (SR_IOV, 1, 0x160, &[0x2, 0x0000_0009, 0x0008_0008, 0x0000_0002, 0x0002_0180, 0x10ca_0000, 0x553, 0x1]),
    ]);
    image
}

/// A virtual function of [`igb`]: identifiers that read ffff, no decode bits, three MSI-X vectors in BAR 3.
pub(super) fn igb_vf(number: u8) -> Image {
    let header =
        Header { vendor: 0xffff, device: 0xffff, class: 0x02_0000, subsystem: [0x8086, 0xa02b], interrupt_pin: 0 };
    let mut image = Image::new(4096, &header);
    image.bytes(0x08, &[0x01]);
    let base = 0x38_1000_0000 + u64::from(number) * 32 * KIB;
    image.bar(0, base, 16 * KIB, MEMORY_64_PREFETCHABLE);
    image.bar(3, base + 16 * KIB, 16 * KIB, MEMORY_64_PREFETCHABLE);
    let msix: &[u8] = &[0x11, 0x02, 0x00, 0x03, 0x00, 0x00, 0x00, 0x03, 0x20, 0x00, 0x00];
    image.capabilities(&[(0x70, msix), (0xa0, EXPRESS_ENDPOINT)]);
    image.extended(&[(AER, 1, 0x100, AER_REGISTERS), (ARI, 1, 0x150, &[0])]);
    image
}
