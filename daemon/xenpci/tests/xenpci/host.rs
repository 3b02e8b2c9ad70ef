//! A device of this host that no daemon has, through a sysfs that is made up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use xenpcid_policy::Recording;

use crate::{recording, xenpci};

/// The folder of a device, with the attributes that Linux shows for it.
fn sysfs(root: &Path, address: &str, recorded: &str) {
    let snapshot = Recording::lspci(&recording(recorded)).unwrap().snapshot();
    let folder = root.join("bus/pci/devices").join(address);
    fs::create_dir_all(folder.join("power")).unwrap();
    fs::create_dir_all(root.join("bus/pci/drivers/e1000e")).unwrap();
    symlink(root.join("bus/pci/drivers/e1000e"), folder.join("driver")).unwrap();
    let resources = snapshot.resources.iter().map(|r| format!("{:#018x} {:#018x} {:#018x}\n", r.start, r.end, r.flags));
    for (name, text) in [
        ("vendor", format!("{:#06x}\n", snapshot.vendor)),
        ("device", format!("{:#06x}\n", snapshot.device)),
        ("subsystem_vendor", format!("{:#06x}\n", snapshot.word(0x2c))),
        ("subsystem_device", format!("{:#06x}\n", snapshot.word(0x2e))),
        ("class", format!("{:#08x}\n", snapshot.dword(8) >> 8)),
        ("irq", "17\n".to_owned()),
        ("resource", resources.collect()),
        ("power/control", "auto\n".to_owned()),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    fs::write(folder.join("config"), &snapshot.config).unwrap();
}

#[test]
fn device_of_the_host_is_explained_as_it_is_now_under_the_policy_of_its_entry() {
    let root = TempDir::new().unwrap();
    sysfs(root.path(), "0000:03:00.0", "e1000e");
    let config = root.path().join("xenpcid.toml");
    let entry = "[[domain]]\nname = \"web1\"\nvectors = 3\n\
                 devices = [{ bdf = \"0000:03:00.0\", name = \"uplink0\", policy = \"strict\" }]\n";
    fs::write(&config, entry).unwrap();

    let places = ["--sysfs", root.path().to_str().unwrap(), "--config", config.to_str().unwrap()];
    let text = xenpci(places.iter().chain(&["explain", "03:00.0"])).good();

    let first = text.lines().next().unwrap();
    assert_eq!(first, "0000:03:00.0 uplink0 8086:10d3 (revision 00) of class 020000, under policy strict");
    assert!(text.contains("values are those of this moment; the running xenpcid has not claimed it"), "{text}");
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap();
    assert!(line("  interrupt_line ").contains("guest 11"), "{text}");
    assert!(line("msix.control").contains("guest 0002"), "{text}");
}

#[test]
fn device_that_the_host_does_not_have_is_named_with_where_to_look() {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("bus/pci/devices")).unwrap();
    let error = xenpci(["--sysfs", root.path().to_str().unwrap(), "explain", "03:00.0"]).bad(1);
    assert!(error.contains("0000:03:00.0") && error.contains("the host has no such device: see `lspci -D`"), "{error}");
}
