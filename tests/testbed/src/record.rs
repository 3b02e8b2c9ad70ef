//! Records devices: boots Linux without Xen, with one of QEMU's devices of each kind, and has lspci write down what each is.
//! The files are what tests of policies run on.

use std::fs;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::testbed::Testbed;
use crate::workspace;

/// Where the files are, in the workspace.
const FOLDER: &str = "tests/devices";

/// Slots of the root bus below are the testbed's own.
const FIRST_SLOT: usize = 4;

/// Where a device is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bus {
    /// The root bus, as a conventional device or one that is integrated into the root complex.
    Root,
    /// A root port of its own.
    Port,
}

/// A device, and the name of its file.
struct Recording {
    name: &'static str,
    bus: Bus,
    /// Argument of QEMU's `-device`.
    device: &'static str,
    /// A virtual function is recorded in place of the physical one, which this driver serves.
    virtual_function_of: Option<&'static str>,
}

const fn conventional(name: &'static str, device: &'static str) -> Recording {
    Recording { name, bus: Bus::Root, device, virtual_function_of: None }
}

const fn express(name: &'static str, device: &'static str) -> Recording {
    Recording { name, bus: Bus::Port, device, virtual_function_of: None }
}

const RECORDINGS: &[Recording] = &[
    express("nvme", "nvme,serial=RECORDED"),
    express(
        "nvme-sriov",
        "nvme,serial=RECORDED-SRIOV,subsys=subsystem,max_ioqpairs=6,msix_qsize=7,\
         sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=4",
    ),
    express("e1000e", "e1000e"),
    conventional("e1000", "e1000"),
    express("igb", "igb"),
    Recording { name: "igbvf", bus: Bus::Port, device: "igb", virtual_function_of: Some("igb") },
    express("virtio-net", "virtio-net-pci,ats=on,aer=on,disable-legacy=on"),
    conventional("rtl8139", "rtl8139"),
    express("vmxnet3", "vmxnet3"),
    conventional("ich9-ahci", "ich9-ahci"),
    express("megasas-gen2", "megasas-gen2"),
    express("pvscsi", "pvscsi"),
    conventional("sdhci", "sdhci-pci"),
    express("qemu-xhci", "qemu-xhci"),
    express("nec-xhci", "nec-usb-xhci"),
    conventional("ich9-uhci", "ich9-usb-uhci1"),
    conventional("intel-hda", "intel-hda"),
    conventional("vga", "VGA"),
];

/// Records the devices with these names, or all if there are none.
///
/// # Errors
/// If a name is unknown, the machine does not come up, or a file cannot be written.
pub fn run(testbed: &Rc<Testbed>, names: &[String]) -> Result<()> {
    let chosen = choose(names)?;
    let machine = Machine::boot_linux(testbed, &arguments(&chosen))?;
    let folder = workspace::folder().join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    for (slot, recording) in (FIRST_SLOT..).zip(&chosen) {
        let path = folder.join(format!("{}.txt", recording.name));
        fs::write(&path, recording.read(&machine, slot)?).map_err(Error::io("write", &path))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static Recording>> {
    let is_known = |name: &&String| RECORDINGS.iter().any(|recording| recording.name == **name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = RECORDINGS.iter().map(|recording| recording.name).collect();
        return Err(Error::Unsuitable(format!("there is no device {unknown}; there are: {}", known.join(", "))));
    }
    let is_chosen = |recording: &&Recording| names.is_empty() || names.iter().any(|name| name == recording.name);
    Ok(RECORDINGS.iter().filter(is_chosen).collect())
}

fn arguments(chosen: &[&Recording]) -> Vec<String> {
    let mut arguments = vec!["nvme-subsys,id=subsystem".to_owned()];
    for (slot, recording) in (FIRST_SLOT..).zip(chosen) {
        let device = recording.device;
        match recording.bus {
            Bus::Root => arguments.push(format!("{device},bus=pcie.0,addr={slot:#x}")),
            Bus::Port => {
                let port = format!("pcie-root-port,id=port{slot},bus=pcie.0,addr={slot:#x},chassis={slot},slot={slot}");
                arguments.extend([port, format!("{device},bus=port{slot}")]);
            }
        }
    }
    arguments.into_iter().flat_map(|device| ["-device".to_owned(), device]).collect()
}

impl Recording {
    /// lspci's text of the function, which decodes memory and I/O ports as a device in use does.
    fn read(&self, machine: &Machine, slot: usize) -> Result<String> {
        let at_slot = format!("/sys/bus/pci/devices/0000:00:{slot:02x}.0");
        let mut folder = match self.bus {
            Bus::Root => at_slot,
            Bus::Port => machine.dom0().sh(&format!("echo {at_slot}/0000:*:00.0"))?.trim().to_owned(),
        };
        if let Some(driver) = self.virtual_function_of {
            let bind = format!("modprobe {driver} && echo 1 > {folder}/sriov_numvfs && readlink -f {folder}/virtfn0");
            folder = machine.dom0().sh(&bind)?.trim().to_owned();
        }
        // The kernel refuses to enable a device that has a driver; virtio's has come for the testbed's own devices.
        let text = machine.dom0().sh(&format!(
            "cd {folder} && {{ [ ! -e driver ] || echo ${{PWD##*/}} > driver/unbind; }} && echo 1 > enable && \
             lspci -nnvvvxxxx -s ${{PWD##*/}} 2> /dev/null"
        ))?;
        Ok(format!("{}\n", text.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_slot_and_an_unknown_one_is_refused_with_the_known_ones() {
        let all = choose(&[]).unwrap();
        assert!(arguments(&all).iter().any(|argument| argument == "e1000,bus=pcie.0,addr=0x7"));
        // The last slot of the root bus is the chip set's.
        assert!(FIRST_SLOT + all.len() <= 0x1f);

        let error = choose(&["igb".to_owned(), "floppy".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("no device floppy") && error.contains("nvme-sriov"), "{error}");
    }
}
