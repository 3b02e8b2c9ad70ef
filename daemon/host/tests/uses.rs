//! What dom0 does with a function, from trees like those of a real host.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use xenpcid_address::Sbdf;
use xenpcid_host::{Errno, HostUse, PciHost, Sysfs};

const DISK: Sbdf = Sbdf::from_devfn(3, 0, 0);
const NIC: Sbdf = Sbdf::from_devfn(0, 5, 0);
const GPU: Sbdf = Sbdf::from_devfn(0, 1, 0);

/// A host with functions on bus 3 of segment 0, all on one bus.
struct Tree {
    root: TempDir,
}

impl Tree {
    fn new() -> Self {
        let tree = Self { root: tempfile::tempdir().unwrap() };
        for (function, class) in [(DISK, "0x010802"), (NIC, "0x020000"), (GPU, "0x030000")] {
            tree.write(&format!("sys/{}/class", Self::device(function)), class);
            tree.link(&format!("sys/bus/pci/devices/{function}"), &Self::device(function));
        }
        tree
    }

    fn device(function: Sbdf) -> String {
        format!("devices/pci0000:00/{function}")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// A link to a folder of sysfs.
    fn link(&self, path: &str, folder: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::create_dir_all(self.path("sys").join(folder)).unwrap();
        symlink(self.path("sys").join(folder), self.path(path)).unwrap();
    }

    /// A block device or an interface: its folder below `device`, and its entry in its class.
    fn entry(&self, class: &str, name: &str, folder: &str) -> String {
        let folder = format!("{folder}/{name}");
        self.link(&format!("sys/class/{class}/{name}"), &folder);
        folder
    }

    fn disk(&self, name: &str, folder: &str, number: &str) -> String {
        let folder = self.entry("block", name, folder);
        self.write(&format!("sys/{folder}/dev"), &format!("{number}\n"));
        folder
    }

    fn partition(&self, name: &str, disk: &str, number: &str) -> String {
        let folder = self.disk(name, disk, number);
        self.write(&format!("sys/{folder}/partition"), "1\n");
        folder
    }

    /// `upper` is made of what lies in `lower`.
    fn holds(&self, upper: &str, lower: &str) {
        self.link(&format!("sys/{lower}/holders/{upper}"), &format!("devices/virtual/block/{upper}"));
    }

    fn over(&self, upper: &str, lower: &str) {
        self.link(&format!("sys/{lower}/upper_{upper}"), &format!("devices/virtual/net/{upper}"));
    }

    fn uses(&self, function: Sbdf) -> Vec<HostUse> {
        Sysfs::with_processes(self.path("sys"), self.path("proc")).uses(function).unwrap()
    }
}

fn mounted(block_device: &str, mount_point: &str) -> HostUse {
    HostUse::Filesystem { block_device: block_device.to_owned(), mount_point: Path::new(mount_point).to_owned() }
}

#[test]
fn idle_function_has_no_uses_and_absent_one_is_enodev() {
    let tree = Tree::new();
    tree.disk("nvme0n1", &format!("{}/nvme/nvme0", Tree::device(DISK)), "259:0");
    tree.write("proc/1/mountinfo", "22 1 0:21 / /proc rw - proc proc rw\n");

    let absent = Sysfs::new(tree.path("sys")).uses(Sbdf::from_devfn(0, 9, 0)).unwrap_err();

    assert_eq!(tree.uses(DISK), []);
    assert_eq!(absent.errno, Errno::ENODEV);
}

#[test]
fn filesystems_are_found_on_partitions_and_through_device_mapper_and_md() {
    let tree = Tree::new();
    let disk = tree.disk("nvme0n1", &format!("{}/nvme/nvme0", Tree::device(DISK)), "259:0");
    tree.partition("nvme0n1p1", &disk, "259:1");
    let second = tree.partition("nvme0n1p2", &disk, "259:2");
    let array = tree.disk("md0", "devices/virtual/block", "9:0");
    tree.disk("dm-3", "devices/virtual/block", "254:3");
    tree.holds("md0", &second);
    tree.holds("dm-3", &array);
    tree.disk("sda", "devices/pci0000:00/0000:00:1f.2/ata1", "8:0");
    tree.write(
        "proc/1/mountinfo",
        "25 1 254:3 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw\n\
         29 25 259:1 / /boot\\040here rw - vfat /dev/nvme0n1p1 rw\n\
         30 25 8:0 / /srv rw - ext4 /dev/sda rw\n",
    );

    let uses = tree.uses(DISK);

    assert_eq!(uses, [mounted("dm-3", "/"), mounted("nvme0n1p1", "/boot here")]);
    assert_eq!(uses[0].to_string(), "dm-3 is mounted on /");
    assert_eq!(tree.uses(NIC), []);
}

#[test]
fn filesystem_without_a_number_of_its_own_is_found_by_its_devices() {
    let tree = Tree::new();
    tree.disk("nvme0n1", &format!("{}/nvme/nvme0", Tree::device(DISK)), "259:0");
    tree.disk("sda", "devices/pci0000:00/0000:00:1f.2/ata1", "8:0");
    for device in ["nvme0n1", "sda"] {
        tree.write(&format!("sys/fs/btrfs/4a1b/devices/{device}/size"), "1\n");
    }
    tree.write("proc/1/mountinfo", "30 25 0:40 /@ /srv rw - btrfs /dev/sda rw\n");

    assert_eq!(tree.uses(DISK), [mounted("sda", "/srv")]);
}

#[test]
fn disk_of_a_multipath_nvme_subsystem_is_its_controllers() {
    let tree = Tree::new();
    let subsystem = tree.entry("nvme-subsystem", "nvme-subsys0", "devices/virtual/nvme-subsystem");
    tree.link(&format!("sys/{subsystem}/nvme0"), &format!("{}/nvme/nvme0", Tree::device(DISK)));
    tree.disk("nvme0n1", &subsystem, "259:0");
    tree.write("proc/self/mountinfo", "30 25 259:0 / /srv rw - ext4 /dev/nvme0n1 rw\n");

    assert_eq!(tree.uses(DISK), [mounted("nvme0n1", "/srv")]);
    assert_eq!(tree.uses(NIC), []);
}

#[test]
fn swap_is_found_by_its_name_and_by_its_device_mapper_name() {
    let tree = Tree::new();
    let disk = tree.disk("nvme0n1", &format!("{}/nvme/nvme0", Tree::device(DISK)), "259:0");
    tree.disk("dm-1", "devices/virtual/block", "254:1");
    tree.write("sys/devices/virtual/block/dm-1/dm/name", "vg-swap\n");
    tree.holds("dm-1", &disk);
    tree.write(
        "proc/swaps",
        "Filename\tType\tSize\tUsed\tPriority\n/dev/mapper/vg-swap partition 8 0 -2\n/dev/nvme0n1 partition 8 0 -3\n/swapfile file 8 0 -4\n",
    );

    let swap = |name: &str| HostUse::Swap { block_device: name.to_owned() };
    assert_eq!(tree.uses(DISK), [swap("dm-1"), swap("nvme0n1")]);
}

#[test]
fn default_route_is_found_through_bridge_bond_and_vlan() {
    let tree = Tree::new();
    let own = tree.entry("net", "enp5s0", &format!("{}/net", Tree::device(NIC)));
    let bond = tree.entry("net", "bond0", "devices/virtual/net");
    let vlan = tree.entry("net", "bond0.7", "devices/virtual/net");
    tree.entry("net", "xenbr0", "devices/virtual/net");
    // A bond and a bridge are masters, and a VLAN is only above.
    tree.link(&format!("sys/{own}/master"), &bond);
    tree.over("bond0.7", &bond);
    tree.over("xenbr0", &vlan);
    tree.write(
        "proc/1/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         xenbr0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
         xenbr0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    );

    let uses = tree.uses(NIC);

    assert_eq!(uses, [HostUse::DefaultRoute { interface: "xenbr0".to_owned() }]);
    assert_eq!(uses[0].to_string(), "the default route goes by xenbr0");
}

#[test]
fn default_route_of_version_6_counts_and_one_that_leads_nowhere_does_not() {
    let tree = Tree::new();
    tree.entry("net", "enp5s0", &format!("{}/net", Tree::device(NIC)));
    tree.entry("net", "eth1", &format!("{}/net", Tree::device(DISK)));
    let (zero, hop) = ("0".repeat(32), "fe80".to_owned() + &"0".repeat(27) + "1");
    tree.write(
        "proc/1/net/ipv6_route",
        &format!(
            "{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00000003   enp5s0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200     eth1\n"
        ),
    );

    assert_eq!(tree.uses(NIC), [HostUse::DefaultRoute { interface: "enp5s0".to_owned() }]);
    assert_eq!(tree.uses(DISK), []);
}

#[test]
fn console_is_a_terminal_a_framebuffer_or_the_only_adapter() {
    let tree = Tree::new();
    let console = |name: &str| HostUse::Console { name: name.to_owned() };
    tree.write(&format!("sys/{}/boot_vga", Tree::device(GPU)), "1\n");
    tree.entry("tty", "ttyS4", &format!("{}/tty", Tree::device(NIC)));
    tree.entry("tty", "ttyS5", &format!("{}/tty", Tree::device(NIC)));
    tree.write("sys/class/tty/console/active", "tty0 ttyS4\n");

    let only = tree.uses(GPU);
    tree.entry("graphics", "fb0", &format!("{}/graphics", Tree::device(GPU)));
    tree.write(&format!("sys/{}/class", Tree::device(DISK)), "0x030200");
    let one_of_two = tree.uses(GPU);

    assert_eq!(only, [console("VGA")]);
    assert_eq!(one_of_two, [console("fb0")]);
    assert_eq!(tree.uses(NIC), [console("ttyS4")]);
}
