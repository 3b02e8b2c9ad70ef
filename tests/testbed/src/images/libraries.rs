//! Finds the shared libraries that a program needs, by reading the program (System V ABI: DT_NEEDED), not by running it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

use crate::error::{Error, Result};

/// Every library that one of `programs` needs, directly or through another library, by its name.
///
/// # Errors
/// If a file cannot be read, is no ELF file, or needs a library that is in none of `folders`.
pub fn closure(programs: &[PathBuf], folders: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = programs.to_vec();
    while let Some(file) = open.pop() {
        for name in needed(&file)? {
            if found.contains_key(&name) {
                continue;
            }
            let path = folders.iter().map(|folder| folder.join(&name)).find(|path| path.exists()).ok_or_else(|| {
                Error::Malformed {
                    object: file.display().to_string(),
                    problem: format!("needs {name}, which none of the testbed's packages has"),
                }
            })?;
            open.push(path.clone());
            found.insert(name, path);
        }
    }
    Ok(found)
}

fn needed(file: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(file).map_err(Error::io("read", file))?;
    let elf = Elf::parse(&bytes)
        .map_err(|error| Error::Malformed { object: file.display().to_string(), problem: error.to_string() })?;
    Ok(elf.libraries.iter().map(|&name| name.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_libc_and_what_libc_needs() {
        let folders = [PathBuf::from("/lib/x86_64-linux-gnu"), PathBuf::from("/lib64")];
        let found = closure(&[std::env::current_exe().unwrap()], &folders).unwrap();
        assert!(found.contains_key("libc.so.6") && found.contains_key("ld-linux-x86-64.so.2"), "{found:?}");
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let program = std::env::current_exe().unwrap();
        let text = closure(std::slice::from_ref(&program), &[]).unwrap_err().to_string();
        assert!(text.contains(&program.display().to_string()) && text.contains(".so"), "{text}");
    }
}
