//! Ctrl-C and SIGTERM: a run ends where it can be left, and the frontend closes in order.

use tokio::sync::watch;

use crate::Error;

/// Exit status of a process that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// Whether the user wants the run to end.
#[derive(Clone, Debug)]
pub struct Stop {
    wanted: watch::Receiver<bool>,
}

impl Stop {
    /// One that follows the signals of this process. A second signal ends the process at once.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signals() -> Result<Self, Error> {
        let (sender, wanted) = watch::channel(false);
        ctrlc::set_handler(move || {
            if sender.send_replace(true) {
                std::process::exit(INTERRUPTED);
            }
        })
        .map_err(|error| Error::Signals(error.to_string()))?;
        Ok(Self { wanted })
    }

    /// One that is asked for through the sender.
    #[must_use]
    pub fn when(wanted: watch::Receiver<bool>) -> Self {
        Self { wanted }
    }

    /// An error once the run is to end: for between two requests that belong to nothing.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        if *self.wanted.borrow() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Returns when the run is to end.
    pub async fn wanted(&mut self) {
        if self.wanted.wait_for(|wanted| *wanted).await.is_err() {
            // Nobody can want it any more.
            std::future::pending().await
        }
    }
}
