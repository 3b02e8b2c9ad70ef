//! The kernel's backend in place of xenpcid: xen-pciback in dom0, and xl to give it devices.

use crate::error::{Error, Result};
use crate::machine::Machine;

impl Machine {
    /// What a scenario compares xenpcid with: does something while xen-pciback has these devices, which a guest gets by `pci` in
    /// its configuration. No guest may have one of them in the end.
    ///
    /// # Errors
    /// [`Error::Reference`] for whatever goes wrong: it says nothing about xenpcid, and the scenario is run anew.
    pub fn with_pciback<T>(&mut self, devices: &[String], reference: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let perform = || {
            self.load_pciback(devices)?;
            let outcome = reference(self)?;
            self.unload_pciback(devices)?;
            Ok(outcome)
        };
        perform().map_err(|error| Error::Reference(Box::new(error)))
    }

    /// Loads xen-pciback, and has xl give it these devices.
    fn load_pciback(&self, devices: &[String]) -> Result<()> {
        self.progress.note("xen-pciback is loaded");
        let add: String = devices.iter().map(|sbdf| format!(" && xl pci-assignable-add {sbdf}")).collect();
        self.dom0().sh(&format!("modprobe xen-pciback{add}")).map(drop)
    }

    /// Takes the devices back and unloads xen-pciback, so that xenpcid can start.
    fn unload_pciback(&self, devices: &[String]) -> Result<()> {
        self.progress.note("xen-pciback is unloaded");
        let remove: String = devices.iter().map(|sbdf| format!("xl pci-assignable-remove {sbdf} && ")).collect();
        self.dom0().sh(&format!("{remove}modprobe -r xen-pciback")).map(drop)
    }
}
