use nix::errno::Errno;

/// An operation on the host that failed.
///
/// `Display` gives operation, object and errno, and the remedy where one is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    /// What was tried: the name of the trait's method.
    pub operation: &'static str,
    /// On what: a function, a domain, a path.
    pub object: String,
    /// Why it failed.
    pub errno: Errno,
}

/// What an operator can do, by operation and errno.
const REMEDIES: &[(&str, Errno, &str)] = &[
    (
        "assign_device",
        Errno::EOPNOTSUPP,
        "the domain was created without an IOMMU: put passthrough=\"enabled\" into its xl.cfg and create it again",
    ),
    (
        "test_assign_device",
        Errno::EOPNOTSUPP,
        "the domain was created without an IOMMU: put passthrough=\"enabled\" into its xl.cfg and create it again",
    ),
    (
        "test_assign_device",
        Errno::EINVAL,
        "another domain has the device, or Xen does not know it: see `xl debug-keys Q; xl dmesg`",
    ),
    ("assign_device", Errno::EBUSY, "another domain has the device, or its MSI-X Function Mask is set"),
    ("assign_device", Errno::ENODEV, "Xen does not know the device: see `xl debug-keys Q; xl dmesg`"),
    ("assign_device", Errno::EPERM, "firmware reserves memory for the device (RMRR), which no guest may share"),
    (
        "set_virtual_functions",
        Errno::EOPNOTSUPP,
        "the device or its driver has no virtual functions; is its driver bound?",
    ),
    ("set_virtual_functions", Errno::ENOENT, "its driver has no virtual functions; is its driver bound?"),
    ("set_virtual_functions", Errno::ERANGE, "it has not so many: see sriov_totalvfs"),
    (
        "set_virtual_function_address",
        Errno::ENODEV,
        "it has no network interface in dom0: the physical function needs its driver",
    ),
    (
        "set_virtual_function_address",
        Errno::EOPNOTSUPP,
        "its driver does not set addresses or VLANs of virtual functions",
    ),
    ("map_msi", Errno::ENOSPC, "the domain's interrupts are used up: raise extra_guest_irqs= on Xen's command line"),
    ("map_msi", Errno::ENODATA, "prepare_msix was not called before the device was assigned"),
    ("prepare_msix", Errno::ENXIO, "the device does not decode memory: is its BAR assigned?"),
    ("irq_permission", Errno::EPERM, "dom0 has not set up the interrupt line itself: is the device enabled in dom0?"),
    ("reset", Errno::ENOTTY, "the device has no such reset method: reset = \"best-effort\" accepts that"),
    ("describe", Errno::ENODEV, "the host has no such device: see `lspci -D`"),
    ("write_config", Errno::EPERM, "kernel lockdown forbids it: boot dom0 with lockdown=none"),
];

impl HostError {
    /// An error of `operation` on `object`.
    pub fn new(operation: &'static str, object: impl ToString, errno: Errno) -> Self {
        Self { operation, object: object.to_string(), errno }
    }

    /// The same from an I/O error, whose errno is kept.
    pub fn from_io(operation: &'static str, object: impl ToString, error: &std::io::Error) -> Self {
        Self::new(operation, object, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        REMEDIES.iter().find(|(operation, errno, _)| *operation == self.operation && *errno == self.errno).map(|r| r.2)
    }
}

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {} ({:?})", self.operation, self.object, self.errno.desc(), self.errno)?;
        match self.remedy() {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HostError {}
