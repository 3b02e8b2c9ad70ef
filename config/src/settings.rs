//! `[daemon]`: how the daemon behaves.

use std::time::Duration;

/// How the daemon behaves towards every domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long at most a new domain is kept paused until it has its devices; `None` lets it run at once.
    pub hold: Option<Duration>,
    /// How long a guest has to let go of a device that is taken from it.
    pub detach_timeout: Duration,
    /// A group of dom0 whose members may look at the control socket, but not change anything.
    pub read_only_group: Option<String>,
}

impl Settings {
    /// How long a domain is held unless something else is declared.
    pub const HOLD: Duration = Duration::from_secs(60);
    /// How long a guest has to let go unless something else is declared.
    pub const DETACH_TIMEOUT: Duration = Duration::from_secs(30);
    /// The longest of either: a mistake must not leave a guest paused for ever.
    pub const LONGEST: Duration = Duration::from_secs(60 * 60);
}

impl Default for Settings {
    fn default() -> Self {
        Self { hold: Some(Self::HOLD), detach_timeout: Self::DETACH_TIMEOUT, read_only_group: None }
    }
}
