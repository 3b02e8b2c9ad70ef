//! That the testbed itself works. Nothing of xenpcid takes part.

use crate::error::{Result, expect};
use crate::machine::devices::{E1000, E1000E, EDU, IGB, NVME};
use crate::machine::{GuestConfiguration, Machine};

/// Xen, dom0 and the devices are what the other scenarios build on.
pub fn boot(machine: &mut Machine) -> Result<()> {
    let info = machine.dom0().sh("xl info")?;
    let capabilities = info.lines().find(|line| line.starts_with("virt_caps")).unwrap_or("no virt_caps");
    let words: Vec<&str> = capabilities.split_whitespace().collect();
    expect(words.contains(&"pv_directio"), "virt_caps with pv_directio in `xl info`", capabilities)?;

    let name = machine.dom0().sh("xenstore-read /local/domain/0/name")?;
    expect(name.trim() == "Domain-0", "Domain-0 as dom0's name in xenstore", name)?;

    for (model, count) in [(NVME, 2), (E1000E, 2), (E1000, 1), (IGB, 1), (EDU, 1)] {
        machine.find(model, count - 1)?;
    }

    let lost = machine.lost_interrupt()?;
    expect(lost.is_none(), "all CPUs at work or ready for it, by QEMU's monitor", format!("{lost:?}"))?;

    let modules = machine.dom0().sh("cat /proc/modules")?;
    expect(!modules.contains("xen_pciback"), "no xen-pciback in dom0", "it is loaded")
}

/// A guest with an IOMMU context and without devices.
pub fn guest(machine: &mut Machine) -> Result<()> {
    let guest = machine.start_guest(&GuestConfiguration::new("plain"))?;

    let cpus = guest.channel().sh("grep -c ^processor /proc/cpuinfo")?;
    expect(cpus.trim() == "2", "2 CPUs in the guest", cpus)?;

    let domain = guest.channel().sh("cat /sys/hypervisor/type /sys/hypervisor/guest_type")?;
    expect(domain == "xen\nPV\n", "a PV domain of Xen", domain)?;

    // More than the rings of the channel hold.
    let output = guest.channel().sh("seq 1 60000")?;
    let expected: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
    expect(
        output == expected,
        "348 KB of output from the guest, unchanged",
        format!("{} bytes of something else", output.len()),
    )?;

    guest.channel().sh("(sleep 0.5; poweroff -f) > /dev/null 2>&1 &")?;
    machine.wait_for_end(&guest)
}
