//! Conformance suite of [`PciHost`].
//!
//! [`fixed`] asks for what any host must answer alike, and runs over the simulated host and over Linux' sysfs code on a tree of
//! files made from it. [`living`] needs a host that reacts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use xenpcid_address::Sbdf;
use xenpcid_host::{Errno, HostError, HostUse, PciHost, Sysfs, VirtualFunctions, serial_number};
use xenpcid_policy::{Access, ConfigSize};
use xenpcid_simhost::{Bridge, HostOptions, SimDevice, VirtualFunctionAddress, World};

use super::{ABSENT, NIC, NVME, OLD_NIC, PHYSICAL, VIRTUAL, world};

const BRIDGE: Sbdf = Sbdf::from_devfn(0, 0, 0xe0);
const BEHIND: Sbdf = Sbdf::from_devfn(0, 3, 0);
const CACHE_LINE_SIZE: Access = Access::byte(0x0c);
const MEMORY_AND_IO: u32 = 0x0003;
const MASTER: u32 = 0x0004;

fn errno<T>(result: Result<T, HostError>) -> Option<Errno> {
    result.err().map(|error| error.errno)
}

/// What does not depend on time: descriptions, files that are there or not, widths of accesses.
fn fixed(host: &dyn PciHost) {
    assert_eq!(host.functions().unwrap(), [NIC, NVME, OLD_NIC, PHYSICAL, VIRTUAL]);

    let nic = host.describe(NIC).unwrap();
    assert_eq!((nic.vendor, nic.device, nic.class, nic.driver.as_deref()), (0x8086, 0x10d3, 0x02_0000, Some("e1000e")));
    assert_eq!((nic.resources[0].start, nic.resources[0].size()), (0xfeb8_0000, 128 * 1024));
    assert!(nic.resources[2].is_io() && !nic.resources[4].is_present());
    assert_eq!(nic.physical_function, None);
    let nvme = host.describe(NVME).unwrap();
    assert!(nvme.resources[0].is_64_bit() && nvme.resources[0].start > u64::from(u32::MAX));
    let vf = host.describe(VIRTUAL).unwrap();
    assert_eq!((vf.vendor, vf.device, vf.physical_function), (0x8086, 0x10ca, Some(PHYSICAL)));

    assert!(host.reset_methods(NIC).unwrap().contains(&"pm".to_owned()));
    assert!(host.reset_methods(NVME).unwrap().contains(&"flr".to_owned()));
    assert!(host.reset_methods(OLD_NIC).unwrap().is_empty());

    absent(host);
    config_space(host);
}

fn absent(host: &dyn PciHost) {
    assert_eq!(errno(host.describe(ABSENT)), Some(Errno::ENODEV));
    assert_eq!(errno(host.set_driver_override(ABSENT, Some("x"))), Some(Errno::ENOENT));
    assert_eq!(errno(host.set_enabled(ABSENT, true)), Some(Errno::ENOENT));
    assert_eq!(errno(host.set_power_policy(ABSENT, crate::PINNED)), Some(Errno::ENOENT));
    assert_eq!(errno(host.open_config(ABSENT)), Some(Errno::ENOENT));
    assert_eq!(errno(host.reset(ABSENT, "flr")), Some(Errno::ENOTTY));
    assert_eq!(errno(host.reset(OLD_NIC, "flr")), Some(Errno::ENOTTY));
    assert_eq!(errno(host.unbind(ABSENT)), None);
    assert!(host.reset_methods(ABSENT).unwrap().is_empty());
}

