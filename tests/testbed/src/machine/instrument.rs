//! pcifront-shim in guests.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::images::{self, GUEST_RAMDISK, INSTRUMENT_RAMDISK};
use crate::machine::Machine;
use crate::packages::Root;

impl Machine {
    /// Puts the program into dom0, and makes a second image for guests, with the program in it; [`Frontend::Instrument`](super::Frontend) starts
    /// guests from it.
    ///
    /// # Errors
    /// If it cannot be copied, or needs a library that is not in the testbed's packages.
    pub fn install_instrument(&self, root: &Root, program: &Path) -> Result<()> {
        let shared = self.share().join("instrument.cpio");
        let archive = images::addition(root, program, "usr/bin/pcifront-shim")?;
        fs::write(&shared, archive).map_err(Error::io("write", &shared))?;
        // In dom0 it compares. For a guest the kernel unpacks archives one after the other.
        self.dom0()
            .sh(&format!(
                "cd / && cpio -idu < /host/instrument.cpio && cat {GUEST_RAMDISK} /host/instrument.cpio > {INSTRUMENT_RAMDISK}"
            ))
            .map(drop)
    }
}
