use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use xenpcid_config::Policies;
use xenpcid_policy::{Plan, Recording, Snapshot, Terms};

/// A recorded device.
pub struct Device {
    /// Name of the file.
    pub name: String,
    pub snapshot: Snapshot,
    /// For each dword of its configuration space that has some, the bits that no guest may write.
    pub guarded: BTreeMap<u16, u32>,
}

static RECORDED: LazyLock<Vec<Device>> = LazyLock::new(read);

/// The recorded devices.
pub fn recorded() -> &'static [Device] {
    &RECORDED
}

fn read() -> Vec<Device> {
    // Of config and of tests/fuzz, which both compile this.
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [crate_root.join("../tests/devices"), crate_root.join("../devices")];
    let folder = folders.into_iter().find(|folder| folder.is_dir()).unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files.iter().map(|path| device(path)).collect()
}

fn device(path: &Path) -> Device {
    let snapshot = Recording::lspci(&fs::read_to_string(path).unwrap()).unwrap().snapshot();
    let guarded = guarded(&snapshot);
    Device { name: path.file_stem().unwrap().to_string_lossy().into_owned(), snapshot, guarded }
}

fn guarded(snapshot: &Snapshot) -> BTreeMap<u16, u32> {
    let policies = Policies::shipped().unwrap();
    // One that hides nothing, so that every register is there to be explained.
    let policy = policies.get("pciback").unwrap();
    let plan = Plan::new(snapshot, &Terms { policy, name: None, vectors: 128 }).unwrap();
    let mut guarded: BTreeMap<u16, u32> = BTreeMap::new();
    for register in plan.explain() {
        let offset = register.access.offset();
        for bits in register.bits.iter().filter(|bits| bits.guarded.is_some()) {
            *guarded.entry(offset & !3).or_default() |= bits.mask << ((offset & 3) * 8);
        }
    }
    guarded
}