fn config_space(host: &dyn PciHost) {
    let nic = host.open_config(NIC).unwrap();
    assert_eq!(nic.size(), ConfigSize::Express);
    assert_eq!(nic.read(Access::dword(0x00)).unwrap(), 0x10d3_8086);
    assert_eq!(nic.read(Access::word(0x02)).unwrap(), 0x10d3);
    assert_eq!(nic.read(Access::byte(0x03)).unwrap(), 0x10);
    assert_eq!(nic.read(Access::word(0x100)).unwrap(), 0x0001);
    let around = nic.read(Access::dword(0x0c)).unwrap();
    nic.write(CACHE_LINE_SIZE, 0x10).unwrap();
    assert_eq!(nic.read(Access::dword(0x0c)).unwrap(), around & !0xff | 0x10);

    let old = host.open_config(OLD_NIC).unwrap();
    assert_eq!(old.size(), ConfigSize::Conventional);
    assert_eq!(errno(old.read(Access::dword(0x100))), Some(Errno::EIO));

    let vf = host.open_config(VIRTUAL).unwrap();
    assert_eq!(vf.read(Access::dword(0x00)).unwrap(), 0xffff_ffff);
}

/// What reacts: drivers come and go, functions are enabled and reset.
fn living(host: &dyn PciHost) {
    drivers(host);
    enabling(host);
    reset(host);
}

fn driver(host: &dyn PciHost, function: Sbdf) -> Option<String> {
    host.describe(function).unwrap().driver
}

fn drivers(host: &dyn PciHost) {
    host.unbind(NIC).unwrap();
    assert_eq!(driver(host, NIC), None);
    host.unbind(NIC).unwrap();
    // The name of no driver keeps all of them away.
    host.set_driver_override(NIC, Some("nobody")).unwrap();
    host.probe(NIC).unwrap();
    assert_eq!(driver(host, NIC), None);
    host.set_driver_override(NIC, Some("pci-stub")).unwrap();
    host.probe(NIC).unwrap();
    assert_eq!(driver(host, NIC).as_deref(), Some("pci-stub"));
    // A function that has a driver keeps it.
    host.set_driver_override(NIC, None).unwrap();
    host.probe(NIC).unwrap();
    assert_eq!(driver(host, NIC).as_deref(), Some("pci-stub"));
    host.unbind(NIC).unwrap();
    host.probe(NIC).unwrap();
    assert_eq!(driver(host, NIC).as_deref(), Some("e1000e"));
}

fn enabling(host: &dyn PciHost) {
    let config = host.open_config(NVME).unwrap();
    let command = || config.read(Access::COMMAND).unwrap();
    assert_eq!(errno(host.set_enabled(NVME, true)), Some(Errno::EBUSY));
    assert_eq!(errno(host.set_enabled(NVME, false)), Some(Errno::EBUSY));
    host.unbind(NVME).unwrap();
    host.set_driver_override(NVME, Some("nobody")).unwrap();
    assert_eq!(errno(host.set_enabled(NVME, false)), Some(Errno::EIO));
    config.write(Access::COMMAND, 0).unwrap();

    host.set_enabled(NVME, true).unwrap();
    assert_eq!(command() & MEMORY_AND_IO, 0x2);
    assert_eq!(host.describe(NVME).unwrap().interrupt, 22);
    host.set_enabled(NVME, true).unwrap();
    config.write(Access::COMMAND, command() | MASTER).unwrap();
    host.set_enabled(NVME, false).unwrap();
    assert_ne!(command() & MASTER, 0, "there is one user left");
    host.set_enabled(NVME, false).unwrap();
    assert_eq!(command() & (MASTER | MEMORY_AND_IO), 0x2, "decoding stays on");
    host.set_driver_override(NVME, None).unwrap();
}

fn reset(host: &dyn PciHost) {
    /// Device Control and MSI-X Message Control of the NVMe controller.
    const DEVICE_CONTROL: Access = Access::word(0x68);
    const MSIX_CONTROL: Access = Access::word(0x52);
    let config = host.open_config(NVME).unwrap();
    let bars = [Access::dword(0x10), Access::dword(0x14)];
    let before = bars.map(|bar| config.read(bar).unwrap());
    config.write(Access::COMMAND, 0x6).unwrap();
    config.write(DEVICE_CONTROL, 0x2837).unwrap();
    config.write(MSIX_CONTROL, 0x8000).unwrap();

    host.reset(NVME, "flr").unwrap();

    assert_eq!(bars.map(|bar| config.read(bar).unwrap()), before);
    assert_eq!(config.read(Access::COMMAND).unwrap(), 0x6);
    assert_eq!(config.read(DEVICE_CONTROL).unwrap(), 0x2837);
    assert_eq!(config.read(MSIX_CONTROL).unwrap() & 0x8000, 0, "Linux does not know that MSI-X was on");
}

