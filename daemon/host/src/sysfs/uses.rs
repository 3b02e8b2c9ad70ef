//! What dom0 does with a function, read from sysfs and procfs.
//!
//! ```text
//! function ──► block devices below it ──► holders: device mapper, MD, bcache ──► mounted, swap
//!          ──► network interfaces below it ──► uppers: bridge, bond, VLAN ──► default route
//!          ──► terminals and framebuffers below it ──► console
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Sysfs;
use crate::HostUse;

/// Class of display controllers, the upper byte of the class code.
const DISPLAY: &str = "0x03";

/// Each thing that dom0 does with the function whose folder is `device`, without links in it.
pub(super) fn uses(host: &Sysfs, device: &Path) -> Vec<HostUse> {
    let disks = block_devices(host, device);
    let interfaces = interfaces(host, device);
    let found = [mounts(host, &disks), swaps(host, &disks), consoles(host, device), default_routes(host, &interfaces)];
    let mut uses: Vec<HostUse> = found.into_iter().flatten().collect();
    uses.sort_unstable();
    uses.dedup();
    uses
}

/// Names of the entries of a folder; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Entries of a class whose devices lie below one of `roots`.
fn below(host: &Sysfs, class: &str, roots: &[PathBuf]) -> BTreeSet<String> {
    let class = host.root.join("class").join(class);
    let is_below = |name: &String| {
        let real = std::fs::canonicalize(class.join(name));
        real.is_ok_and(|real| roots.iter().any(|root| real.starts_with(root)))
    };
    names(&class).into_iter().filter(is_below).collect()
}

/// Every name that is reached from `start` by `next`, those of `start` too.
fn closure(start: BTreeSet<String>, next: impl Fn(&str) -> Vec<String>) -> BTreeSet<String> {
    let mut found = start.clone();
    let mut open: Vec<String> = start.into_iter().collect();
    while let Some(name) = open.pop() {
        for other in next(&name) {
            if found.insert(other.clone()) {
                open.push(other);
            }
        }
    }
    found
}

/// The function's disks and partitions, and what is made of them.
fn block_devices(host: &Sysfs, device: &Path) -> BTreeSet<String> {
    let mut roots = vec![device.to_owned()];
    // With NVMe multipath the disk lies below the subsystem, which lists its controllers.
    let subsystems = host.root.join("class/nvme-subsystem");
    for subsystem in names(&subsystems) {
        let Ok(real) = std::fs::canonicalize(subsystems.join(subsystem)) else { continue };
        let is_ours = |name: &String| std::fs::canonicalize(real.join(name)).is_ok_and(|path| path.starts_with(device));
        if names(&real).iter().any(is_ours) {
            roots.push(real);
        }
    }
    let class = host.root.join("class/block");
    let btrfs = host.root.join("fs/btrfs");
    let filesystems: Vec<Vec<String>> =
        names(&btrfs).iter().map(|filesystem| names(&btrfs.join(filesystem).join("devices"))).collect();
    closure(below(host, "block", &roots), |name| {
        let folder = class.join(name);
        let partitions = names(&folder).into_iter().filter(|child| folder.join(child).join("partition").exists());
        // A filesystem over several devices is mounted by one of them, and lost with any.
        let siblings = filesystems.iter().filter(|devices| devices.iter().any(|device| device == name)).flatten();
        names(&folder.join("holders")).into_iter().chain(partitions).chain(siblings.cloned()).collect()
    })
}

fn mounts(host: &Sysfs, disks: &BTreeSet<String>) -> Vec<HostUse> {
    let numbers: Vec<(String, &String)> = disks
        .iter()
        .filter_map(|disk| {
            let number = std::fs::read_to_string(host.root.join("class/block").join(disk).join("dev")).ok()?;
            Some((number.trim().to_owned(), disk))
        })
        .collect();
    // proc_pid_mountinfo(5): number, parent, major:minor, root, mount point, options, optional fields, "-", type, source.
    let text = host.of_process("mountinfo");
    let mount = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (number, mount_point) = (fields.nth(2)?, fields.nth(1)?);
        let source = fields.skip_while(|field| *field != "-").nth(2).map(unescaped).unwrap_or_default();
        let by_number = numbers.iter().find(|(of_disk, _)| of_disk == number).map(|(_, disk)| *disk);
        // Btrfs mounts have numbers of their own.
        let disk = by_number.or_else(|| named(host, disks, &source))?;
        Some(HostUse::Filesystem { block_device: disk.clone(), mount_point: unescaped(mount_point) })
    };
    text.lines().filter_map(mount).collect()
}

