//! The kernel's backend in place of xenpcid: xen-pciback in dom0, and xl to give it devices.

use crate::error::Result;
use crate::machine::Machine;

impl Machine {
    /// Loads xen-pciback, and has xl give it these devices. A guest gets them by `pci` in its configuration.
    ///
    /// # Errors
    /// If one of them is refused.
    pub fn load_pciback(&self, devices: &[String]) -> Result<()> {
        self.progress.note("xen-pciback is loaded");
        let add: String = devices.iter().map(|sbdf| format!(" && xl pci-assignable-add {sbdf}")).collect();
        self.dom0().sh(&format!("modprobe xen-pciback{add}")).map(drop)
    }

    /// Takes the devices back and unloads xen-pciback, so that xenpcid can start. No guest may have one of them.
    ///
    /// # Errors
    /// If that does not work.
    pub fn unload_pciback(&self, devices: &[String]) -> Result<()> {
        self.progress.note("xen-pciback is unloaded");
        let remove: String = devices.iter().map(|sbdf| format!("xl pci-assignable-remove {sbdf} && ")).collect();
        self.dom0().sh(&format!("{remove}modprobe -r xen-pciback")).map(drop)
    }
}
