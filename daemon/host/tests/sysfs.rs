//! sysfs as a folder: what is read from it and written to it. That Linux then does what is asked is shown on real Xen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_host::{Errno, PciHost, PowerPolicy, Sysfs, VirtualFunctions};
use xenpcid_policy::{Access, ConfigSize};

const FUNCTION: Sbdf = Sbdf::from_devfn(0, 3, 0);

struct Tree {
    root: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap() };
        tree.write("vendor", "0x8086\n");
        tree.write("device", "0x10d3\n");
        tree.write("class", "0x020000\n");
        tree.write("subsystem_vendor", "0x8086\n");
        tree.write("subsystem_device", "0xa01f\n");
        tree.write("irq", "21\n");
        tree.write("driver_override", "(null)\n");
        tree.write("power/control", "auto\n");
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let memory = "0x00000000feb80000 0x00000000feb9ffff 0x0000000000040200\n";
        tree.write("resource", &(memory.to_owned() + &none.repeat(12)));
        fs::write(tree.attribute("config"), vec![0xff; 4096]).unwrap();
        tree
    }

    fn attribute(&self, name: &str) -> PathBuf {
        self.root.path().join("bus/pci/devices").join(FUNCTION.to_string()).join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.attribute(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.attribute(name)).unwrap()
    }

    fn host(&self) -> Sysfs {
        Sysfs::new(self.root.path())
    }
}

#[test]
fn function_is_described_from_its_attributes() {
    let tree = Tree::new();
    std::os::unix::fs::symlink("../../../bus/pci/drivers/e1000e", tree.attribute("driver")).unwrap();
    std::os::unix::fs::symlink("../0000:02:00.0", tree.attribute("physfn")).unwrap();

    let description = tree.host().describe(FUNCTION).unwrap();

    assert_eq!((description.vendor, description.device, description.class), (0x8086, 0x10d3, 0x02_0000));
    assert_eq!(description.interrupt, 21);
    assert_eq!(description.driver.as_deref(), Some("e1000e"));
    assert_eq!(description.physical_function, Some(Sbdf::from_devfn(0, 2, 0)));
    let sizes = description.resources.map(|resource| resource.size());
    assert_eq!(sizes, [0x2_0000, 0, 0, 0, 0, 0, 0]);
    assert_eq!(description.subsystem, (0x8086, 0xa01f));
    let port = tree.host().port(FUNCTION).unwrap();
    assert_eq!((description.parent, description.path.as_str(), port), (None, "", None));
    assert_eq!(description.virtual_functions, None);
    assert_eq!(description.driver_override, None);
    assert_eq!(description.power, PowerPolicy { runtime_suspend: true, d3cold_allowed: None });
}

#[test]
fn function_that_is_not_there_is_enodev_and_broken_attribute_einval() {
    let tree = Tree::new();

    let absent = tree.host().describe(Sbdf::from_devfn(0, 9, 0)).unwrap_err();
    tree.write("vendor", "intel\n");
    let broken = tree.host().describe(FUNCTION).unwrap_err();

    assert_eq!(absent.errno, Errno::ENODEV);
    assert_eq!(broken.errno, Errno::EINVAL);
    assert!(broken.object.ends_with("vendor"), "{broken}");
}

#[test]
fn functions_are_listed_in_order_and_other_names_left_out() {
    let tree = Tree::new();
    for name in ["0000:00:1f.0", "10000:e1:00.0"] {
        fs::create_dir_all(tree.root.path().join("bus/pci/devices").join(name)).unwrap();
    }

    let functions = tree.host().functions().unwrap();

    assert_eq!(functions, [Sbdf::new(0, 0, 0x1f, 0).unwrap(), FUNCTION]);
}

