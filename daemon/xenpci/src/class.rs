//! What kinds of devices there are.

/// Base class, subclass if it matters, and name (PCI Code and ID Assignment Specification, section 1). The first one that
/// fits is it.
const CLASSES: &[(u8, Option<u8>, &str)] = &[
    (0x01, Some(0x00), "SCSI controller"),
    (0x01, Some(0x01), "IDE controller"),
    (0x01, Some(0x04), "RAID controller"),
    (0x01, Some(0x06), "SATA controller"),
    (0x01, Some(0x07), "SAS controller"),
    (0x01, Some(0x08), "NVM controller"),
    (0x01, None, "storage controller"),
    (0x02, Some(0x00), "Ethernet controller"),
    (0x02, None, "network controller"),
    (0x03, Some(0x00), "VGA controller"),
    (0x03, Some(0x02), "3D controller"),
    (0x03, None, "display controller"),
    (0x04, Some(0x03), "audio device"),
    (0x04, None, "multimedia device"),
    (0x05, None, "memory controller"),
    (0x06, Some(0x00), "host bridge"),
    (0x06, Some(0x01), "ISA bridge"),
    (0x06, Some(0x04), "PCI bridge"),
    (0x06, None, "bridge"),
    (0x07, Some(0x00), "serial controller"),
    (0x07, None, "communication controller"),
    (0x08, Some(0x06), "IOMMU"),
    (0x08, None, "system peripheral"),
    (0x09, None, "input controller"),
    (0x0a, None, "docking station"),
    (0x0b, None, "processor"),
    (0x0c, Some(0x03), "USB controller"),
    (0x0c, Some(0x05), "SMBus"),
    (0x0c, None, "serial bus controller"),
    (0x0d, None, "wireless controller"),
    (0x0e, None, "intelligent controller"),
    (0x0f, None, "satellite controller"),
    (0x10, None, "encryption controller"),
    (0x11, None, "signal processing controller"),
    (0x12, None, "processing accelerator"),
    (0x13, None, "instrumentation"),
];

/// The name of a 24-bit class code.
pub fn name(class: u32) -> &'static str {
    let [_, base, sub, _] = class.to_be_bytes();
    let found = CLASSES.iter().find(|(of, only, _)| *of == base && only.is_none_or(|only| only == sub));
    found.map_or("device", |(_, _, name)| name)
}