/// Files as Linux shows them, from a host that describes itself.
fn make_tree(root: &Path, host: &dyn PciHost) {
    let bus = root.join("bus/pci");
    fs::create_dir_all(bus.join("drivers")).unwrap();
    fs::write(bus.join("drivers_probe"), "").unwrap();
    for function in host.functions().unwrap() {
        let description = host.describe(function).unwrap();
        let steps = steps(host, function);
        let directory = steps.iter().fold(root.join("devices/pci0000:00"), |path, step| path.join(step.to_string()));
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(bus.join("devices")).unwrap();
        symlink(&directory, bus.join("devices").join(function.to_string())).unwrap();
        fs::create_dir_all(directory.join("power")).unwrap();
        let file = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
        file("vendor", format!("{:#06x}\n", description.vendor));
        file("device", format!("{:#06x}\n", description.device));
        file("class", format!("{:#08x}\n", description.class));
        file("subsystem_vendor", format!("{:#06x}\n", description.subsystem.0));
        file("subsystem_device", format!("{:#06x}\n", description.subsystem.1));
        if let Some(port) = host.port(function).unwrap() {
            file("label", format!("{port}\n"));
        }
        if let Some(virtual_functions) = description.virtual_functions {
            file("sriov_totalvfs", format!("{}\n", virtual_functions.total));
            file("sriov_numvfs", format!("{}\n", virtual_functions.enabled));
        }
        file("irq", format!("{}\n", description.interrupt));
        let line = |r: &xenpcid_policy::Resource| format!("{:#018x} {:#018x} {:#018x}\n", r.start, r.end, r.flags);
        file("resource", description.resources.iter().map(line).collect());
        file("driver_override", "(null)\n".to_owned());
        file("enable", "0\n".to_owned());
        file("power/control", "auto\n".to_owned());
        file("d3cold_allowed", "1\n".to_owned());
        let methods = host.reset_methods(function).unwrap();
        if !methods.is_empty() {
            file("reset_method", format!("{}\n", methods.join(" ")));
            file("reset", String::new());
        }
        if let Some(driver) = description.driver {
            fs::create_dir_all(bus.join("drivers").join(&driver)).unwrap();
            symlink(bus.join("drivers").join(driver), directory.join("driver")).unwrap();
        }
        if let Some(physical) = description.physical_function {
            symlink(format!("../{physical}"), directory.join("physfn")).unwrap();
        }
        let config = host.open_config(function).unwrap();
        let dwords = config.size().dwords().map(|access| config.read(access).unwrap());
        fs::write(directory.join("config"), dwords.flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    }
}

/// The bridges above a function, and it.
fn steps(host: &dyn PciHost, function: Sbdf) -> Vec<Sbdf> {
    let above = host.describe(function).unwrap().parent.map(|parent| steps(host, parent));
    above.unwrap_or_default().into_iter().chain([function]).collect()
}

#[test]
fn simulated_host_answers_as_any_host() {
    fixed(world().host().pci.as_ref());
}

#[test]
fn simulated_host_reacts_as_linux() {
    living(world().host().pci.as_ref());
}

#[test]
fn sysfs_answers_as_the_simulated_host() {
    let root = tempfile::tempdir().unwrap();
    let world = world();
    make_tree(root.path(), world.host().pci.as_ref());
    let sysfs = Sysfs::new(root.path());

    fixed(&sysfs);

    described_alike(root.path(), &sysfs, &world);
}

fn described_alike(root: &Path, sysfs: &Sysfs, world: &World) {
    for function in world.host().pci.functions().unwrap() {
        let simulated = format!("{:?}", world.host().pci.describe(function).unwrap());
        let real = format!("{:?}", sysfs.describe(function).unwrap());
        assert_eq!(real.replace(root.to_str().unwrap(), "/sys"), simulated);
    }
}

#[test]
fn place_of_a_function_and_its_virtual_functions_are_described_as_by_sysfs() {
    let root = tempfile::tempdir().unwrap();
    let world = World::new();
    world.add_device(SimDevice::bridge(BRIDGE, Bridge::RootPort));
    world.add_device(SimDevice::igb(BEHIND).behind(BRIDGE).with_port("Slot 3"));
    world.host().pci.set_virtual_functions(BEHIND, 2).unwrap();
    make_tree(root.path(), world.host().pci.as_ref());

    described_alike(root.path(), &Sysfs::new(root.path()), &world);

    let description = world.host().pci.describe(BEHIND).unwrap();
    assert_eq!(description.path, "pci0000:00/1c.0/00.0");
    assert_eq!(description.virtual_functions, Some(VirtualFunctions { total: 8, enabled: 2 }));
    assert_eq!(serial_number(world.host().pci.open_config(BEHIND).unwrap().as_ref()), Ok(Some(0x0080_e5ff_ff12_3456)));
}

#[test]
fn virtual_functions_come_without_drivers_and_go_with_the_physical_ones_driver() {
    let world = world();
    let host = world.host().pci;
    let is_virtual =
        |function: &Sbdf| host.describe(*function).unwrap().physical_function == Some(PHYSICAL) && *function != VIRTUAL;
    let virtual_functions = || host.functions().unwrap().into_iter().filter(is_virtual).collect::<Vec<_>>();

    host.set_virtual_functions(PHYSICAL, 3).unwrap();
    let three = virtual_functions();
    let drivers: Vec<_> = three.iter().map(|function| driver(host.as_ref(), *function)).collect();
    host.set_virtual_functions(PHYSICAL, 1).unwrap();
    let one = virtual_functions();
    host.unbind(PHYSICAL).unwrap();

    assert_eq!((three.len(), drivers), (3, vec![None; 3]));
    assert_eq!(one, three[..1]);
    assert_eq!(virtual_functions(), []);
    assert_eq!(errno(host.set_virtual_functions(PHYSICAL, 1)), Some(Errno::ENOENT));
    assert_eq!(errno(host.set_virtual_functions(NIC, 1)), Some(Errno::EOPNOTSUPP));
}

#[test]
fn virtual_functions_are_limited_and_have_addresses_of_their_own() {
    let world = world();
    let host = world.host().pci;
    let mac = Some([2, 0, 0, 0, 0, 1]);
    let is_virtual =
        |function: &Sbdf| host.describe(*function).unwrap().physical_function == Some(PHYSICAL) && *function != VIRTUAL;

    assert_eq!(errno(host.set_virtual_functions(PHYSICAL, 9)), Some(Errno::ERANGE));
    host.set_virtual_functions(PHYSICAL, 2).unwrap();
    let virtual_functions: Vec<Sbdf> = host.functions().unwrap().into_iter().filter(is_virtual).collect();
    let [first, second] = virtual_functions.as_slice() else { panic!("{virtual_functions:?}") };
    host.set_virtual_function_address(*second, mac, None).unwrap();
    host.set_virtual_function_address(*second, None, Some(7)).unwrap();

    assert_eq!(world.virtual_function_address(*second), VirtualFunctionAddress { mac, vlan: 7 });
    assert_eq!(world.virtual_function_address(*first), VirtualFunctionAddress::default());
    assert_eq!(errno(host.set_virtual_function_address(*first, None, Some(4096))), Some(Errno::EINVAL));
    assert_eq!(errno(host.set_virtual_function_address(NIC, mac, None)), Some(Errno::EINVAL));
    assert!(world.leaks().iter().any(|leak| leak.contains("still has")), "{:?}", world.leaks());
    host.set_virtual_function_address(*second, Some([0; 6]), Some(0)).unwrap();
    assert_eq!(world.virtual_function_address(*second), VirtualFunctionAddress::default());
    assert_eq!(world.leaks(), [""; 0]);
}

#[test]
fn dom0_uses_a_function_while_its_driver_has_it() {
    let world = world();
    let host = world.host().pci;
    let uses = vec![HostUse::DefaultRoute { interface: "xenbr0".to_owned() }];
    world.set_uses(NIC, uses.clone());

    let with_driver = host.uses(NIC).unwrap();
    host.unbind(NIC).unwrap();
    let without = host.uses(NIC).unwrap();
    host.bind(NIC, "e1000e").unwrap();

    assert_eq!((with_driver, without), (uses.clone(), Vec::new()));
    assert_eq!(host.uses(NIC), Ok(uses));
    assert_eq!(errno(host.bind(NIC, "floppy")), Some(Errno::ENOENT));
    assert_eq!(errno(host.bind(NIC, "nvme")), Some(Errno::ENODEV));
}

#[test]
fn pci_stub_that_is_not_loaded_does_not_bind() {
    let world = World::with_options(HostOptions { pci_stub: false, ..HostOptions::default() });
    world.add_device(SimDevice::e1000e(NIC));
    let host = world.host().pci;
    host.unbind(NIC).unwrap();
    host.set_driver_override(NIC, Some("pci-stub")).unwrap();

    host.probe(NIC).unwrap();

    assert_eq!(driver(host.as_ref(), NIC), None);
}

#[test]
fn interrupt_is_the_gsi_only_while_enabled_and_driverless() {
    let world = world();
    let host = world.host().pci;
    let interrupt = || host.describe(NIC).unwrap().interrupt;

    let with_driver = interrupt();
    host.unbind(NIC).unwrap();
    let never_enabled = interrupt();
    host.set_enabled(NIC, true).unwrap();

    assert!(with_driver > 24, "a Linux number of an MSI");
    assert_eq!(never_enabled, 0x0a, "what firmware wrote");
    assert_eq!(interrupt(), 21);
}

#[test]
fn function_asleep_is_woken_by_reset_and_by_enabling_with_its_addresses() {
    /// Power Management Control/Status, and the halves of the BAR.
    const PMCSR: Access = Access::word(0x44);
    const REGISTERS: [Access; 3] = [PMCSR, Access::dword(0x10), Access::dword(0x14)];
    let world = world();
    let host = world.host().pci;
    host.unbind(NVME).unwrap();
    let config = host.open_config(NVME).unwrap();
    let read = || REGISTERS.map(|register| config.read(register).unwrap());

    config.write(PMCSR, 3).unwrap();
    host.reset(NVME, "flr").unwrap();
    let after_reset = read();
    config.write(PMCSR, 3).unwrap();
    host.set_enabled(NVME, true).unwrap();

    assert_eq!((after_reset, read()), ([0, 0x0000_0004, 0x38], [0, 0x0000_0004, 0x38]));
}

#[test]
fn open_file_of_a_function_that_was_pulled_out_gives_enodev() {
    let world = world();
    let config = world.host().pci.open_config(NIC).unwrap();

    world.remove_device(NIC);

    assert_eq!(errno(config.read(Access::COMMAND)), Some(Errno::ENODEV));
    assert_eq!(errno(config.write(Access::COMMAND, 0)), Some(Errno::ENODEV));
    assert_eq!(errno(world.host().pci.probe(NIC)), Some(Errno::ENODEV));
}

#[test]
fn function_that_does_not_answer_reads_all_ones_and_cannot_be_reset() {
    let world = world();
    let host = world.host().pci;
    let config = host.open_config(NIC).unwrap();
    world.set_responding(NIC, false);

    config.write(CACHE_LINE_SIZE, 0x40).unwrap();
    let silent = config.read(CACHE_LINE_SIZE).unwrap();
    let reset = errno(host.reset(NIC, "pm"));
    world.set_responding(NIC, true);

    assert_eq!((silent, reset), (0xff, Some(Errno::ENOTTY)));
    assert_eq!(config.read(CACHE_LINE_SIZE).unwrap(), 0, "the write was lost");
}

#[test]
fn write_beyond_a_conventional_space_is_too_large() {
    let world = world();
    let config = world.host().pci.open_config(OLD_NIC).unwrap();

    assert_eq!(errno(config.write(Access::dword(0x100), 0)), Some(Errno::EFBIG));
}
