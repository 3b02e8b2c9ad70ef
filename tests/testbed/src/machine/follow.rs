//! Waits for a line in a file that another process writes.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{Error, Result};
use crate::interrupt;

/// Waits until `found` gives something for the text of `file`, which need not exist yet. The folder it is in must.
///
/// # Errors
/// [`Error::Deadline`] that says `what` was waited for.
pub fn wait_for<T>(file: &Path, what: &str, deadline: Duration, found: impl Fn(&str) -> Option<T>) -> Result<T> {
    let folder = file.parent().unwrap_or(file);
    let failed = |errno: Errno| Error::io("watch", folder)(errno.into());
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
    watch.add_watch(folder, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE).map_err(failed)?;
    let end = Instant::now() + deadline;
    loop {
        // Looked at after the watch was set, and after each event: nothing that is written in between is missed.
        let text = fs::read(file).unwrap_or_default();
        if let Some(value) = found(&String::from_utf8_lossy(&text)) {
            return Ok(value);
        }
        interrupt::check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Deadline { what: what.to_owned(), deadline });
        }
        // At least once a second, to notice an interruption.
        let timeout = PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match watch.read_events() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_line_that_comes_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let writer = file.clone();
        let thread = std::thread::spawn(move || {
            let mut log = OpenOptions::new().create(true).append(true).open(writer).unwrap();
            for line in ["one\n", "two\n", "three\n"] {
                log.write_all(line.as_bytes()).unwrap();
            }
        });
        let line = |text: &str| text.lines().find(|line| *line == "three").map(str::to_owned);
        assert_eq!(wait_for(&file, "three", LONG, line).unwrap(), "three");
        thread.join().unwrap();
    }

    #[test]
    fn a_line_that_never_comes_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = |_: &str| None::<()>;
        let error = wait_for(&folder.path().join("log"), "the line", Duration::from_millis(50), nothing).unwrap_err();
        assert!(error.to_string().contains("the line"), "{error}");
    }
}
