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

mod error;

use std::sync::Arc;

pub use error::{ClaimError, Failures};

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_config::{Device, Policies, ResetRequirement};
use xenpcid_host::{ConfigSpace, FunctionDescription, Host, HostError};
use xenpcid_policy::policy::DeviceIdentity;
use xenpcid_policy::{Access, Capabilities, CompileError, ConfigView, Plan, Policy, Resource, Snapshot, Terms};

use crate::denials::Denials;
use crate::ledger::{Ledger, Step};

/// Xen gives memory in units of this many bytes.
pub const FRAME: u64 = 4096;
/// Command register bits (PCI Local Bus Specification 6.2.2).
const COMMAND_MEMORY: u16 = 0x0002;
const COMMAND_MASTER: u16 = 0x0004;
const COMMAND_INTX_DISABLE: u16 = 0x0400;
/// MSI Message Control: MSI Enable.
const MSI_ENABLE: u32 = 0x0001;
/// MSI-X Message Control: MSI-X Enable and Function Mask.
const MSIX_ENABLE_AND_MASK: u32 = 0xc000;
/// Registers that are the same before and after a reset, once Linux has restored them: identity, class and revision, subsystem.
const IDENTITY: [Access; 3] = [Access::dword(0x00), Access::dword(0x08), Access::dword(0x2c)];
/// BAR 0 to 5 and the expansion ROM.
const BASE_ADDRESSES: [Access; 7] = [
    Access::dword(0x10),
    Access::dword(0x14),
    Access::dword(0x18),
    Access::dword(0x1c),
    Access::dword(0x20),
    Access::dword(0x24),
    Access::dword(0x30),
];

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
    /// Its registers when it was claimed.
    pub snapshot: Snapshot,
    /// What its guest tried and did not get.
    pub denials: Denials,
}

impl Facts {
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
    reset: ResetRequirement,
    has_reset: bool,
    description: FunctionDescription,
    capabilities: Capabilities,
    view: ConfigView,
    config: Arc<dyn ConfigSpace>,
    ledger: Ledger,
}

impl Claimed {
    /// Claims a device, for a guest that is shown at most `vectors` MSI-X vectors. Blocks for as long as its driver and its
    /// reset take.
    ///
    /// # Errors
    /// What stood in the way. The device is then as it was before, or what could not be undone was logged.
    pub fn claim(host: &Host, device: &Device, policies: &Policies, vectors: u16) -> Result<Box<Self>, ClaimError> {
        let mut ledger = Ledger::default();
        match Self::try_claim(host, device, policies, vectors, &mut ledger) {
            Ok(mut claimed) => {
                claimed.ledger = ledger;
                Ok(claimed)
            }
            Err(error) => {
                for error in ledger.undo(host).err().into_iter().flatten() {
                    tracing::error!(function = %device.sbdf, %error, "could not be undone");
                }
                Err(error)
            }
        }
    }

