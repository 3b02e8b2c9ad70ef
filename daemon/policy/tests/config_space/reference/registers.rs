//! The registers that policies name, by hand from the specifications: where, how wide, which bits are guarded.

use xenpcid_policy::Snapshot;

use super::walk::{Kind, byte, word};

/// A register of the header or of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    pub name: &'static str,
    pub offset: u16,
    pub bytes: u16,
}

/// What a guest finds in guarded bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Hardware,
    /// As [`Shown::Hardware`]; a 1 starts something.
    Trigger,
    Zero,
    Claimed,
    /// As [`Shown::Claimed`], and never otherwise: a list.
    Listed,
    Kept,
    Vendor,
    Device,
    Line,
    Pin,
    TableSize,
    MsiEnable,
    MsixEnable,
    Power,
    Address,
    Reset,
}

/// `name offset bytes`, in hexadecimal.
const HEADER: &str =
    "vendor_id 0 2, device_id 2 2, command 4 2, status 6 2, revision_id 8 1, programming_interface 9 1,
    class a 2, cache_line_size c 1, latency_timer d 1, header_type e 1, bist f 1, bar0 10 4, bar1 14 4, bar2 18 4,
    bar3 1c 4, bar4 20 4, bar5 24 4, cardbus_cis 28 4, subsystem_vendor_id 2c 2, subsystem_id 2e 2, expansion_rom 30 4,
    capabilities_pointer 34 1, reserved_35 35 1, reserved_36 36 2, reserved_38 38 4, interrupt_line 3c 1,
    interrupt_pin 3d 1, minimum_grant 3e 1, maximum_latency 3f 1";

const POWER_MANAGEMENT: &str = "capability_header 0 2, pm.pmc 2 2, pm.pmcsr 4 2, pm.pmcsr_bse 6 1, pm.data 7 1";
const VITAL_PRODUCT_DATA: &str = "capability_header 0 2, vpd.address 2 2, vpd.data 4 4";
const VENDOR: &str = "capability_header 0 2, vendor.length 2 1";
/// A virtio device's window into its BARs: virtio 1.2, 4.1.4 and 4.1.4.9.
const VIRTIO_WINDOW: &str = "capability_header 0 2, vendor.length 2 1, vendor.virtio_type 3 1, vendor.virtio_bar 4 1,
    vendor.virtio_id 5 1, vendor.virtio_padding 6 2, vendor.virtio_offset 8 4, vendor.virtio_length c 4,
    vendor.virtio_data 10 4";
const SATA: &str = "capability_header 0 2, sata.cr0 2 2, sata.cr1 4 4";
const SATA_PAIR: &str = "capability_header 0 2, sata.cr0 2 2, sata.cr1 4 4, sata.index 8 4, sata.data c 4";
/// And entries.
const ENHANCED_ALLOCATION: &str = "capability_header 0 2, ea.entry_count 2 1, ea.reserved_3 3 1";
const MSI_32: &str = "capability_header 0 2, msi.control 2 2, msi.address 4 4, msi.data 8 2, msi.extended_data a 2";
const MSI_64: &str = "capability_header 0 2, msi.control 2 2, msi.address 4 4, msi.upper_address 8 4, msi.data c 2,
    msi.extended_data e 2";
const MSI_32_MASKS: &str =
    "capability_header 0 2, msi.control 2 2, msi.address 4 4, msi.data 8 2, msi.extended_data a 2,
    msi.mask c 4, msi.pending 10 4";
const MSI_64_MASKS: &str =
    "capability_header 0 2, msi.control 2 2, msi.address 4 4, msi.upper_address 8 4, msi.data c 2,
    msi.extended_data e 2, msi.mask 10 4, msi.pending 14 4";
const MSIX: &str = "capability_header 0 2, msix.control 2 2, msix.table 4 4, msix.pba 8 4";
const ADVANCED_FEATURES: &str = "capability_header 0 2, af.length 2 1, af.cap 3 1, af.ctl 4 1, af.sta 5 1";
const EXPRESS_1: &str = "capability_header 0 2, pcie.cap 2 2, pcie.devcap 4 4, pcie.devctl 8 2, pcie.devsta a 2,
    pcie.lnkcap c 4, pcie.lnkctl 10 2, pcie.lnksta 12 2";
