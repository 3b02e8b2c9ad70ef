use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

/// A domain of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guest {
    /// Xen's number of it.
    pub id: u16,
    /// Its name when the devices were given to it.
    pub name: String,
}

/// Where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// No device of the host matches the identity that is declared.
    Missing,
    /// In dom0; it is to be claimed when it is wanted, or the claim failed, and `problem` says why.
    Unclaimed,
    /// Being taken from dom0's driver.
    Claiming,
    /// Claimed, reset, and ready for a guest; its DMA reaches nothing.
    Quarantined,
    /// A guest has it, or it is being given to one or taken from one.
    Assigned,
    /// In quarantine, and not to be given to a guest; `problem` says why.
    Broken,
}

/// A way to reset a device that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedReset {
    /// As Linux names it in `reset_method`.
    pub method: String,
    /// Why not.
    pub reason: String,
}

/// What became of a reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetReport {
    /// When it was over: milliseconds since 1970-01-01 00:00 UTC.
    pub time: u64,
    /// The methods that Linux has for the device, in the order in which they are tried.
    pub methods: Vec<String>,
    /// Those that did not work.
    pub failed: Vec<FailedReset>,
    /// The one that worked: afterwards the device read as it did when it was claimed (identity, BARs). `None` if none did,
    /// which its configuration accepts.
    pub used: Option<String>,
    /// How long all of them took.
    pub milliseconds: u64,
}

/// A device that is declared in the configuration, or that was claimed by a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its address on the host; `None` while it is missing.
    pub address: Option<Sbdf>,
    /// What the operator calls it.
    pub name: Option<String>,
    /// By what it is declared, in words; its address if it was claimed by a command.
    pub identity: String,
    /// Whether the configuration declares it.
    pub declared: bool,
    /// Vendor ID; `None` while it is missing.
    pub vendor: Option<u16>,
    /// Device ID; `None` while it is missing.
    pub device: Option<u16>,
    /// Class code: base class, subclass and programming interface, 24 bits; `None` while it is missing.
    pub class: Option<u32>,
    /// Its driver in dom0, if it has one.
    pub driver: Option<String>,
    /// The name of the policy that says what a guest may do with its registers; `None` if that is not known before the
    /// device is claimed.
    pub policy: Option<String>,
    /// Where it is.
    pub state: DeviceState,
    /// The guest that has it, if one has.
    pub guest: Option<Guest>,
    /// Where that guest sees it (`DD.F`); `None` as long as it does not.
    pub guest_address: Option<String>,
    /// The slot that was asked for on the guest's bus, 0 to 31; `None` if any will do.
    pub slot: Option<u8>,
    /// Interrupt vectors that the guest has enabled.
    pub vectors: u16,
    /// Accesses of that guest that did not do what it wanted.
    pub denied: u64,
    /// Since when it is in this state: milliseconds since 1970-01-01 00:00 UTC.
    pub since: u64,
    /// Its last reset, if it had one.
    pub last_reset: Option<ResetReport>,
    /// What is wrong with it, and what to do.
    pub problem: Option<String>,
}

/// A PCI function of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its address.
    pub address: Sbdf,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code: base class, subclass and programming interface, 24 bits.
    pub class: u32,
    /// Its driver in dom0, if it has one.
    pub driver: Option<String>,
    /// The bridge above it; `None` on a root bus.
    pub parent: Option<Sbdf>,
    /// Where it is, without bus numbers, as `path` of a device in the configuration.
    pub path: String,
    /// What the firmware calls its port or slot.
    pub label: Option<String>,
}

/// A device on a guest's virtual bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusDevice {
    /// Where the guest sees it (`DD.F`); `None` as long as it does not.
    pub guest_address: Option<String>,
    /// Its address on the host.
    pub device: Sbdf,
    /// What the operator calls it.
    pub name: Option<String>,
}

/// A domain that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Xen's number of it.
    pub id: u16,
    /// `None` as long as xenstore has none.
    pub name: Option<String>,
    /// In the usual text form.
    pub uuid: String,
    /// Whether xenpcid keeps it paused until it has its devices.
    pub held: bool,
    /// Its virtual bus, in the order in which the devices were given.
    pub bus: Vec<BusDevice>,
}

/// How a device interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptKind {
    /// By its INTx line.
    Intx,
    /// By MSI.
    Msi,
    /// By MSI-X.
    Msix,
}

/// An interrupt vector of an assigned device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupt {
    /// The device.
    pub device: Sbdf,
    /// Who has it.
    pub guest: Guest,
    /// What kind it is.
    pub kind: InterruptKind,
    /// Which of the device's vectors: the MSI-X entry, the MSI message; 0 for INTx.
    pub entry: u16,
    /// What the guest calls it.
    pub pirq: u32,
    /// What Xen calls it; `None` if Xen does not tell.
    pub irq: Option<u32>,
    /// The CPU's vector; `None` if Xen does not tell.
    pub vector: Option<u8>,
    /// The CPUs that it is delivered to, ascending; empty if Xen does not tell.
    pub cpus: Vec<u32>,
    /// The CPUs that the guest's virtual CPUs run on, ascending.
    pub guest_cpus: Vec<u32>,
    /// Whether it is delivered to CPUs that run the guest, and to no others; `None` if Xen does not tell.
    pub agrees: Option<bool>,
}

impl Interrupt {
    /// What [`Interrupt::agrees`] is for these CPUs.
    #[must_use]
    pub fn agreement(cpus: &[u32], guest_cpus: &[u32]) -> Option<bool> {
        (!cpus.is_empty()).then(|| cpus.iter().all(|cpu| guest_cpus.contains(cpu)))
    }
}

/// A reason why a device cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The safety check, or what else found it.
    pub check: String,
    /// What is wrong, why that matters, and what to do.
    pub message: String,
    /// What to write into `allow` to attach it all the same; `None` if it cannot be allowed.
    pub key: Option<String>,
    /// Whether it is allowed for this device already.
    pub allowed: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// A device is taken from dom0's driver.
    Claim,
    /// A device is given back to dom0.
    Release,
    /// A domain gets a device.
    Attach,
    /// A device is taken from a domain.
    Detach,
    /// The number of a physical function's virtual functions is set.
    VirtualFunctions,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What kind of step.
    pub kind: ActionKind,
    /// The device, by address or name.
    pub device: Option<String>,
    /// The domain, by name.
    pub domain: Option<String>,
    /// The whole in words.
    pub text: String,
}

/// The difference between what is declared and what is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they are carried out; none if all is as declared.
    pub actions: Vec<Action>,
    /// What keeps the declaration from becoming true, and what to do.
    pub problems: Vec<String>,
}

/// What the daemon is and since when it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of Xen, such as 4.17; `None` on a simulated host.
    pub xen: Option<String>,
    /// When it started: milliseconds since 1970-01-01 00:00 UTC.
    pub started: u64,
    /// The configuration file it was started with.
    pub configuration: Option<String>,
}
