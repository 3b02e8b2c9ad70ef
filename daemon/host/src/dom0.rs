//! What this process can see of its host before it opens anything: whether the daemon can work here at all.

use std::path::Path;

/// Facts that decide whether xenpcid can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dom0Facts {
    /// This process has root's rights.
    pub root: bool,
    /// This system runs on Xen.
    pub xen: bool,
    /// This domain is the control domain.
    pub control_domain: bool,
    /// The kernel's xen-pciback is loaded or built in, so that it would serve the same guests.
    pub kernel_backend: bool,
    /// Kernel lockdown mode (`none`, `integrity`, `confidentiality`).
    pub lockdown: String,
}

impl Dom0Facts {
    /// Reads them below `root`, normally `/`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let capabilities = text("proc/xen/capabilities");
        // xenfs need not be mounted; a control domain also shows by its UUID of zeroes.
        let uuid = text("sys/hypervisor/uuid");
        let is_zero = !uuid.trim().is_empty() && uuid.trim().bytes().all(|b| b == b'0' || b == b'-');
        Self {
            root: nix::unistd::geteuid().is_root(),
            xen: text("sys/hypervisor/type").trim() == "xen",
            control_domain: capabilities.contains("control_d") || is_zero,
            kernel_backend: ["sys/bus/pci/drivers/pciback", "sys/bus/xen-backend/drivers/xen-pciback"]
                .iter()
                .any(|path| root.join(path).exists()),
            lockdown: selected(&text("sys/kernel/security/lockdown")).unwrap_or("none").to_owned(),
        }
    }
}

/// The word in brackets of `none [integrity] confidentiality`.
fn selected(modes: &str) -> Option<&str> {
    modes.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Dom0Facts {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Dom0Facts::read(root.path())
    }

    #[test]
    fn machine_without_xen_has_none_of_it() {
        let facts = host(&[]);
        assert!(!facts.xen && !facts.control_domain && !facts.kernel_backend);
        assert_eq!(facts.lockdown, "none");
    }

    #[test]
    fn control_domain_is_seen_with_and_without_xenfs() {
        assert!(host(&[("proc/xen/capabilities", "control_d\n")]).control_domain);
        assert!(host(&[("sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n")]).control_domain);
        assert!(!host(&[("sys/hypervisor/uuid", "5d0f8ad8-0000-0000-0000-000000000000\n")]).control_domain);
    }

    #[test]
    fn loaded_kernel_backend_and_lockdown_are_seen() {
        let facts = host(&[
            ("sys/bus/pci/drivers/pciback/bind", ""),
            ("sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ]);
        assert!(facts.kernel_backend);
        assert_eq!(facts.lockdown, "integrity");
    }
}
