//! What was asked of the host, and which of it is made to fail.

use std::fmt;

use xenpcid_address::{DomainId, Sbdf};
use xenpcid_host::Errno;

/// One call of the host's traits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Name of the trait's method, as errors have it (`map_msi`, `write_config`, `map_grant`, `bind_event_channel`, ...).
    pub operation: &'static str,
    /// The domain it was for.
    pub domain: Option<DomainId>,
    /// The function it was for.
    pub function: Option<Sbdf>,
    /// The other arguments.
    pub detail: String,
    /// How it failed; `None` if it did not.
    pub error: Option<Errno>,
}

impl Call {
    pub(crate) fn new(operation: &'static str) -> Self {
        Self { operation, domain: None, function: None, detail: String::new(), error: None }
    }

    pub(crate) fn domain(mut self, domain: DomainId) -> Self {
        self.domain = Some(domain);
        self
    }

    pub(crate) fn function(mut self, function: Sbdf) -> Self {
        self.function = Some(function);
        self
    }

    pub(crate) fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// What the call was about, as an error names it.
    pub(crate) fn object(&self) -> String {
        let function = self.function.map(|function| function.to_string());
        let detail = (!self.detail.is_empty()).then(|| self.detail.clone());
        let domain = self.domain.map(|domain| format!("for domain {domain}"));
        [function, detail, domain].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        match self.object() {
            object if object.is_empty() => {}
            object => write!(f, " {object}")?,
        }
        match self.error {
            Some(errno) => write!(f, ": {errno:?}"),
            None => Ok(()),
        }
    }
}

/// A call that will fail.
#[derive(Debug)]
struct Fault {
    /// `None` for any operation.
    operation: Option<&'static str>,
    /// How many more calls until it strikes.
    countdown: usize,
    errno: Errno,
}

/// The calls that will fail.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, operation: Option<&'static str>, nth: usize, errno: Errno) {
        self.0.push(Fault { operation, countdown: nth, errno });
    }

    /// Counts a call of `operation`; the errno if it is to fail.
    pub(crate) fn strike(&mut self, operation: &'static str) -> Option<Errno> {
        for fault in &mut self.0 {
            if fault.operation.is_none_or(|wanted| wanted == operation) {
                fault.countdown = fault.countdown.saturating_sub(1);
            }
        }
        let due = self.0.iter().position(|fault| fault.countdown == 0)?;
        Some(self.0.remove(due).errno)
    }
}
