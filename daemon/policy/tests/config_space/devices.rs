//! The devices that policies are tried on.

use std::path::Path;
use std::sync::LazyLock;

use xenpcid_policy::{Recording, Snapshot};

use crate::made_up::{made_up, reaching};
use crate::recorded::e1000e;

/// A device and what it is called.
pub struct Device {
    pub name: String,
    pub snapshot: Snapshot,
}

/// All that are recorded or written down in `tests/devices`, and those of this folder.
pub static ALL: LazyLock<Vec<Device>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/devices");
    let is_recording = |path: &Path| path.extension().is_some_and(|extension| extension == "txt");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| is_recording(path));
    let mut devices: Vec<Device> = files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let recording = Recording::lspci(&std::fs::read_to_string(&path).unwrap());
            let snapshot = recording.unwrap_or_else(|error| panic!("{}: {error}", path.display())).snapshot();
            Device { name, snapshot }
        })
        .collect();
    devices.push(Device { name: "made-up".to_owned(), snapshot: made_up() });
    devices.push(Device { name: "reaching".to_owned(), snapshot: reaching() });
    devices.push(Device { name: "e1000e-traced".to_owned(), snapshot: e1000e() });
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
});

/// The one of that name.
pub fn named(name: &str) -> &'static Snapshot {
    &ALL.iter().find(|device| device.name == name).unwrap_or_else(|| panic!("there is no device {name}")).snapshot
}