#[test]
fn attributes_are_written_as_linux_takes_them() {
    let tree = Tree::new();
    tree.write("d3cold_allowed", "1\n");
    for name in ["enable", "reset"] {
        tree.write(name, "");
    }
    tree.write("reset_method", "flr bus\n");
    let host = tree.host();

    let pinned = host.describe(FUNCTION).unwrap().power.pinned();
    tree.write("power/control", "");
    tree.write("d3cold_allowed", "");
    tree.write("driver_override", "");
    host.set_driver_override(FUNCTION, Some("pci-stub")).unwrap();
    host.set_enabled(FUNCTION, true).unwrap();
    host.set_power_policy(FUNCTION, pinned).unwrap();
    host.reset(FUNCTION, "bus").unwrap();

    assert_eq!(tree.read("driver_override"), "pci-stub");
    assert_eq!(tree.read("enable"), "1");
    assert_eq!(tree.read("power/control"), "on");
    assert_eq!(tree.read("d3cold_allowed"), "0");
    assert_eq!(tree.read("reset"), "1");
    assert_eq!(host.reset_methods(FUNCTION).unwrap(), ["flr", "bus"], "chosen as before");
}

#[test]
fn function_without_reset_says_so() {
    let tree = Tree::new();

    let error = tree.host().reset(FUNCTION, "flr").unwrap_err();

    assert_eq!(tree.host().reset_methods(FUNCTION).unwrap(), [""; 0]);
    assert_eq!(error.errno, Errno::ENOTTY);
    assert!(error.to_string().contains("best-effort"), "{error}");
}

#[test]
fn function_without_driver_need_not_be_unbound() {
    let tree = Tree::new();

    assert_eq!(tree.host().unbind(FUNCTION), Ok(()));
}

#[test]
fn configuration_accesses_have_the_width_asked_for() {
    let tree = Tree::new();
    let config = tree.host().open_config(FUNCTION).unwrap();

    config.write(Access::dword(0x10), 0x1122_3344).unwrap();
    config.write(Access::word(0x14), 0xffff_5566).unwrap();
    config.write(Access::byte(0x18), 0xffff_ff77).unwrap();

    assert_eq!(config.size(), ConfigSize::Express);
    assert_eq!(config.read(Access::dword(0x10)), Ok(0x1122_3344));
    assert_eq!(config.read(Access::dword(0x14)), Ok(0xffff_5566));
    assert_eq!(config.read(Access::dword(0x18)), Ok(0xffff_ff77));
    assert_eq!(config.read(Access::word(0x12)), Ok(0x1122));
    assert_eq!(config.read(Access::byte(0x11)), Ok(0x33));
}

#[test]
fn configuration_space_of_another_size_is_refused() {
    let tree = Tree::new();
    // What Linux shows to who is not root.
    fs::write(tree.attribute("config"), vec![0; 64]).unwrap();

    let error = tree.host().open_config(FUNCTION).map(drop).unwrap_err();

    assert_eq!(error.errno, Errno::EINVAL);
}

#[test]
fn place_is_told_without_bus_numbers() {
    let tree = Tree::new();
    let above = tree.root.path().join("devices/pci0000:00/0000:00:1c.4/0000:02:00.0/0000:03:00.0");
    std::fs::create_dir_all(above.parent().unwrap()).unwrap();
    let folder = tree.attribute("vendor").parent().unwrap().to_owned();
    fs::rename(&folder, &above).unwrap();
    std::os::unix::fs::symlink(&above, &folder).unwrap();
    let port = || tree.host().port(FUNCTION).unwrap();

    let description = tree.host().describe(FUNCTION).unwrap();
    let unnamed = port();
    for (slot, address) in [("3-1", "0000:03:00"), ("7", "0000:07:00")] {
        let slot = tree.root.path().join("bus/pci/slots").join(slot);
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join("address"), format!("{address}\n")).unwrap();
    }
    let in_slot = port();
    tree.write("label", "Onboard LAN 1\n");
    let labelled = port();

    assert_eq!(description.parent, Some(Sbdf::from_devfn(0, 2, 0)));
    assert_eq!(description.path, "pci0000:00/1c.4/00.0/00.0");
    assert_eq!([unnamed, in_slot, labelled].map(Option::unwrap_or_default), ["", "slot 3-1", "Onboard LAN 1"]);
}

