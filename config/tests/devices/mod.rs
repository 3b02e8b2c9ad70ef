use std::fs;

use xenpcid_policy::{Recording, Snapshot};

/// The devices that were recorded, by the name of the file.
pub fn recorded() -> Vec<(String, Snapshot)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/devices");
    let mut devices: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    devices.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    devices.sort();
    assert!(devices.len() >= 8, "{devices:?}");
    devices
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            // Two tabs deep, regions are those of virtual functions.
            let own: Vec<&str> = text.lines().filter(|line| !line.starts_with("\t\tRegion ")).collect();
            (name, Recording::lspci(&own.join("\n")).unwrap().snapshot())
        })
        .collect()
}
