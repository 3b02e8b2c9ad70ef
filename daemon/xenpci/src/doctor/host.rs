//! What this host looks like from outside: Xen, its firmware, its kernel.

use std::path::Path;

use xenpcid_host::dom0::Dom0Facts;

use super::Finding;

/// The devices of Xen's drivers that xenpcid opens, and the modules that make them.
const DEVICES: &[(&str, &str)] = &[
    ("dev/xen/privcmd", "xen-privcmd"),
    ("dev/xen/hypercall", "xen-privcmd"),
    ("dev/xen/evtchn", "xen-evtchn"),
    ("dev/xen/gntdev", "xen-gntdev"),
];

/// Where xenstored listens.
const XENSTORE: &str = "run/xenstored/socket";

/// ACPI tables that describe an IOMMU. Xen hides the first from dom0, under the name of the second.
const TABLES: &[(&str, &str)] = &[("DMAR", "Intel VT-d"), ("RMAD", "Intel VT-d"), ("IVRS", "AMD-Vi")];

/// What can be seen.
#[derive(Clone, Debug)]
pub struct Facts {
    dom0: Dom0Facts,
    /// Devices that are not there, with their modules.
    missing: Vec<(&'static str, &'static str)>,
    xenstore: bool,
    /// Whether the firmware's tables can be seen at all.
    firmware: bool,
    /// The kind of IOMMU that they describe.
    iommu: Option<&'static str>,
}

impl Facts {
    /// Reads them below `root`, normally `/`.
    pub fn read(root: &Path) -> Self {
        let has = |path: &str| root.join(path).exists();
        let tables = Path::new("sys/firmware/acpi/tables");
        Self {
            dom0: Dom0Facts::read(root),
            missing: DEVICES.iter().copied().filter(|(device, _)| !has(device)).collect(),
            xenstore: has(XENSTORE),
            firmware: root.join(tables).exists(),
            iommu: TABLES.iter().find(|(table, _)| root.join(tables).join(table).exists()).map(|(_, kind)| *kind),
        }
    }

    /// Whether xenpcid could work here at all.
    pub fn is_control_domain(&self) -> bool {
        self.dom0.xen && self.dom0.control_domain
    }
}

/// Each fact, good or bad.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![system(facts), iommu(facts)];
    findings.extend(backend(facts));
    findings.extend(lockdown(facts));
    if facts.is_control_domain() {
        findings.extend(drivers(facts));
        findings.push(xenstore(facts));
    }
    if !facts.dom0.root {
        findings.push(Finding::note("without root's rights not everything can be seen", "run `xenpci doctor` as root"));
    }
    findings
}

fn system(facts: &Facts) -> Finding {
    if !facts.dom0.xen {
        Finding::problem(
            "this system does not run on Xen",
            "install Xen (Debian: `apt install xen-system-amd64`) and choose it at boot; this system is its dom0 then. \
             `xenpcid demo` shows the daemon on any machine",
        )
    } else if facts.dom0.control_domain {
        Finding::good("this system is dom0, the control domain of Xen")
    } else {
        Finding::problem(
            "this system is a guest of Xen, and only the control domain can give devices to guests",
            "run xenpcid and xenpci in dom0",
        )
    }
}

fn iommu(facts: &Facts) -> Finding {
    match facts.iommu {
        Some(kind) => Finding::good(format!("the firmware describes an IOMMU ({kind})")),
        None if facts.firmware && !facts.dom0.xen => Finding::problem(
            "the firmware describes no IOMMU, so that a guest's device could reach all memory",
            "switch VT-d (Intel), or AMD-Vi or IOMMU (AMD), on in the firmware's setup",
        ),
        None => Finding::note(
            "whether there is an IOMMU cannot be seen from here",
            "in dom0, `xl info` has `hvm_directio` or `pv_directio` among its virt_caps if Xen uses one",
        ),
    }
}

fn backend(facts: &Facts) -> Option<Finding> {
    facts.dom0.kernel_backend.then(|| {
        Finding::problem(
            "the kernel's xen-pciback is loaded, and would serve the same guests",
            "detach its devices, then `modprobe -r xen-pciback`, and keep it away with `echo install xen-pciback \
             /bin/false > /etc/modprobe.d/xenpcid.conf` (if it is built into the kernel: \
             initcall_blacklist=pcistub_init,xen_pcibk_init on dom0's command line)",
        )
    })
}

fn lockdown(facts: &Facts) -> Option<Finding> {
    (facts.dom0.lockdown != "none").then(|| {
        Finding::problem(
            format!("kernel lockdown ({}) forbids writing the configuration space of devices", facts.dom0.lockdown),
            "boot with lockdown=none, or without secure boot",
        )
    })
}

fn drivers(facts: &Facts) -> Vec<Finding> {
    let missing = |(device, module): &(&str, &str)| {
        Finding::problem(format!("/{device} is missing, which xenpcid opens"), format!("`modprobe {module}`"))
    };
    match facts.missing.as_slice() {
        [] => vec![Finding::good("Xen's devices for its control domain are there")],
        several => several.iter().map(missing).collect(),
    }
}

fn xenstore(facts: &Facts) -> Finding {
    if facts.xenstore {
        Finding::good("xenstored is running")
    } else {
        Finding::problem(
            format!("there is no /{XENSTORE}: xenstored does not run"),
            "`systemctl start xenstored` (Debian: `systemctl start xen`)",
        )
    }
}
