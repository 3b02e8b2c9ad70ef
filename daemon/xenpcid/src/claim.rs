//! Taking a device from the host and giving it back.
//!
//! ```text
//!            claim                     assign (assignment.rs)
//!  driver ──────────► claimed ───────────────────────────────► a guest's
//!  of dom0 ◄────────── in quarantine ◄──────────────────────────  │
//!            release                   take back, then renew      │ cannot be reset
//!                                                                 ▼
//!                                                               broken: stays in quarantine
//! ```
//! A claimed device belongs to `DOMID_IO` whenever no guest has it, so its DMA reaches nothing. It goes to the next guest, or
//! back to dom0, only after a reset that worked (XSA-302, XSA-306).

mod address;
mod error;
mod renewal;
mod reset;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use address::NetworkAddress;
pub use error::{ClaimError, Failures};
pub use reset::ResetReport;

use xenpcid_address::Sbdf;
use xenpcid_config::{Device, Override, Policies, VECTORS_MAX};
use xenpcid_host::{ConfigSpace, FunctionDescription, Host, Pirq, ReservedMemory};
use xenpcid_policy::policy::DeviceIdentity;
use xenpcid_policy::{Access, Capabilities, CompileError, ConfigView, InterruptMode, Plan, Policy, Snapshot, Terms};

use crate::checks::{self, Owner};
use crate::denials::Denials;
use crate::ledger::{Ledger, Step};
use address::Left;

/// Xen gives memory in units of this many bytes.
pub const FRAME: u64 = 4096;
/// Command register: memory is decoded (PCI Local Bus Specification 6.2.2).
const COMMAND_MEMORY: u16 = 0x0002;

/// What is known of a claimed device, and does not change: whoever has the device, others can ask for this.
pub struct Facts {
    /// Address on the host.
    pub function: Sbdf,
    /// What the operator calls it.
    pub name: Option<String>,
    /// What guests may do with its registers.
    pub policy: Arc<Policy>,
    /// Most MSI-X vectors that a guest is shown.
    pub vectors: u16,
    /// The slot on its bus that was asked for, for the guest that has it; any for `None`.
    pub slot: Option<u8>,
    /// Its registers when it was claimed.
    pub snapshot: Snapshot,
    /// What its guest tried and did not get.
    pub denials: Denials,
    /// The message-signalled interrupts that its guest has enabled.
    vectors_in_use: Mutex<Vec<Vector>>,
    /// What became of its last reset.
    last_reset: Mutex<Option<ResetReport>>,
}

/// A message-signalled interrupt that a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// MSI or MSI-X.
    pub mode: InterruptMode,
    /// Which of the device's: the entry of the MSI-X table, 0 for MSI.
    pub entry: u16,
    /// What the guest calls it.
    pub pirq: Pirq,
}

