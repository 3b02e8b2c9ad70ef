//! Policies at work: what drivers miss under `default`, a hidden capability, and the way from a refusal to a policy that
//! lets exactly that through.

use serde::Deserialize;

use crate::error::{Error, Result, expect};
use crate::machine::devices::{E1000E, IGB, IGBVF, Model, NVME};
use crate::machine::{Guest, GuestConfiguration, Machine};
use crate::scenarios::config_space::{self, ConfigSpace};
use crate::scenarios::configuration::{self, Declared};
use crate::scenarios::{in_guest, network, nvme};

/// Registers that drivers write without minding that nothing happens, and why they do not mind.
const NOT_MISSED: &[(Model, &str, &str)] = &[
    (NVME, "pcie.devctl", "Linux enables extended tags if the device has them, and goes by what the device says"),
    (E1000E, "pcie.devctl", "Linux enables extended tags if the device has them, and goes by what the device says"),
    (E1000E, "pcie.lnkctl", "the driver switches the link's power states off, which the host has not switched on"),
    (IGBVF, "pcie.devctl", "Linux enables extended tags if the device has them, and goes by what the device says"),
];

/// Offsets in the SR-IOV capability (SR-IOV 1.1, 3.3).
const NUM_VFS: usize = 0x10;
const SYSTEM_PAGE_SIZE: usize = 0x20;
/// Where the 82576 has that capability, and its identifier.
const SRIOV: usize = 0x160;
const SRIOV_ID: u8 = 0x10;

const POLICIES: &str = "/etc/xenpcid/policies";

/// What `xenpci denied --json` says of a register, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Denied {
    device: String,
    register: Option<String>,
    offset: usize,
}

#[derive(Debug, Deserialize)]
struct DeniedReply {
    denied: Vec<Denied>,
}

pub fn policy_live(machine: &mut Machine) -> Result<()> {
    machine.dom0().sh(&format!("rm -rf {POLICIES}"))?;
    drivers_miss_nothing(machine)?;
    hidden_capability(machine)
}

/// The drivers of three devices work under `default`, also after a reset that the guest asks for, and what they tried in vain is
/// on the list.
fn drivers_miss_nothing(machine: &mut Machine) -> Result<()> {
    network::make_virtual_functions(machine)?;
    let devices = [NVME, E1000E, IGBVF].map(|model| machine.find(model, 0).map(|sbdf| (model, sbdf)));
    let devices = devices.into_iter().collect::<Result<Vec<_>>>()?;
    let declared: Vec<Declared> = devices.iter().map(|(_, sbdf)| Declared::new(sbdf)).collect();
    let daemon = machine.start_daemon(&configuration::text(&[("drivers", &declared)]))?;
    let guest = machine.start_guest(&GuestConfiguration::new("drivers"))?;
    nvme::expect_queues(&guest)?;
    nvme::expect_content(&guest)?;
    network::expect_e1000e(&guest)?;
    network::take_down(&guest)?;
    network::expect_igbvf(&guest)?;
    in_guest::expect_no_complaints(&guest)?;

    // Function Level Reset, by the guest: the daemon does it, and the guest's driver goes on with its interrupts.
    let sbdf = in_guest::wait_for_device(&guest, NVME)?;
    guest.channel().sh(&format!(
        "echo flr > /sys/bus/pci/devices/{sbdf}/reset_method; echo 1 > /sys/bus/pci/devices/{sbdf}/reset"
    ))?;
    nvme::expect_content(&guest)?;

    let reply = machine.dom0().sh("xenpci denied --json")?;
    let DeniedReply { denied } = serde_json::from_str(&reply).map_err(|error| malformed(&error, &reply))?;
    for Denied { device, register, offset } in &denied {
        let model = devices.iter().find(|(_, sbdf)| sbdf == device).map(|(model, _)| *model);
        let is_listed = |(of, name, _): &&(Model, &str, &str)| Some(*of) == model && register.as_deref() == Some(*name);
        expect(
            NOT_MISSED.iter().any(|entry| is_listed(&entry)),
            "no write that a driver misses",
            format!("{register:?} at {offset:#x} of {model:?}; all of it:\n{reply}"),
        )?;
    }
    machine.destroy_guest(&guest)?;
    daemon.stop(machine)?;
    machine
        .dom0()
        .sh("for count in /sys/bus/pci/devices/*/sriov_numvfs; do echo 0 > $count; done; modprobe -r igb")
        .map(drop)
}