const EXPRESS_2: &str = "capability_header 0 2, pcie.cap 2 2, pcie.devcap 4 4, pcie.devctl 8 2, pcie.devsta a 2,
    pcie.lnkcap c 4, pcie.lnkctl 10 2, pcie.lnksta 12 2, pcie.sltcap 14 4, pcie.sltctl 18 2, pcie.sltsta 1a 2,
    pcie.rootctl 1c 2, pcie.rootcap 1e 2, pcie.rootsta 20 4, pcie.devcap2 24 4, pcie.devctl2 28 2, pcie.devsta2 2a 2,
    pcie.lnkcap2 2c 4, pcie.lnkctl2 30 2, pcie.lnksta2 32 2, pcie.sltcap2 34 4, pcie.sltctl2 38 2, pcie.sltsta2 3a 2";

const AER: &str = "extended_capability_header 0 4, aer.uncor_status 4 4, aer.uncor_mask 8 4, aer.uncor_severity c 4,
    aer.cor_status 10 4, aer.cor_mask 14 4, aer.cap_control 18 4, aer.header_log0 1c 4, aer.header_log1 20 4,
    aer.header_log2 24 4, aer.header_log3 28 4";
const DSN: &str = "extended_capability_header 0 4, dsn.lower 4 4, dsn.upper 8 4";
const ACS: &str = "extended_capability_header 0 4, acs.cap 4 2, acs.ctl 6 2";
const ARI: &str = "extended_capability_header 0 4, ari.cap 4 2, ari.ctl 6 2";
const ATS: &str = "extended_capability_header 0 4, ats.cap 4 2, ats.ctl 6 2";
const SRIOV: &str = "extended_capability_header 0 4, sriov.cap 4 4, sriov.ctl 8 2, sriov.status a 2,
    sriov.initial_vfs c 2, sriov.total_vfs e 2, sriov.num_vfs 10 2, sriov.dependency_link 12 2,
    sriov.first_vf_offset 14 2, sriov.vf_stride 16 2, sriov.reserved_18 18 2, sriov.vf_device_id 1a 2,
    sriov.supported_page_sizes 1c 4, sriov.system_page_size 20 4, sriov.bar0 24 4, sriov.bar1 28 4, sriov.bar2 2c 4,
    sriov.bar3 30 4, sriov.bar4 34 4, sriov.bar5 38 4, sriov.migration_array 3c 4";
const MULTICAST: &str = "extended_capability_header 0 4, mcast.cap 4 2, mcast.ctl 6 2, mcast.base_address 8 4,
    mcast.upper_base_address c 4, mcast.receive 10 4, mcast.upper_receive 14 4, mcast.block_all 18 4,
    mcast.upper_block_all 1c 4, mcast.block_untranslated 20 4, mcast.upper_block_untranslated 24 4";
/// And what follows, to the length that the header has.
const CXL: &str = "extended_capability_header 0 4, dvsec.header1 4 4, dvsec.header2 8 2, dvsec.cxl_capability a 2";
const PRI: &str = "extended_capability_header 0 4, pri.ctl 4 2, pri.status 6 2, pri.capacity 8 4, pri.allocation c 4";
const REBAR: &str = "extended_capability_header 0 4, rebar.cap0 4 4, rebar.ctl0 8 4, rebar.cap1 c 4, rebar.ctl1 10 4,
    rebar.cap2 14 4, rebar.ctl2 18 4, rebar.cap3 1c 4, rebar.ctl3 20 4, rebar.cap4 24 4, rebar.ctl4 28 4,
    rebar.cap5 2c 4, rebar.ctl5 30 4";