impl Facts {
    /// The message-signalled interrupts that its guest has enabled.
    #[must_use]
    pub fn vectors_in_use(&self) -> Vec<Vector> {
        self.vectors_in_use.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The guest has other message-signalled interrupts now.
    pub fn set_vectors_in_use(&self, vectors: Vec<Vector>) {
        *self.vectors_in_use.lock().unwrap_or_else(PoisonError::into_inner) = vectors;
    }

    /// What became of its last reset.
    #[must_use]
    pub fn last_reset(&self) -> Option<ResetReport> {
        self.last_reset.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_last_reset(&self, report: ResetReport) {
        *self.last_reset.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// The policy applied to the device, for explanations.
    ///
    /// # Errors
    /// None: it was applied when the device was claimed.
    pub fn plan(&self) -> Result<Plan, CompileError> {
        let terms = Terms { policy: &self.policy, name: self.name.as_deref(), vectors: self.vectors };
        Plan::new(&self.snapshot, &terms)
    }
}

/// A device that no driver of dom0 holds and that is in quarantine, or assigned to a guest by its owner.
pub struct Claimed {
    facts: Arc<Facts>,
    device: Device,
    reset_methods: Vec<String>,
    driver_path: Option<PathBuf>,
    capabilities: Capabilities,
    view: ConfigView,
    config: Arc<dyn ConfigSpace>,
    ledger: Ledger,
    /// What its last guest was given and could not be taken from it.
    leftover: Ledger,
    /// Whether it was being given back to dom0, and is dom0's but for what is in `ledger`.
    given_back_in_part: bool,
    /// What its physical function's driver was told for its last guest.
    left: Left,
}

impl Claimed {
    /// Claims a device, unless a safety check refuses it; `owners` says who has each device. Blocks for as long as its driver and
    /// its reset take.
    ///
    /// # Errors
    /// What stood in the way. The device is then as it was before, or what could not be undone was logged.
    pub fn claim(
        host: &Host,
        function: Sbdf,
        device: &Device,
        policies: &Policies,
        owners: &dyn Fn(Sbdf) -> Owner,
    ) -> Result<Box<Self>, ClaimError> {
        let mut ledger = Ledger::default();
        match Self::try_claim(host, function, device, policies, owners, &mut ledger) {
            Ok(mut claimed) => {
                claimed.ledger = ledger;
                Ok(claimed)
            }
            Err(error) => {
                for error in ledger.undo(host).err().into_iter().flatten() {
                    tracing::error!(%function, %error, "could not be undone");
                }
                Err(error)
            }
        }
    }

    fn try_claim(
        host: &Host,
        function: Sbdf,
        device: &Device,
        policies: &Policies,
        owners: &dyn Fn(Sbdf) -> Owner,
        ledger: &mut Ledger,
    ) -> Result<Box<Self>, ClaimError> {
        let before = host.pci.describe(function)?;
        // Nothing may be touched while a guest has the device, which is one of the things that are asked here.
        ClaimError::refuse(function, checks::examine(host, owners, function, None, VECTORS_MAX)?, device)?;
        let reset_methods = reset::ladder(host.pci.reset_methods(function)?);
        let FunctionDescription { driver, driver_override, power, driver_path, .. } = before;
        ledger.carry_out(host, Step::TakenFromDriver { function, driver, driver_override })?;
        ledger.carry_out(host, Step::PowerPinned { function, before: power })?;
        ledger.carry_out(host, Step::Enabled { function })?;

        // Only now is the interrupt known, and all registers are those of an enabled device.
        let description = host.pci.describe(function)?;
        let config = host.pci.open_config(function)?;
        let snapshot = description.snapshot(config.as_ref())?;
        let unsupported = |reason| ClaimError::Unsupported { function, reason };
        let capabilities = snapshot.capabilities().map_err(unsupported)?;
        let (facts, view) = agree(function, snapshot, device, policies, VECTORS_MAX)?;
        let snapshot = &facts.snapshot;
        if capabilities.msix.is_some() {
            // A virtual function decodes by a bit of its physical function's; its own is always 0.
            if !snapshot.is_virtual_function && snapshot.word(Access::COMMAND.offset()) & COMMAND_MEMORY == 0 {
                return Err(ClaimError::MemoryNotDecoded { function });
            }
            ledger.carry_out(host, Step::MsixPrepared { function })?;
        }
        let claimed = Box::new(Self {
            facts: Arc::new(facts),
            device: device.clone(),
            reset_methods,
            driver_path,
            capabilities,
            view,
            config,
            ledger: Ledger::default(),
            leftover: Ledger::default(),
            given_back_in_part: false,
            left: Left::default(),
        });
        claimed.renew(host)?;
        ledger.carry_out(host, Step::Quarantined { function })?;
        ledger.carry_out(host, Step::StubBound { function })?;
        Ok(claimed)
    }

    /// From now on what its next guest sees of it follows these terms.
    ///
    /// # Errors
    /// No policy can be chosen, or it does not fit the device; then the former terms stay.
    pub fn agree(
        &mut self,
        device: &Device,
        policies: &Policies,
        vectors: u16,
        slot: Option<u8>,
    ) -> Result<(), ClaimError> {
        let (facts, view) = agree(self.function(), self.snapshot().clone(), device, policies, vectors)?;
        if let Some(report) = self.facts.last_reset() {
            facts.set_last_reset(report);
        }
        self.facts = Arc::new(Facts { slot, ..facts });
        self.view = view;
        self.device = device.clone();
        Ok(())
    }

    /// Whether a guest may have the device although firmware reserved memory for it.
    #[must_use]
    pub fn reserved_memory(&self) -> ReservedMemory {
        if self.device.allow.contains(&Override::ReservedMemory) {
            ReservedMemory::Relaxed
        } else {
            ReservedMemory::Refuse
        }
    }

    /// Gives the device back to dom0 and to the driver it had.
    ///
    /// # Errors
    /// The device, and why: a reset that failed, and it stays in quarantine; or steps that could not be undone.
    pub fn release(mut self: Box<Self>, host: &Host) -> Result<(), (Box<Self>, ClaimError)> {
        // What is dom0's already is not reset any more.
        if !self.given_back_in_part {
            if let Err(error) = self.recover(host) {
                return Err((self, error));
            }
        }
        self.given_back_in_part = true;
        undo(host, self.function(), &mut self.ledger).map_err(|error| (self, error))
    }

    /// Whether some of it could not be given back to dom0, and the rest was.
    #[must_use]
    pub const fn is_given_back_in_part(&self) -> bool {
        self.given_back_in_part
    }

    /// Keeps what its guest was given and could not be taken from it, to be tried again.
    pub fn keep_leftover(&mut self, mut steps: Ledger) {
        self.leftover.append(&mut steps);
    }

    /// As [`Claimed::renew`], after what could not be taken from its last guest was tried again. A virtual function loses the
    /// address that it had for that guest.
    ///
    /// # Errors
    /// As there; also steps that still cannot be undone.
    pub fn recover(&mut self, host: &Host) -> Result<(), ClaimError> {
        undo(host, self.function(), &mut self.leftover)?;
        self.renew(host)?;
        self.clear_address(host);
        Ok(())
    }

    /// No driver of dom0 is to have it when it is released.
    pub fn forget_driver(&mut self) {
        self.ledger.forget_driver();
    }

    /// The device.
    #[must_use]
    pub fn function(&self) -> Sbdf {
        self.facts.function
    }

    /// The folder in sysfs of the driver that it was taken from.
    #[must_use]
    pub fn driver_path(&self) -> Option<&Path> {
        self.driver_path.as_deref()
    }

    /// What others may know of it.
    #[must_use]
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// What a new guest sees of its registers.
    #[must_use]
    pub fn view(&self) -> ConfigView {
        self.view.clone()
    }

    /// Its registers when it was claimed.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.facts.snapshot
    }

    /// Its capabilities, as they were when it was claimed (XSA-337: never as a guest may have made them).
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Its registers.
    #[must_use]
    pub fn config(&self) -> &dyn ConfigSpace {
        self.config.as_ref()
    }
}

/// Undoes all steps, or says which are stuck.
///
/// # Errors
/// [`ClaimError::Stuck`].
pub fn undo(host: &Host, function: Sbdf, ledger: &mut Ledger) -> Result<(), ClaimError> {
    ledger.undo(host).map_err(|errors| {
        let stuck = ledger.steps().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        ClaimError::Stuck { function, stuck, errors: Failures(errors) }
    })
}

/// What a policy makes of a device.
fn agree(
    function: Sbdf,
    snapshot: Snapshot,
    device: &Device,
    policies: &Policies,
    vectors: u16,
) -> Result<(Facts, ConfigView), ClaimError> {
    let policy = policies
        .for_device(device.policy.as_deref(), &DeviceIdentity::new(&snapshot, device.name.as_deref()))
        .map_err(|reason| ClaimError::NoPolicy { function, reason })?;
    let facts = Facts {
        function,
        name: device.name.clone(),
        policy,
        vectors,
        slot: None,
        snapshot,
        denials: Denials::default(),
        vectors_in_use: Mutex::default(),
        last_reset: Mutex::default(),
    };
    let view = facts.plan().map_err(|reason| ClaimError::Policy { function, reason: reason.into() })?.view();
    Ok((facts, view))
}