fn swaps(host: &Sysfs, disks: &BTreeSet<String>) -> Vec<HostUse> {
    let text = std::fs::read_to_string(host.processes.join("swaps")).unwrap_or_default();
    let swap = |line: &str| {
        let disk = named(host, disks, &unescaped(line.split_ascii_whitespace().next()?))?;
        Some(HostUse::Swap { block_device: disk.clone() })
    };
    text.lines().skip(1).filter_map(swap).collect()
}

/// The disk that a path below `/dev` is: by its kernel name, or by the one that the device mapper gave it.
fn named<'a>(host: &Sysfs, disks: &'a BTreeSet<String>, path: &Path) -> Option<&'a String> {
    let name = path.strip_prefix("/dev").ok()?.file_name()?.to_str()?;
    disks.iter().find(|disk| {
        let mapped = std::fs::read_to_string(host.root.join("class/block").join(disk).join("dm/name"));
        *disk == name || mapped.is_ok_and(|mapped| mapped.trim() == name)
    })
}

/// A path as procfs writes it: blanks and backslashes as `\040` and the like.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn consoles(host: &Sysfs, device: &Path) -> Vec<HostUse> {
    let roots = [device.to_owned()];
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let active = read(host.root.join("class/tty/console/active"));
    let terminals = below(host, "tty", &roots);
    let terminals = active.split_whitespace().filter(|name| terminals.contains(*name)).map(str::to_owned);
    let framebuffers = below(host, "graphics", &roots).into_iter().filter(|name| name.starts_with("fb"));
    let mut names: Vec<String> = terminals.chain(framebuffers).collect();
    let others = |other: &String| {
        let folder = host.bus.join("devices").join(other);
        read(folder.join("class")).starts_with(DISPLAY)
            && std::fs::canonicalize(folder).is_ok_and(|path| path != device)
    };
    if read(device.join("boot_vga")).trim() == "1" && !self::names(&host.bus.join("devices")).iter().any(others) {
        names.push("VGA".to_owned());
    }
    names.into_iter().map(|name| HostUse::Console { name }).collect()
}

/// The function's interfaces, and those that are made of them.
fn interfaces(host: &Sysfs, device: &Path) -> BTreeSet<String> {
    let class = host.root.join("class/net");
    closure(below(host, "net", &[device.to_owned()]), |name| {
        let folder = class.join(name);
        let master = std::fs::read_link(folder.join("master")).ok();
        let master = master.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let uppers = names(&folder).into_iter().filter_map(|entry| entry.strip_prefix("upper_").map(str::to_owned));
        uppers.chain(master).collect()
    })
}

fn default_routes(host: &Sysfs, interfaces: &BTreeSet<String>) -> Vec<HostUse> {
    // Flags of routes (linux/route.h, linux/ipv6_route.h): the route is usable, and it leads nowhere.
    const UP: u32 = 0x0001;
    const REJECT: u32 = 0x0200;
    let usable = |flags: &str| u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0);
    let is_zero = |number: &str| number.bytes().all(|digit| digit == b'0');
    let (four, six) = (host.of_process("net/route"), host.of_process("net/ipv6_route"));
    // Interface, destination, gateway, flags, reference count, use, metric, mask, ...
    let four = four.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, _, flags, _, _, _, mask, ..] = fields[..] else { return None };
        (is_zero(destination) && is_zero(mask) && usable(flags)).then_some(interface)
    });
    // Destination, its prefix, source, its prefix, next hop, metric, reference count, use, flags, interface.
    let six = six.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, prefix, _, _, _, _, _, _, flags, interface] = fields[..] else { return None };
        (is_zero(destination) && is_zero(prefix) && usable(flags)).then_some(interface)
    });
    let found = four.chain(six).filter(|interface| interfaces.contains(*interface));
    found.map(|interface| HostUse::DefaultRoute { interface: interface.to_owned() }).collect()
}
