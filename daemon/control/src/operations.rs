//! The methods that change something, and take their time.

use serde::{Deserialize, Serialize};
use xenpcid_address::Sbdf;

use crate::interface::method;
use crate::types::Plan;

/// Reply of a method that tells its progress, and in the end its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step<T> {
    /// What is done now.
    pub progress: Option<String>,
    /// What came of it, in the last reply; `None` for a caller who does not wait.
    pub result: Option<T>,
}

/// What to do where memory that the firmware reserves for the device (RMRR) collides with the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservedMemory {
    /// To refuse.
    #[default]
    Strict,
    /// To go on.
    Relaxed,
}

/// Whether a device without a way to be reset is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// It is refused.
    Required,
    /// It is taken, with what its last user left in it.
    BestEffort,
}

/// Settings of a device, as xl's PCI_SPEC_STRING has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Kept in xenstore; without effect for PV guests.
    pub msitranslate: bool,
    /// Kept in xenstore; without effect.
    pub power_mgmt: bool,
    /// The policy `permissive`, if none is named.
    pub permissive: bool,
    /// How strict to be about reserved memory.
    pub rdm_policy: ReservedMemory,
}

/// A device that is to be attached. What is `None` is as the device is declared, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachDevice {
    /// Address, address with `*` for its function, or name.
    pub device: String,
    /// Slot on the guest's virtual bus, 0 to 31. The functions of an address with `*` keep their numbers.
    pub slot: Option<u8>,
    /// Policy, by name.
    pub policy: Option<String>,
    /// Safety checks that may fail, by their keys.
    pub allow: Vec<String>,
    /// Whether it must have a way to be reset.
    pub reset: Option<Reset>,
    /// Whether it is claimed first, if dom0 has it.
    pub seize: bool,
    /// xl's settings.
    pub options: Options,
}

/// A device that a guest got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its address on the host.
    pub device: Sbdf,
    /// Where the guest sees it (`DD.F`).
    pub guest_address: String,
}

/// A device that was claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Its address.
    pub device: Sbdf,
    /// What it is called now.
    pub name: Option<String>,
    /// Whether it was claimed before already.
    pub already: bool,
}

/// Gives devices to a running domain: all of them, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// If all digits, its number; else its exact name.
    pub domain: String,
    /// The devices.
    pub devices: Vec<AttachDevice>,
    /// How long the guest may take to connect, in milliseconds; `None` for the configured time.
    pub timeout: Option<u64>,
    /// Whether the result comes when the guest sees the devices, or already when the operation is under way.
    pub wait: bool,
}
method!(Attach, "io.xenpcid.Control.Attach", Step<Vec<Attached>>, Changes);

/// Takes devices from a domain: the guest is asked first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// If all digits, its number; else its exact name.
    pub domain: String,
    /// Addresses, addresses with `*`, or names.
    pub devices: Vec<String>,
    /// Whether they are taken from a guest that does not let go of them in time; else it keeps them all.
    pub force: bool,
    /// How long the guest may take to let go, in milliseconds; `None` for the configured time.
    pub timeout: Option<u64>,
    /// As [`Attach::wait`].
    pub wait: bool,
}
method!(Detach, "io.xenpcid.Control.Detach", Step<Vec<Sbdf>>, Changes);

/// Takes a device from dom0's driver, resets it, and puts it into quarantine. One that was claimed already is renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Address, address with `*`, or name.
    pub device: String,
    /// What it is called from now on.
    pub name: Option<String>,
    /// Safety checks that may fail, by their keys.
    pub allow: Vec<String>,
    /// Whether it must have a way to be reset.
    pub reset: Option<Reset>,
}
method!(Claim, "io.xenpcid.Control.Claim", Step<Vec<Claimed>>, Changes);

/// Takes a device out of quarantine and gives it back to dom0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Address, address with `*`, or name.
    pub device: String,
    /// Whether the driver gets it that it had.
    pub rebind: bool,
}
method!(Release, "io.xenpcid.Control.Release", Step<Vec<Sbdf>>, Changes);

/// Makes what is declared true. The files are read anew; if they are wrong nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// Whether the result comes when all is done, or already when the operation is under way.
    pub wait: bool,
}
method!(Apply, "io.xenpcid.Control.Apply", Step<Plan>, Changes);