    fn try_claim(
        host: &Host,
        device: &Device,
        policies: &Policies,
        vectors: u16,
        ledger: &mut Ledger,
    ) -> Result<Box<Self>, ClaimError> {
        let function = device.sbdf;
        let before = host.pci.describe(function)?;
        // Nothing may be touched while a guest has the device, so that is asked for first.
        host.hypervisor.test_assign_device(DomainId::INVALID, function)?;
        let has_reset = !host.pci.reset_methods(function)?.is_empty();
        if !has_reset && device.reset == ResetRequirement::Required {
            return Err(ClaimError::NoReset { function });
        }
        refuse_shared_pages(host, function, &before)?;
        let FunctionDescription { driver, driver_override, power, .. } = before;
        ledger.carry_out(host, Step::TakenFromDriver { function, driver, driver_override })?;
        ledger.carry_out(host, Step::PowerPinned { function, before: power })?;
        ledger.carry_out(host, Step::Enabled { function })?;

        // Only now is the interrupt known, and all registers are those of an enabled device.
        let description = host.pci.describe(function)?;
        let config = host.pci.open_config(function)?;
        let snapshot = description.snapshot(config.as_ref())?;
        let unsupported = |reason| ClaimError::Unsupported { function, reason };
        let capabilities = snapshot.capabilities().map_err(unsupported)?;
        let policy = policies
            .for_device(device.policy.as_deref(), &DeviceIdentity::new(&snapshot, device.name.as_deref()))
            .map_err(|reason| ClaimError::NoPolicy { function, reason })?;
        let name = device.name.clone();
        let facts = Facts { function, name, policy, vectors, snapshot, denials: Denials::default() };
        let view = facts.plan().map_err(|reason| ClaimError::Policy { function, reason: reason.into() })?.view();
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
            reset: device.reset,
            has_reset,
            description,
            capabilities,
            view,
            config,
            ledger: Ledger::default(),
        });
        claimed.renew(host)?;
        ledger.carry_out(host, Step::Quarantined { function })?;
        ledger.carry_out(host, Step::StubBound { function })?;
        Ok(claimed)
    }

    /// Makes the device as it was when it was claimed: silent, reset, its registers restored. Blocks for as long as the reset
    /// takes.
    ///
    /// # Errors
    /// A reset that failed, or a device that is not what it was. It must then not be given to anybody.
    pub fn renew(&self, host: &Host) -> Result<(), ClaimError> {
        self.silence()?;
        if self.has_reset {
            let started = std::time::Instant::now();
            match host.pci.reset(self.function()) {
                Ok(()) => tracing::info!(function = %self.function(), took = ?started.elapsed(), "reset"),
                Err(error) if self.reset == ResetRequirement::BestEffort => {
                    tracing::warn!(function = %self.function(), %error, "reset failed; its configuration accepts that");
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            tracing::warn!(function = %self.function(), "not reset: it has no reset method, and its configuration accepts that");
        }
        self.restore()?;
        self.silence()
    }

    /// Resets the device for the guest that has it and asked for it. Its memory is decoded again afterwards; its
    /// interrupts are the caller's to disable before.
    ///
    /// # Errors
    /// A reset that failed or is not to be had; then the device is as before, or not to be relied on.
    pub fn reset_for_guest(&self, host: &Host) -> Result<(), ClaimError> {
        let reset = host.pci.reset(self.function());
        // Whatever became of it, the guest has the memory mapped, so it must be decoded, where it was.
        let restored = self.restore();
        let decoded = self.hand_over();
        reset?;
        restored?;
        Ok(decoded?)
    }

    /// Switches off DMA and all interrupts. Decoding stays on: a guest may still have the memory mapped, and an access that
    /// nobody decodes can take the host down (XSA-120).
    ///
    /// # Errors
    /// If the device cannot be written.
    pub fn silence(&self) -> Result<(), ClaimError> {
        self.set_command(COMMAND_INTX_DISABLE)?;
        if let Some(msi) = &self.capabilities.msi {
            self.modify(msi.control(), MSI_ENABLE, 0)?;
        }
        if let Some(msix) = &self.capabilities.msix {
            // Xen does not assign a device whose Function Mask is set.
            self.modify(msix.control(), MSIX_ENABLE_AND_MASK, 0)?;
        }
        Ok(())
    }

    /// Lets the device use its INTx line again; that is the state a guest finds it in.
    ///
    /// # Errors
    /// If the device cannot be written.
    pub fn hand_over(&self) -> Result<(), HostError> {
        self.set_command(0)
    }

    /// The command register of the claim, without bus mastering, and with `extra`.
    fn set_command(&self, extra: u16) -> Result<(), HostError> {
        let claimed = self.snapshot().word(Access::COMMAND.offset()) & !(COMMAND_MASTER | COMMAND_INTX_DISABLE);
        self.config.write(Access::COMMAND, u32::from(claimed | extra))
    }

    /// Sets `bits` of a register to `value`.
    ///
    /// # Errors
    /// If the device cannot be read or written.
    pub fn modify(&self, register: Access, bits: u32, value: u32) -> Result<(), HostError> {
        let now = self.config.read(register)?;
        let wanted = now & !bits | value & bits;
        if wanted == now { Ok(()) } else { self.config.write(register, wanted) }
    }

    fn restore(&self) -> Result<(), ClaimError> {
        for register in BASE_ADDRESSES {
            self.modify(register, u32::MAX, self.snapshot().dword(register.offset()))?;
        }
        // Linux restores what was there just before the reset, and that is what the guest wrote.
        for write in self.view.undoing(self.snapshot()) {
            let now = self.config.read(write.access)?;
            if now & write.mask != write.value {
                self.config.write(write.access, write.merge(now))?;
            }
        }
        for register in IDENTITY.into_iter().chain(BASE_ADDRESSES) {
            let before = self.snapshot().dword(register.offset());
            let after = self.config.read(register)?;
            if before != after {
                return Err(ClaimError::NotRestored {
                    function: self.function(),
                    offset: register.offset(),
                    before,
                    after,
                });
            }
        }
        Ok(())
    }

    /// Gives the device back to dom0 and to the driver it had.
    ///
    /// # Errors
    /// A reset that failed: the device stays in quarantine. Steps that could not be undone.
    pub fn release(mut self, host: &Host) -> Result<(), ClaimError> {
        self.renew(host)?;
        self.ledger.undo(host).map_err(|errors| {
            let stuck = self.ledger.steps().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            ClaimError::Stuck { function: self.function(), stuck, errors: Failures(errors) }
        })
    }

    /// The device.
    #[must_use]
    pub fn function(&self) -> Sbdf {
        self.facts.function
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

    /// What Linux knows of it.
    #[must_use]
    pub const fn description(&self) -> &FunctionDescription {
        &self.description
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

/// Memory is given to guests in pages of 4 KiB, so a BAR that does not fill its pages brings its neighbours with it (XSA-461).
fn refuse_shared_pages(host: &Host, function: Sbdf, description: &FunctionDescription) -> Result<(), ClaimError> {
    let pages = |resource: &Resource| resource.start / FRAME..=resource.end / FRAME;
    let memory = |resource: &&Resource| resource.is_present() && !resource.is_io();
    let partial = |resource: &&Resource| resource.start % FRAME != 0 || resource.end % FRAME != FRAME - 1;
    let bars = description.resources.iter().take(Snapshot::ROM).filter(memory);
    let own: Vec<_> = bars.filter(partial).map(pages).collect();
    if own.is_empty() {
        return Ok(());
    }
    for other in host.pci.functions()?.into_iter().filter(|other| *other != function) {
        let description = host.pci.describe(other)?;
        for pages in description.resources.iter().filter(memory).map(pages) {
            if let Some(own) = own.iter().find(|own| own.start() <= pages.end() && pages.start() <= own.end()) {
                return Err(ClaimError::SharedPage { function, other, frame: *own.start() });
            }
        }
    }
    Ok(())
}
