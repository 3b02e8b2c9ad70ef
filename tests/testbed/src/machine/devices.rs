//! The devices of the emulated machine: what QEMU is told, and how dom0 recognises them.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of PCI device, by what its configuration space says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// For people.
    pub name: &'static str,
    /// PCI vendor ID.
    pub vendor: u16,
    /// PCI device ID.
    pub device: u16,
}

/// QEMU's NVMe controller: PCIe, MSI-X.
pub const NVME: Model = Model { name: "nvme", vendor: 0x1b36, device: 0x0010 };
/// Intel 82574L: PCIe, MSI-X.
pub const E1000E: Model = Model { name: "e1000e", vendor: 0x8086, device: 0x10d3 };
/// Intel 82540EM: conventional PCI, INTx only, no way to reset it.
pub const E1000: Model = Model { name: "e1000", vendor: 0x8086, device: 0x100e };
/// Intel 82576: PCIe, SR-IOV.
pub const IGB: Model = Model { name: "igb", vendor: 0x8086, device: 0x10c9 };
/// A virtual function of the 82576.
pub const IGBVF: Model = Model { name: "igbvf", vendor: 0x8086, device: 0x10ca };
/// SATA controller of Intel's ICH9: conventional PCI, MSI without MSI-X, no way to reset it.
pub const AHCI: Model = Model { name: "ahci", vendor: 0x8086, device: 0x2922 };
/// QEMU's educational device: a DMA engine that can be aimed anywhere.
pub const EDU: Model = Model { name: "edu", vendor: 0x1234, device: 0x11e8 };

impl fmt::Display for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({:04x}:{:04x})", self.name, self.vendor, self.device)
    }
}

/// Where a device of the table is attached.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// On the root bus, in this slot.
    Slot(u8),
    /// Behind a root port of its own in this slot, so that the port's secondary bus reset is for it alone.
    RootPort(u8),
    /// The next function of the device behind the root port in this slot.
    SameDevice(u8),
}

/// What differs from one boot to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// What all scenarios begin with.
    Usual,
    /// As if a card had been plugged in: one more root port comes before all others, and the numbers of all their buses are
    /// higher by one.
    OneMoreBus,
}

/// A function of the machine, as an argument of QEMU's `-device`. `{disk}` stands for the content of the disks.
struct Function {
    place: Place,
    /// `-drive` or `-netdev` behind it, named by the slot, and by the function where it is not the first.
    backend: Option<Backend>,
    device: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Disk,
    /// A disk on the first port of the controller, which is called `ahci`.
    SataDisk,
    Network,
}

/// Interrupt pins of slots on the root bus are spread over four lines by slot number modulo 4 (QEMU's hw/isa/lpc_ich9.c
/// wires it as the chip set's default). The e1000 has residue 1 to itself: a shared line is a refusal of its own. Scenarios know
/// devices of one model by their order: new ones come last.
const FUNCTIONS: &[Function] = &[
    Function { place: Place::Slot(0x04), backend: Some(Backend::SataDisk), device: "ich9-ahci,id=ahci" },
    Function { place: Place::Slot(0x05), backend: Some(Backend::Network), device: "e1000" },
    Function { place: Place::Slot(0x06), backend: None, device: "edu" },
    Function { place: Place::RootPort(0x08), backend: Some(Backend::Disk), device: "nvme,serial=XENPCID-NVME-0" },
    Function { place: Place::RootPort(0x0a), backend: Some(Backend::Disk), device: "nvme,serial=XENPCID-NVME-1" },
    Function { place: Place::RootPort(0x0b), backend: Some(Backend::Network), device: "e1000e" },
    Function { place: Place::RootPort(0x0c), backend: Some(Backend::Network), device: "e1000e" },
    Function { place: Place::RootPort(0x0e), backend: Some(Backend::Network), device: "igb" },
    Function { place: Place::RootPort(0x0f), backend: Some(Backend::Network), device: "e1000e,multifunction=on" },
    Function { place: Place::SameDevice(0x0f), backend: Some(Backend::Network), device: "e1000e" },
];

/// Where [`Layout::OneMoreBus`] has its root port: before all others.
const ANOTHER_SLOT: u8 = 0x07;

/// QEMU's arguments for all of them. The network cards are on one hub, with QEMU's own host at 10.0.2.2 that answers
/// pings, and no way out of the machine.
#[must_use]
pub fn arguments(layout: Layout, disk: &str) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-netdev", "user,id=host,restrict=on", "-netdev", "hubport,id=hub-host,hubid=0,netdev=host"]
            .map(str::to_owned)
            .into();
    if layout == Layout::OneMoreBus {
        arguments.extend(root_port(ANOTHER_SLOT));
    }
    for function in FUNCTIONS {
        let (slot, bus) = match function.place {
            Place::Slot(slot) => (slot.to_string(), format!(",bus=pcie.0,addr={slot:#x}")),
            Place::RootPort(slot) => {
                arguments.extend(root_port(slot));
                (slot.to_string(), format!(",bus=port{slot},addr=0.0"))
            }
            Place::SameDevice(slot) => (format!("{slot}-1"), format!(",bus=port{slot},addr=0.1")),
        };
        let backend = match function.backend {
            None => String::new(),
            Some(Backend::Network) => {
                arguments.push("-netdev".to_owned());
                arguments.push(format!("hubport,id=net{slot},hubid=0"));
                // No boot firmware of the card: nothing boots from it.
                format!(",netdev=net{slot},romfile=")
            }
            Some(Backend::Disk | Backend::SataDisk) => {
                arguments.push("-drive".to_owned());
                // What a guest writes is forgotten with the machine. A comma in a file name is written twice.
                let file = disk.replace(',', ",,");
                arguments.push(format!("if=none,id=disk{slot},format=raw,snapshot=on,file={file}"));
                if function.backend == Some(Backend::Disk) { format!(",drive=disk{slot}") } else { String::new() }
            }
        };
        arguments.push("-device".to_owned());
        arguments.push(format!("{}{backend}{bus}", function.device));
        if function.backend == Some(Backend::SataDisk) {
            arguments.push("-device".to_owned());
            arguments.push(format!("ide-hd,drive=disk{slot},bus=ahci.0"));
        }
    }
    arguments
}

