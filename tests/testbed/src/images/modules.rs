//! Finds kernel modules and what they depend on. Debian's package has no modules.dep (depmod writes it when the package is
//! installed), so the dependencies are read from the modules: section `.modinfo`, entry `depends`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

use crate::error::{Error, Result};

/// A module and the names of those it depends on directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// The file.
    pub path: PathBuf,
    /// Names, in the kernel's spelling.
    pub depends: Vec<String>,
}

/// Modules by their name in the kernel's spelling: with `_` where the file has `-`.
pub type Modules = BTreeMap<String, Module>;

/// The modules called `names` and all that they depend on, from the kernel's folder of modules.
///
/// # Errors
/// If one does not exist or is not readable as a module.
pub fn closure(folder: &Path, names: &[&str]) -> Result<Modules> {
    let mut files = BTreeMap::new();
    list(folder, &mut files)?;
    let mut found = Modules::new();
    let mut open: Vec<String> = names.iter().map(|name| kernel_name(name)).collect();
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let path = files.get(&name).ok_or_else(|| Error::Malformed {
            object: folder.display().to_string(),
            problem: format!("has no module {name}"),
        })?;
        let depends = depends(path)?;
        open.extend(depends.iter().cloned());
        found.insert(name, Module { path: path.clone(), depends });
    }
    Ok(found)
}

/// The text of a modules.dep for `modules`, which lie side by side in one folder: for each the files that it needs,
/// nearest first, as modprobe reads it.
#[must_use]
pub fn dependency_file(modules: &Modules) -> String {
    let line = |name: &String| {
        let needs: Vec<String> = all_dependencies(modules, name).iter().map(|name| file_name(modules, name)).collect();
        format!("{}: {}", file_name(modules, name), needs.join(" ")).trim_end().to_owned() + "\n"
    };
    modules.keys().map(line).collect()
}

/// Breadth first: whatever a module needs comes after it.
fn all_dependencies(modules: &Modules, name: &str) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut open = vec![name.to_owned()];
    while !open.is_empty() {
        let next: Vec<String> =
            open.iter().filter_map(|name| modules.get(name)).flat_map(|module| module.depends.clone()).collect();
        for name in &next {
            order.retain(|earlier| earlier != name);
            order.push(name.clone());
        }
        open = next;
    }
    order
}

fn file_name(modules: &Modules, name: &str) -> String {
    let file = modules.get(name).and_then(|module| module.path.file_name());
    file.map(|file| file.to_string_lossy().into_owned()).unwrap_or_default()
}

fn list(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some(name) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".ko"))
        {
            files.insert(kernel_name(name), path.clone());
        }
    }
    Ok(())
}

fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

fn depends(file: &Path) -> Result<Vec<String>> {
    let malformed = |problem: String| Error::Malformed { object: file.display().to_string(), problem };
    let bytes = fs::read(file).map_err(Error::io("read", file))?;
    let elf = Elf::parse(&bytes).map_err(|error| malformed(error.to_string()))?;
    let is_modinfo = |header: &&goblin::elf::SectionHeader| elf.shdr_strtab.get_at(header.sh_name) == Some(".modinfo");
    let section = elf
        .section_headers
        .iter()
        .find(is_modinfo)
        .and_then(goblin::elf::SectionHeader::file_range)
        .and_then(|range| bytes.get(range))
        .ok_or_else(|| malformed("has no .modinfo".to_owned()))?;
    Ok(depends_entry(section))
}

/// `.modinfo` is a sequence of `key=value` texts, each ended by a zero byte.
fn depends_entry(section: &[u8]) -> Vec<String> {
    let texts = section.split(|byte| *byte == 0);
    let value = texts.into_iter().find_map(|text| text.strip_prefix(b"depends=")).unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(kernel_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(table: &[(&str, &[&str])]) -> Modules {
        let module = |(name, depends): &(&str, &[&str])| {
            let path = PathBuf::from(format!("/m/{}.ko", name.replace('_', "-")));
            let depends = depends.iter().map(|&name| name.to_owned()).collect();
            ((*name).to_owned(), Module { path, depends })
        };
        table.iter().map(module).collect()
    }

    #[test]
    fn depends_entry_is_found_among_others() {
        assert_eq!(depends_entry(b"license=GPL\0depends=virtio_ring,virtio\0name=x\0"), ["virtio_ring", "virtio"]);
        assert_eq!(depends_entry(b"license=GPL\0depends=\0"), Vec::<String>::new());
        assert_eq!(depends_entry(b""), Vec::<String>::new());
    }

    #[test]
    fn dependency_file_lists_what_must_be_loaded_first_last() {
        let modules =
            modules(&[("virtio_console", &["virtio", "virtio_ring"]), ("virtio_ring", &["virtio"]), ("virtio", &[])]);
        let text = dependency_file(&modules);
        assert_eq!(text, "virtio.ko:\nvirtio-console.ko: virtio-ring.ko virtio.ko\nvirtio-ring.ko: virtio.ko\n");
    }

    #[test]
    fn an_absent_module_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = closure(folder.path(), &["xen-pcifront"]).unwrap_err().to_string();
        assert!(text.contains("xen_pcifront"), "{text}");
    }
}
