//! Ctrl-C and requests to terminate: QEMU is killed, whoever waits for it gets an error, and the run folder is removed on
//! the way out.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static PROCESSES: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Takes over SIGINT, SIGTERM and SIGHUP. A second one ends this process at once.
///
/// # Errors
/// If they are taken already.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_STATUS.into());
        }
        eprintln!("interrupted: ending the machine");
        for process in processes().iter() {
            // Fails if it has ended already.
            let _ = kill(Pid::from_raw(i32::try_from(*process).unwrap_or(i32::MAX)), Signal::SIGKILL);
        }
    })
    .map_err(|error| Error::Unsuitable(format!("cannot handle signals: {error}")))
}

/// Exit status after an interruption, as a shell would report it.
pub const EXIT_STATUS: u8 = 130;

/// Fails once there was a signal.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Has a child process killed at an interruption.
pub fn kill_at_interrupt(process: u32) {
    processes().insert(process);
}

/// Undoes [`kill_at_interrupt`]; to be called before the process is waited for, since its number may be used again
/// afterwards.
pub fn forget(process: u32) {
    processes().remove(&process);
}

fn processes() -> std::sync::MutexGuard<'static, BTreeSet<u32>> {
    PROCESSES.lock().unwrap_or_else(PoisonError::into_inner)
}
