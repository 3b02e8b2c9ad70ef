//! Resetting a device: by which of Linux' methods, and what became of it.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use super::{ClaimError, Claimed};
use xenpcid_host::Host;

/// A change of power states resets the least, and some devices not at all, whatever their registers promise; so it comes after
/// a reset of the bus, which Linux has only for a device that is alone on it, and else tries last.
const WEAKEST: &str = "pm";
/// Resets that leave everything else alone, as Linux names them: what a guest may ask for. A reset of a bus or slot is not.
const FUNCTION_LEVEL: [&str; 3] = ["device_specific", "flr", "af_flr"];

/// What became of a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetReport {
    /// When it was over.
    pub time: SystemTime,
    /// The methods that there are, in the order in which they are tried.
    pub methods: Vec<String>,
    /// Those that did not work, and why.
    pub failed: Vec<(String, String)>,
    /// The one that worked: afterwards identity and BARs read as at the claim. None if none did, and the configuration accepts
    /// that.
    pub used: Option<String>,
    /// How long all that took.
    pub took: Duration,
}

impl fmt::Display for ResetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.join(", ");
        match &self.used {
            Some(used) => write!(
                f,
                "reset by {used} in {} ms (of {methods}); identity and BARs read as at the claim",
                self.took.as_millis()
            )?,
            None if self.methods.is_empty() => f.write_str("not reset: there is no method")?,
            None => write!(f, "not reset by any of {methods}")?,
        }
        self.failed.iter().try_for_each(|(method, error)| write!(f, "; {method} failed: {error}"))
    }
}

/// The methods that Linux has, in the order in which they are tried here.
pub(super) fn ladder(mut methods: Vec<String>) -> Vec<String> {
    methods.sort_by_key(|method| method == WEAKEST);
    methods
}

impl Claimed {
    /// Resets the device by the first method that works, and restores its registers.
    ///
    /// # Errors
    /// [`ClaimError::NotReset`] with what became of each method.
    pub(super) fn reset(&self, host: &Host) -> Result<ResetReport, ClaimError> {
        let started = Instant::now();
        let mut failed = Vec::new();
        for method in &self.reset_methods {
            let reset = host.pci.reset(self.function(), method).map_err(ClaimError::from);
            match reset.and_then(|()| self.restore()) {
                Ok(()) => return Ok(self.report(Some(method), failed, started)),
                Err(error) => failed.push((method.clone(), error.to_string())),
            }
        }
        Err(ClaimError::NotReset { function: self.function(), report: Box::new(self.report(None, failed, started)) })
    }

    fn report(&self, used: Option<&String>, failed: Vec<(String, String)>, started: Instant) -> ResetReport {
        ResetReport {
            time: SystemTime::now(),
            methods: self.reset_methods.clone(),
            failed,
            used: used.cloned(),
            took: started.elapsed(),
        }
    }

    /// Resets the device for the guest that has it and asked for it, or whose frontend begins anew. Its memory is decoded again
    /// afterwards; its interrupts are the caller's to disable before.
    ///
    /// # Errors
    /// A reset that failed or is not to be had; then the device is as before, or not to be relied on.
    pub fn reset_for_guest(&self, host: &Host) -> Result<(), ClaimError> {
        let Some(method) = self.function_level_reset() else {
            return Err(ClaimError::NoFunctionLevelReset { function: self.function() });
        };
        let reset = host.pci.reset(self.function(), method);
        // Whatever became of it, the guest has the memory mapped, so it must be decoded, where it was.
        let restored = self.restore();
        let decoded = self.hand_over();
        reset?;
        restored?;
        Ok(decoded?)
    }

    /// The method that a guest may ask for.
    fn function_level_reset(&self) -> Option<&String> {
        self.reset_methods.iter().find(|method| FUNCTION_LEVEL.contains(&method.as_str()))
    }
}