fn root_port(slot: u8) -> [String; 2] {
    let port = format!("pcie-root-port,id=port{slot},bus=pcie.0,addr={slot:#x},chassis={slot},slot={slot}");
    ["-device".to_owned(), port]
}

/// A PCI function as dom0's sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Segment, bus, device, function, as in `0000:03:00.0`.
    pub sbdf: String,
    /// PCI vendor ID.
    pub vendor: u16,
    /// PCI device ID.
    pub device: u16,
    /// Driver bound to it, or `-`.
    pub driver: String,
    /// What `driver_override` holds; `(null)` for nothing.
    pub driver_override: String,
}

/// Prints what [`parse`] reads, with few processes, since each one takes its time under emulation. A virtual function's
/// own vendor and device registers read ffff; sysfs has the right values.
pub const LIST: &str = "\
cd /sys/bus/pci/devices
grep -H . */vendor */device */driver_override
ls -ld */driver 2> /dev/null || true";

/// Reads the output of [`LIST`]: lines `ADDRESS/ATTRIBUTE:VALUE`, and of `ls` lines `... ADDRESS/driver -> .../NAME`.
#[must_use]
pub fn parse(text: &str) -> Vec<Found> {
    let mut functions: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in text.lines() {
        let (path, value) = match line.split_once(" -> ") {
            Some((listing, target)) => (listing.rsplit(' ').next().unwrap_or_default(), target),
            None => match line.rsplit_once(':') {
                Some(pair) => pair,
                None => continue,
            },
        };
        if let Some((sbdf, attribute)) = path.split_once('/') {
            functions.entry(sbdf).or_default().insert(attribute, value.rsplit('/').next().unwrap_or(value));
        }
    }
    functions.into_iter().filter_map(|(sbdf, attributes)| found(sbdf, &attributes)).collect()
}

fn found(sbdf: &str, attributes: &BTreeMap<&str, &str>) -> Option<Found> {
    let number = |name: &str| u16::from_str_radix(attributes.get(name)?.trim_start_matches("0x"), 16).ok();
    Some(Found {
        sbdf: sbdf.to_owned(),
        vendor: number("vendor")?,
        device: number("device")?,
        driver: attributes.get("driver").copied().unwrap_or("-").to_owned(),
        driver_override: attributes.get("driver_override").copied().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_bus_and_each_bus_exists() {
        let arguments = arguments(Layout::Usual, "/cache/a,b.img");
        let ports = arguments.iter().filter(|argument| argument.starts_with("pcie-root-port,")).count();
        for place in arguments.iter().filter_map(|argument| argument.split(",bus=port").nth(1)) {
            let port = place.split(',').next().unwrap();
            assert!(arguments.iter().any(|argument| argument.contains(&format!("id=port{port},"))), "{port}");
        }
        assert_eq!(ports, 6);
        assert!(arguments.iter().any(|argument| argument.ends_with("file=/cache/a,,b.img")));
    }

    #[test]
    fn one_more_bus_comes_before_all_others_and_changes_nothing_else() {
        let usual = arguments(Layout::Usual, "/disk");
        let mut other = arguments(Layout::OneMoreBus, "/disk");
        let first = other.iter().position(|argument| argument.starts_with("pcie-root-port,")).unwrap();
        assert!(other[first].contains("addr=0x7,"), "{}", other[first]);
        other.drain(first - 1..=first);
        assert_eq!(other, usual);
    }

    #[test]
    fn inventory_is_read() {
        let text = "\
0000:00:05.0/vendor:0x8086
0000:03:00.0/vendor:0x8086
0000:00:05.0/device:0x100e
0000:03:00.0/device:0x10d3
0000:00:05.0/driver_override:(null)
0000:03:00.0/driver_override:pci-stub
lrwxrwxrwx 1 0 0 0 Nov 22 18:34 0000:03:00.0/driver -> ../../../../bus/pci/drivers/pci-stub
";
        let function = |sbdf: &str, model: Model, driver: &str, driver_override: &str| Found {
            sbdf: sbdf.to_owned(),
            vendor: model.vendor,
            device: model.device,
            driver: driver.to_owned(),
            driver_override: driver_override.to_owned(),
        };
        assert_eq!(
            parse(text),
            [function("0000:00:05.0", E1000, "-", "(null)"), function("0000:03:00.0", E1000E, "pci-stub", "pci-stub"),]
        );
    }
}