const TPH: &str = "extended_capability_header 0 4, tph.cap 4 4, tph.ctl 8 4";
const LTR: &str = "extended_capability_header 0 4, ltr.max_snoop 4 2, ltr.max_no_snoop 6 2";
const PASID: &str = "extended_capability_header 0 4, pasid.cap 4 2, pasid.ctl 6 2";
const DPC: &str = "extended_capability_header 0 4, dpc.cap 4 2, dpc.ctl 6 2, dpc.status 8 2, dpc.source_id a 2";
const L1SS: &str = "extended_capability_header 0 4, l1ss.cap 4 4, l1ss.ctl1 8 4, l1ss.ctl2 c 4";
const PTM: &str = "extended_capability_header 0 4, ptm.cap 4 4, ptm.ctl 8 4";

/// No guest may write these bits in hardware. Capability headers: PCI 6.7, PCIe 7.6.3. What is kept starts at zero.
const GUARDED: &[(&str, u32, Shown)] = &[
    ("vendor_id", 0xffff, Shown::Vendor),
    ("device_id", 0xffff, Shown::Device),
    // I/O Space, Memory Space; Interrupt Disable.
    ("command", 1 << 0 | 1 << 1 | 1 << 10, Shown::Kept),
    // Capabilities List.
    ("status", 1 << 4, Shown::Listed),
    // Start BIST.
    ("bist", 1 << 6, Shown::Trigger),
    ("bar0", 0xffff_ffff, Shown::Address),
    ("bar1", 0xffff_ffff, Shown::Address),
    ("bar2", 0xffff_ffff, Shown::Address),
    ("bar3", 0xffff_ffff, Shown::Address),
    ("bar4", 0xffff_ffff, Shown::Address),
    ("bar5", 0xffff_ffff, Shown::Address),
    ("expansion_rom", 0xffff_ffff, Shown::Address),
    ("capabilities_pointer", 0xff, Shown::Listed),
    ("interrupt_line", 0xff, Shown::Line),
    ("interrupt_pin", 0xff, Shown::Pin),
    ("capability_header", 0xffff, Shown::Listed),
    ("extended_capability_header", 0xffff_ffff, Shown::Listed),
    ("pm.pmcsr", 0b11, Shown::Power),
    // MSI Enable; Multiple Message Capable and Enable; 64 bit; per-vector masking; extended data and reserved.
    ("msi.control", 1 << 0, Shown::MsiEnable),
    ("msi.control", 0b111_111 << 1, Shown::Zero),
    ("msi.control", 1 << 7, Shown::Claimed),
    ("msi.control", 0xff00, Shown::Zero),
    ("msi.address", 0xffff_ffff, Shown::Zero),
    ("msi.upper_address", 0xffff_ffff, Shown::Zero),
    ("msi.data", 0xffff, Shown::Zero),
    ("msi.extended_data", 0xffff, Shown::Zero),
    ("msi.mask", 0xffff_ffff, Shown::Zero),
    ("msi.pending", 0xffff_ffff, Shown::Zero),
    // Table Size; reserved, Function Mask; MSI-X Enable.
    ("msix.control", 0x07ff, Shown::TableSize),
    ("msix.control", 0xf << 11, Shown::Zero),
    ("msix.control", 1 << 15, Shown::MsixEnable),
    ("msix.table", 0xffff_ffff, Shown::Claimed),
    ("msix.pba", 0xffff_ffff, Shown::Claimed),
    ("af.ctl", 1 << 0, Shown::Reset),
    ("pcie.devctl", 1 << 15, Shown::Reset),
    ("acs.ctl", 0xffff, Shown::Hardware),
    ("ats.ctl", 1 << 15, Shown::Hardware),
    ("pri.ctl", 0xffff, Shown::Hardware),
    ("pasid.ctl", 0xffff, Shown::Hardware),
    ("dpc.ctl", 0xffff, Shown::Hardware),
    // VF Enable, VF Memory Space Enable, ARI Capable Hierarchy.
    ("sriov.ctl", 1 << 0 | 1 << 3 | 1 << 4, Shown::Hardware),
    ("sriov.system_page_size", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar0", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar1", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar2", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar3", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar4", 0xffff_ffff, Shown::Hardware),
    ("sriov.bar5", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl0", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl1", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl2", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl3", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl4", 0xffff_ffff, Shown::Hardware),
    ("rebar.ctl5", 0xffff_ffff, Shown::Hardware),
    ("vendor.virtio_bar", 0xff, Shown::Hardware),
    ("vendor.virtio_offset", 0xffff_ffff, Shown::Hardware),
    ("vendor.virtio_length", 0xffff_ffff, Shown::Hardware),
    ("vendor.virtio_data", 0xffff_ffff, Shown::Hardware),
    ("sata.index", 0xffff_ffff, Shown::Hardware),
    ("sata.data", 0xffff_ffff, Shown::Hardware),
    ("ea.entries", 0xffff_ffff, Shown::Hardware),
    ("mcast.ctl", 0xffff, Shown::Hardware),
    ("mcast.base_address", 0xffff_ffff, Shown::Hardware),
    ("mcast.upper_base_address", 0xffff_ffff, Shown::Hardware),
    ("mcast.receive", 0xffff_ffff, Shown::Hardware),
    ("mcast.upper_receive", 0xffff_ffff, Shown::Hardware),
    ("mcast.block_all", 0xffff_ffff, Shown::Hardware),
    ("mcast.upper_block_all", 0xffff_ffff, Shown::Hardware),
    ("mcast.block_untranslated", 0xffff_ffff, Shown::Hardware),
    ("mcast.upper_block_untranslated", 0xffff_ffff, Shown::Hardware),
    ("dvsec.cxl_capability", 0xffff, Shown::Hardware),
    ("dvsec.cxl_registers", 0xffff_ffff, Shown::Hardware),
];

/// Status bits that a 1 clears. Status registers that have nothing else are taken whole: their other bits are reserved,
/// and reserved bits of such registers are to be written 0 (PCIe 7.4, RsvdZ).
const CLEARED_BY_ONE: &[(&str, u32)] = &[
    // Master Data Parity Error; Signaled and Received Target Abort, Received Master Abort, System Error, Parity Error.
    ("status", 1 << 8 | 0b11111 << 11),
    ("pm.pmcsr", 1 << 15),
    ("pcie.devsta", 0b1111),
    ("pcie.lnksta2", 1 << 5),
    ("aer.uncor_status", 0xffff_ffff),
    ("aer.cor_status", 0xffff_ffff),
    ("sriov.status", 0xffff),
    ("pri.status", 0xffff),
    ("dpc.status", 0xffff),
];

/// The registers of a kind of capability, for the one at `at`, by its own version and flags.
pub fn of(kind: Kind, at: u16, snapshot: &Snapshot) -> Vec<Register> {
    let config = &snapshot.config;
    let layout = match kind {
        Kind::Conventional(0x01) => POWER_MANAGEMENT,
        Kind::Conventional(0x03) => VITAL_PRODUCT_DATA,
        // Message Control: bit 7 is 64 bit, bit 8 per-vector masking (PCI 6.8.1.3).
        Kind::Conventional(0x05) => match (byte(config, at + 2) & 0x80 != 0, byte(config, at + 3) & 0x01 != 0) {
            (false, false) => MSI_32,
            (true, false) => MSI_64,
            (false, true) => MSI_32_MASKS,
            (true, true) => MSI_64_MASKS,
        },
        // The type of a virtio capability is its fourth byte, and 5 is the window (virtio 1.2, 4.1.4).
        Kind::Conventional(0x09) if snapshot.vendor == 0x1af4 && byte(config, at + 3) == 5 => VIRTIO_WINDOW,
        Kind::Conventional(0x09) => VENDOR,
        Kind::Conventional(0x10) if word(config, at + 2) & 0xf < 2 => EXPRESS_1,
        Kind::Conventional(0x10) => EXPRESS_2,
        Kind::Conventional(0x11) => MSIX,
        // Bits 3:0 of SATACR1 are 1111 if the pair is in configuration space (AHCI 1.3, 2.4.3).
        Kind::Conventional(0x12) if byte(config, at + 4) & 0xf == 0xf => SATA_PAIR,
        Kind::Conventional(0x12) => SATA,
        Kind::Conventional(0x13) => ADVANCED_FEATURES,
        Kind::Conventional(0x14) => ENHANCED_ALLOCATION,
        Kind::Conventional(_) => "capability_header 0 2",
        Kind::Extended(0x0001) => AER,
        Kind::Extended(0x0003) => DSN,
        Kind::Extended(0x000d) => ACS,
        Kind::Extended(0x000e) => ARI,
        Kind::Extended(0x000f) => ATS,
        Kind::Extended(0x0010) => SRIOV,
        Kind::Extended(0x0012) => MULTICAST,
        Kind::Extended(0x0013) => PRI,
        // VF Resizable BAR has the same registers.
        Kind::Extended(0x0015 | 0x0024) => REBAR,
        Kind::Extended(0x0017) => TPH,
        Kind::Extended(0x0018) => LTR,
        Kind::Extended(0x001b) => PASID,
        Kind::Extended(0x001d) => DPC,
        Kind::Extended(0x001e) => L1SS,
        Kind::Extended(0x001f) => PTM,
        // The DVSEC vendor of the CXL Consortium (CXL 2.0, 8.1.1).
        Kind::Extended(0x0023) if word(config, at + 4) == 0x1e98 => CXL,
        Kind::Extended(_) => "extended_capability_header 0 4",
    };
    let mut registers = parse(layout);
    if layout == REBAR {
        // Two registers for each BAR: bits 7:5 of the first control say how many (PCIe 7.8.6.3).
        let bars = match byte(config, at + 8) >> 5 {
            0 => 1,
            7 => 6,
            bars => bars,
        };
        registers.truncate(1 + 2 * usize::from(bars));
    }
    let mut follow = |name, end: u16| {
        let starts = (registers.last().map_or(0, |last| last.offset + last.bytes)..end).step_by(4);
        registers.extend(starts.map(|offset| Register { name, offset, bytes: 4 }));
    };
    if layout == ENHANCED_ALLOCATION {
        // Bits 5:0 of the third byte are the number of entries; bits 2:0 of an entry are how many dwords it has beside its
        // first (PCIe 7.8.5). No capability is longer than what is behind the header.
        let mut end = 4_u16;
        for _ in 0..byte(config, at + 2) & 0x3f {
            end += 4 + 4 * u16::from(byte(config, at + end) & 7);
        }
        follow("ea.entries", end.min(192));
    }
    if layout == CXL {
        // Bits 31:20 of the second dword are the length in bytes (PCIe 7.9.6.2).
        follow("dvsec.cxl_registers", (word(config, at + 6) >> 4).min(3840));
    }
    registers
}

/// The registers of the header.
pub fn of_header() -> Vec<Register> {
    parse(HEADER)
}

fn parse(layout: &'static str) -> Vec<Register> {
    let number = |text: &str| u16::from_str_radix(text, 16).unwrap();
    let register = |text: &'static str| match text.split_whitespace().collect::<Vec<_>>()[..] {
        [name, offset, bytes] => Register { name, offset: number(offset), bytes: number(bytes) },
        _ => panic!("{text}"),
    };
    layout.split(',').map(register).collect()
}

impl Register {
    /// What is shown in bit `n`, if it is guarded.
    pub fn guarded(&self, n: u16) -> Option<Shown> {
        let mut of_register = GUARDED.iter().filter(|(name, mask, _)| *name == self.name && mask >> n & 1 != 0);
        of_register.next().map(|(_, _, shown)| *shown)
    }

    /// Whether writing 1 to bit `n` clears it.
    pub fn is_cleared_by_one(&self, n: u16) -> bool {
        CLEARED_BY_ONE.iter().any(|(name, mask)| *name == self.name && mask >> n & 1 != 0)
    }

    /// Whether writing 1 to bit `n` starts something that a policy may let pass: F of VPD.
    pub fn is_command(&self, n: u16) -> bool {
        self.name == "vpd.address" && n == 15
    }
}