#[test]
fn driver_is_told_with_its_folder_and_bound_by_its_name() {
    let tree = Tree::new();
    let driver = tree.root.path().join("bus/pci/drivers/e1000e");
    fs::create_dir_all(&driver).unwrap();
    fs::write(driver.join("bind"), "").unwrap();
    std::os::unix::fs::symlink("../../drivers/e1000e", tree.attribute("driver")).unwrap();

    let found = tree.host().describe(FUNCTION).unwrap().driver_path;
    tree.host().bind(FUNCTION, "e1000e").unwrap();
    let unknown = tree.host().bind(FUNCTION, "nvme").unwrap_err();

    assert_eq!(found, Some(fs::canonicalize(&driver).unwrap()));
    assert_eq!(fs::read_to_string(driver.join("bind")).unwrap(), FUNCTION.to_string());
    assert_eq!(unknown.errno, Errno::ENOENT);
}

#[test]
fn virtual_functions_are_made_without_drivers() {
    let tree = Tree::new();
    let without = tree.host().set_virtual_functions(FUNCTION, 2).unwrap_err();
    tree.write("sriov_totalvfs", "8\n");
    tree.write("sriov_numvfs", "0\n");
    tree.write("sriov_drivers_autoprobe", "1\n");

    tree.host().set_virtual_functions(FUNCTION, 2).unwrap();

    assert_eq!(without.errno, Errno::EOPNOTSUPP);
    // sysfs takes a write for the whole value; a file keeps the line's end that was there.
    assert_eq!((tree.read("sriov_numvfs").trim(), tree.read("sriov_drivers_autoprobe").trim()), ("2", "0"));
    let description = tree.host().describe(FUNCTION).unwrap();
    assert_eq!(description.virtual_functions, Some(VirtualFunctions { total: 8, enabled: 2 }));
}

#[test]
fn address_of_a_virtual_function_needs_the_interface_of_its_physical_one() {
    let tree = Tree::new();
    let set = || tree.host().set_virtual_function_address(FUNCTION, Some([2, 0, 0, 0, 0, 1]), None).unwrap_err();

    let not_virtual = set();
    let physical = tree.root.path().join("bus/pci/devices/0000:02:00.0");
    fs::create_dir_all(&physical).unwrap();
    std::os::unix::fs::symlink("../0000:02:00.0", tree.attribute("physfn")).unwrap();
    std::os::unix::fs::symlink("../0000:02:10.0", physical.join("virtfn0")).unwrap();
    let not_its_own = set();
    std::os::unix::fs::symlink(format!("../{FUNCTION}"), physical.join("virtfn1")).unwrap();
    let without_interface = set();

    assert_eq!((not_virtual.errno, not_its_own.errno), (Errno::EINVAL, Errno::EINVAL));
    assert_eq!(without_interface.errno, Errno::ENODEV);
    let text = without_interface.to_string();
    assert!(text.contains("virtual function 1 of 0000:02:00.0") && text.contains("needs its driver"), "{text}");
}

#[test]
fn reserved_memory_is_told_by_the_table_that_xen_hides_from_dom0() {
    let tree = Tree::new();
    let device = tree.root.path().join("devices/pci0000:00/0000:00:1d.0");
    fs::create_dir_all(&device).unwrap();
    let behind = Sbdf::from_devfn(0, 0, 0xe8);
    std::os::unix::fs::symlink(&device, tree.root.path().join("bus/pci/devices").join(behind.to_string())).unwrap();
    let without_table = tree.host().reserved_memory(behind).unwrap();

    // A header, one reserved region of segment 0, and its device: 1d.0 of bus 0.
    let mut table = vec![0; 48];
    table.extend([1, 0, 32, 0, 0, 0, 0, 0]);
    table.extend([0; 16]);
    table.extend([1, 8, 0, 0, 0, 0, 0x1d, 0]);
    let tables = tree.root.path().join("firmware/acpi/tables");
    fs::create_dir_all(&tables).unwrap();
    fs::write(tables.join("RMAD"), table).unwrap();

    assert!(!without_table);
    assert_eq!(tree.host().reserved_memory(behind), Ok(true));
    assert_eq!(tree.host().reserved_memory(FUNCTION), Ok(false));
}