/// The physical function in a guest: its SR-IOV capability is hidden, a write there reaches nothing; then, with the policy
/// that `xenpci suggest` prints, that write passes and others there do not.
fn hidden_capability(machine: &mut Machine) -> Result<()> {
    let device = machine.find(IGB, 0)?;
    let before = ConfigSpace::read(machine.dom0(), &device)?;
    expect(before.byte(SRIOV) == SRIOV_ID, "SR-IOV at 0x160", format!("{:#x}", before.byte(SRIOV)))?;
    let configuration = configuration::text(&[("physical", &[Declared::new(&device)])]);
    let daemon = machine.start_daemon(&configuration)?;
    let guest = machine.start_guest(&GuestConfiguration::new("physical"))?;
    let sbdf = in_guest::wait_for_device(&guest, IGB)?;
    let capabilities = guest.channel().sh(&format!("lspci -vv -s {sbdf}"))?;
    expect(!capabilities.contains("SR-IOV"), "no SR-IOV in the guest's list", &capabilities)?;
    in_guest::expect_parts("lspci", &capabilities, &["Advanced Error Reporting", "MSI-X:"])?;

    let at_first = hardware(machine, &device, NUM_VFS)?;
    write(&guest, &sbdf, NUM_VFS, 3)?;
    expect(hardware(machine, &device, NUM_VFS)? == at_first, "NumVFs as it was", format!("{at_first:#x} changed"))?;
    let suggested = machine.dom0().sh(&format!("xenpci suggest {device}"))?;
    // What is counted while it watches is what happens while it watches: the guest writes all the time.
    machine.dom0().sh(&format!(
        "(xenpci learn {device} --for 10s > /run/learned.toml; echo $? > /run/learned.exit) > /dev/null 2>&1 &"
    ))?;
    for _ in 0..12 {
        write(&guest, &sbdf, NUM_VFS, 3)?;
        guest.channel().sh("sleep 1")?;
    }
    machine.dom0().wait_until("xenpci learn to end", "[ -s /run/learned.exit ]")?;
    let learned = machine.dom0().sh("cat /run/learned.toml")?;
    in_guest::expect_parts("xenpci suggest", &suggested, &["sriov", "#!"])?;
    in_guest::expect_parts("xenpci learn", &learned, &["sriov", "#!"])?;
    machine.destroy_guest(&guest)?;
    daemon.stop(machine)?;

    // The operator has read it and wants it. A file's name is its policy's.
    let policy: String =
        learned.lines().map(|line| format!("{}\n", line.strip_prefix("#! ").unwrap_or(line))).collect();
    let name = policy.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let name = name.ok_or_else(|| malformed(&"no name", &policy))?;
    machine.dom0().sh(&format!("mkdir -p {POLICIES}; cat > {POLICIES}/{name}.toml <<'END'\n{policy}END"))?;
    machine.dom0().sh(&format!("xenpci check {POLICIES}/{name}.toml"))?;
    machine.start_daemon(&configuration)?;
    let guest = machine.start_guest(&GuestConfiguration::new("physical"))?;
    let sbdf = in_guest::wait_for_device(&guest, IGB)?;
    let page_size = hardware(machine, &device, SYSTEM_PAGE_SIZE)?;
    write(&guest, &sbdf, NUM_VFS, 3)?;
    write(&guest, &sbdf, SYSTEM_PAGE_SIZE, page_size ^ 3)?;
    let (num_vfs, after) = (hardware(machine, &device, NUM_VFS)?, hardware(machine, &device, SYSTEM_PAGE_SIZE)?);
    expect(num_vfs == 3, "NumVFs 3 in the hardware, with the policy that was learned", num_vfs.to_string())?;
    expect(after == page_size, "System Page Size as it was", format!("{page_size:#x} became {after:#x}"))?;
    write(&guest, &sbdf, NUM_VFS, at_first)?;
    machine.dom0().sh(&format!("rm -rf {POLICIES}")).map(drop)
}

/// A write of 2 bytes in the SR-IOV capability, by the guest's kernel.
fn write(guest: &Guest, sbdf: &str, offset: usize, value: u16) -> Result<()> {
    let [low, high] = value.to_le_bytes();
    let file = config_space::file(sbdf);
    let place = (SRIOV + offset) / 2;
    let command =
        format!("printf '\\x{low:02x}\\x{high:02x}' | dd of={file} bs=2 seek={place} conv=notrunc 2> /dev/null");
    guest.channel().sh(&command).map(drop)
}

/// What the device has there.
fn hardware(machine: &Machine, device: &str, offset: usize) -> Result<u16> {
    let space = ConfigSpace::read(machine.dom0(), device)?;
    Ok(u16::from_le_bytes([space.byte(SRIOV + offset), space.byte(SRIOV + offset + 1)]))
}

fn malformed(problem: &dyn std::fmt::Display, text: &str) -> Error {
    Error::Malformed { object: "what xenpci printed".to_owned(), problem: format!("{problem}:\n{text}") }
}
