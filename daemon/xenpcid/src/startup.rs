//! Whether the daemon can work on this host, and if not, why and what to do.

use std::error::Error;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use xenpcid_host::dom0::Dom0Facts;
use xenpcid_host::{Errno, HypervisorInfo};

/// Locked for as long as a daemon runs; the kernel unlocks it however the daemon ends.
pub const LOCK_FILE: &str = "/run/xenpcid/lock";

/// Folder with a file for each domain that is held paused.
pub const HOLDS: &str = "/run/xenpcid/held";

/// A reason not to start. The message ends with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rights.
    #[error(
        "xenpcid needs root's rights for hypercalls and device configuration; start it as root, or as a system service"
    )]
    NotRoot,
    /// No Xen.
    #[error("this system does not run on Xen; boot it as dom0 of Xen (`xenpcid demo` shows the daemon on any machine)")]
    NotXen,
    /// A guest.
    #[error("this is not dom0, and only the control domain can give devices to guests; start xenpcid in dom0")]
    NotDom0,
    /// The kernel would serve the same guests.
    #[error(
        "the kernel's xen-pciback is loaded and would serve the same guests; detach its devices, then `modprobe -r xen-pciback`, \
         and keep it away with `echo install xen-pciback /bin/false > /etc/modprobe.d/xenpcid.conf` (if it is built into the \
         kernel: initcall_blacklist=pcistub_init,xen_pcibk_init on dom0's command line)"
    )]
    KernelBackend,
    /// The kernel does not let us write configuration space.
    #[error(
        "kernel lockdown ({0}) forbids writing the configuration space of devices; boot dom0 with lockdown=none or without secure boot"
    )]
    Lockdown(String),
    /// Two daemons would give away the same devices.
    #[error("another xenpcid is running and holds {LOCK_FILE}; stop it first")]
    AlreadyRunning,
    /// Nothing would hold a device's DMA.
    #[error(
        "Xen has no IOMMU, so a guest's device could reach all memory; switch VT-d or AMD-Vi on in the firmware, and boot Xen \
         without iommu=off"
    )]
    NoIommu,
}

/// What can be told before anything is opened.
///
/// # Errors
/// The first reason not to start.
pub fn check_dom0(facts: &Dom0Facts) -> Result<(), Refusal> {
    match facts {
        Dom0Facts { xen: false, .. } => Err(Refusal::NotXen),
        Dom0Facts { root: false, .. } => Err(Refusal::NotRoot),
        Dom0Facts { control_domain: false, .. } => Err(Refusal::NotDom0),
        Dom0Facts { kernel_backend: true, .. } => Err(Refusal::KernelBackend),
        Dom0Facts { lockdown, .. } if lockdown != "none" => Err(Refusal::Lockdown(lockdown.clone())),
        _ => Ok(()),
    }
}

/// Locks `file`, so that there is one daemon at a time. Its folder is made if that is missing, for others to look into.
///
/// # Errors
/// [`Refusal::AlreadyRunning`], or the file cannot be made.
pub fn lock(file: &Path) -> Result<Flock<File>, Box<dyn Error>> {
    if let Some(folder) = file.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let opened = File::options().create(true).append(true).open(file);
    let opened = opened.map_err(|error| format!("cannot open {}: {error}", file.display()))?;
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => Err(Refusal::AlreadyRunning.into()),
        Err((_, errno)) => Err(format!("cannot lock {}: {errno}", file.display()).into()),
    }
}

/// What Xen must have.
///
/// # Errors
/// The reason not to start.
pub fn check_hypervisor(info: &HypervisorInfo) -> Result<(), Refusal> {
    if info.iommu { Ok(()) } else { Err(Refusal::NoIommu) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Dom0Facts {
        Dom0Facts { root: true, xen: true, control_domain: true, kernel_backend: false, lockdown: "none".into() }
    }

    #[test]
    fn each_obstacle_has_its_own_refusal() {
        let refusals = [
            (Dom0Facts { xen: false, ..good() }, Refusal::NotXen),
            (Dom0Facts { root: false, ..good() }, Refusal::NotRoot),
            (Dom0Facts { control_domain: false, ..good() }, Refusal::NotDom0),
            (Dom0Facts { kernel_backend: true, ..good() }, Refusal::KernelBackend),
            (Dom0Facts { lockdown: "integrity".into(), ..good() }, Refusal::Lockdown("integrity".into())),
        ];
        assert_eq!(check_dom0(&good()), Ok(()));
        for (facts, refusal) in refusals {
            assert_eq!(check_dom0(&facts), Err(refusal));
        }
        assert_eq!(
            check_hypervisor(&HypervisorInfo { version: (4, 17), iommu: false, command_line: String::new() }),
            Err(Refusal::NoIommu)
        );
    }

    #[test]
    fn second_daemon_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run/xenpcid/lock");

        let first = lock(&file).unwrap();
        let second = lock(&file).map(drop).unwrap_err();
        drop(first);

        assert_eq!(second.downcast_ref(), Some(&Refusal::AlreadyRunning));
        assert!(lock(&file).is_ok());
    }

    #[test]
    fn everything_that_is_written_below_run_is_in_the_folder_that_the_service_may_write() {
        let unit = include_str!("../../../packaging/systemd/xenpcid.service");
        let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));

        let folder = Path::new("/run").join(setting("RuntimeDirectory").unwrap());

        for path in [LOCK_FILE, HOLDS, xenpcid_control::SOCKET] {
            assert!(Path::new(path).starts_with(&folder), "{path}");
        }
        assert_eq!((setting("ProtectSystem"), setting("ReadWritePaths")), (Some("strict"), None));
    }

    #[test]
    fn refusals_name_their_remedy() {
        let remedies = [
            (Refusal::NotRoot, "as root"),
            (Refusal::NotXen, "xenpcid demo"),
            (Refusal::NotDom0, "in dom0"),
            (Refusal::KernelBackend, "modprobe -r xen-pciback"),
            (Refusal::Lockdown("integrity".into()), "lockdown=none"),
            (Refusal::AlreadyRunning, "stop it"),
            (Refusal::NoIommu, "VT-d"),
        ];
        for (refusal, remedy) in remedies {
            assert!(refusal.to_string().contains(remedy), "{refusal}");
        }
    }
}
