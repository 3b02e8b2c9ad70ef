//! The folder that holds what only the testbed needs, and the stamps that say whether it is up to date.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Overrides where the cache is.
const OVERRIDE: &str = "XENPCID_TESTBED_CACHE";

/// The cache folder. While somebody holds it nobody changes it, so a machine may run from what is in it.
pub struct Cache {
    folder: PathBuf,
    lock: Flock<File>,
}

/// Says from what a part of the cache was made.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {
    /// SHA-256 over everything that determines the part.
    key: String,
}

impl Cache {
    /// Opens the cache; waits if another process is changing it.
    ///
    /// # Errors
    /// If there is no home folder to put it in, or it cannot be created.
    pub fn open() -> Result<Self> {
        let folder = folder()?;
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join("lock");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let lock =
            Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| Error::io("lock", &path)(errno.into()))?;
        Ok(Self { folder, lock })
    }

    /// Makes part `name` with `make`, unless it is there already and was made from what `key` describes. `again` makes it
    /// in any case. Waits until nobody else uses the cache.
    ///
    /// # Errors
    /// Those of `make`; the part then counts as not there.
    pub fn provide(&self, name: &str, key: &str, again: bool, make: impl FnOnce() -> Result<()>) -> Result<()> {
        if !again && self.is_current(name, key) {
            return Ok(());
        }
        if self.lock.relock(FlockArg::LockExclusiveNonblock).is_err() {
            eprintln!("waiting for another testbed that uses {}", self.folder.display());
            self.relock(FlockArg::LockExclusive)?;
        }
        // Another process may have made it while this one waited.
        if again || !self.is_current(name, key) {
            self.invalidate(name)?;
            make()?;
            self.complete(name, key)?;
        }
        self.relock(FlockArg::LockShared)
    }

    fn relock(&self, how: FlockArg) -> Result<()> {
        self.lock.relock(how).map_err(|errno| Error::io("lock", &self.folder)(errno.into()))
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    fn is_current(&self, name: &str, key: &str) -> bool {
        let text = fs::read_to_string(self.stamp(name)).unwrap_or_default();
        serde_json::from_str::<Stamp>(&text).is_ok_and(|stamp| stamp.key == key)
    }

    /// Before a part is changed: whatever interrupts the change, the part is not taken for whole.
    fn invalidate(&self, name: &str) -> Result<()> {
        let path = self.stamp(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn complete(&self, name: &str, key: &str) -> Result<()> {
        let path = self.stamp(name);
        let text = serde_json::to_string(&Stamp { key: key.to_owned() })
            .map_err(|error| Error::io("write", &path)(error.into()))?;
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    fn stamp(&self, name: &str) -> PathBuf {
        self.path(format!("{name}.stamp.json"))
    }
}

/// A key for [`Cache::provide`] from everything that determines a part.
#[must_use]
pub fn key<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hash.update(input.len().to_le_bytes());
        hash.update(input);
    }
    hexadecimal(&hash.finalize())
}

/// Lower-case hexadecimal digits, as sha256sum prints them.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder() -> Result<PathBuf> {
    let from_environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    from_environment(OVERRIDE)
        .or_else(|| from_environment("XDG_CACHE_HOME").map(|cache| cache.join("xenpcid-testbed")))
        .or_else(|| from_environment("HOME").map(|home| home.join(".cache/xenpcid-testbed")))
        .ok_or_else(|| {
            Error::Unsuitable(format!("no HOME in the environment: set {OVERRIDE} to a folder for the testbed's cache"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_where_inputs_are_cut() {
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
    }

    #[test]
    fn key_is_sha256_of_lengths_and_inputs() {
        // printf '\0\0\0\0\0\0\0\0' | sha256sum
        assert_eq!(key([b"".as_slice()]), "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
    }
}
