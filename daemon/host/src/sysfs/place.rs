//! Where a function is plugged in, whatever the numbers of the buses are.

use std::path::Path;

use xenpcid_address::Sbdf;

use super::Sysfs;

/// The bridge above a function, and its path, from its folder without links in it, such as
/// `/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0`.
pub(super) fn position(folder: &Path) -> (Option<Sbdf>, String) {
    let names = folder.components().filter_map(|component| component.as_os_str().to_str());
    // One host bridge may lie below another one's function.
    let mut root = "";
    let mut steps: Vec<Sbdf> = Vec::new();
    for name in names {
        if name.strip_prefix("pci").is_some_and(|name| name.contains(':')) {
            (root, steps) = (name, Vec::new());
        } else if let Ok(step) = name.parse() {
            steps.push(step);
        }
    }
    if root.is_empty() {
        return (None, String::new());
    }
    let parent = steps.iter().rev().nth(1).copied();
    let path = steps
        .iter()
        .fold(root.to_owned(), |path, step| path + &format!("/{:02x}.{:x}", step.device(), step.function()));
    (parent, path)
}

/// What firmware calls the function's place, or the name of its physical slot.
pub(super) fn port(host: &Sysfs, function: Sbdf) -> Option<String> {
    let read = |path: &Path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let label = read(&host.attribute(function, "label")).filter(|label| !label.is_empty());
    label.or_else(|| {
        let full = function.to_string();
        // A slot has all functions of a device.
        let (device, _) = full.split_once('.')?;
        let slots = host.bus.join("slots");
        let mut names: Vec<_> = std::fs::read_dir(&slots).ok()?.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        let name = names
            .into_iter()
            .find(|name| read(&slots.join(name).join("address")).is_some_and(|address| address == device))?;
        Some(format!("slot {}", name.to_string_lossy()))
    })
}
