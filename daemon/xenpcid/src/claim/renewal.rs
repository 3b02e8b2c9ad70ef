//! Making a device forget its guest, and be as it was when it was claimed.

use xenpcid_config::ResetRequirement;
use xenpcid_host::{Host, HostError};
use xenpcid_policy::Access;

use super::{ClaimError, Claimed};

/// Command register bits (PCI Local Bus Specification 6.2.2).
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

impl Claimed {
    /// Makes the device as it was when it was claimed: silent, reset, its registers restored. Blocks for as long as the reset
    /// takes.
    ///
    /// # Errors
    /// A reset that failed, or a device that is not what it was. It must then not be given to anybody.
    pub fn renew(&self, host: &Host) -> Result<(), ClaimError> {
        self.silence()?;
        let report = match self.reset(host) {
            Err(ClaimError::NotReset { report, .. }) if self.device.reset == ResetRequirement::BestEffort => {
                tracing::warn!(function = %self.function(), "{report}; its configuration accepts that");
                self.restore()?;
                *report
            }
            reset => reset.inspect(|report| tracing::info!(function = %self.function(), "{report}"))?,
        };
        self.facts.set_last_reset(report);
        self.silence()
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

    /// Writes back what a reset, or the last guest, has changed.
    ///
    /// # Errors
    /// [`ClaimError::NotRestored`] if the device does not read as at the claim.
    pub(super) fn restore(&self) -> Result<(), ClaimError> {
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
}
