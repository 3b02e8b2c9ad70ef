use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::store::describe;
use super::{Command, Store};
use crate::wire::MessageType;
use crate::{Error, ErrorName, Path};

/// How many changed paths a watch keeps apart. A guest that writes more different nodes than this before they are
/// looked at only causes [`Changes::Everything`].
pub const DIRTY_PATHS_MAX: usize = 256;

/// What may have changed since the last look. Level-triggered: it says where to look again, not what happened, and a
/// path may be named although nothing changed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These nodes, and perhaps what lies below them. As the server names them: relative if the watch is.
    Paths(BTreeSet<Path>),
    /// Anything at or below the watched path: too many changes to keep apart, or a new connection.
    Everything,
}

impl Changes {
    /// Must `path` be looked at again? True if it, something above it or something below it may have changed.
    #[must_use]
    pub fn affects(&self, path: &Path) -> bool {
        match self {
            Self::Everything => true,
            Self::Paths(paths) => paths.iter().any(|dirty| dirty.contains(path) || path.contains(dirty)),
        }
    }
}

/// A registered watch. Dropped, it is removed from the server.
#[derive(Debug)]
pub struct Watch {
    path: Path,
    token: u64,
    dirty: Arc<Dirty>,
    commands: mpsc::UnboundedSender<Command>,
}

/// Tokens only have to differ within a connection; numbering them by process is simpler.
static NEXT_TOKEN: AtomicU64 = AtomicU64::new(1);

impl Watch {
    pub(super) async fn register(store: &Store, path: &Path) -> Result<Self, Error> {
        // The guard exists before the request is made, so that giving up while waiting removes the watch as well.
        let watch = Self {
            path: path.clone(),
            token: NEXT_TOKEN.fetch_add(1, Ordering::Relaxed),
            dirty: Arc::new(Dirty::default()),
            commands: store.commands().clone(),
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::Watch { path: path.clone(), token: watch.token, state: watch.dirty.clone(), reply };
        store.send(command, answer).await.map_err(|failure| describe(failure, MessageType::WATCH, path))?;
        Ok(watch)
    }

    /// The watched path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until something may have changed since the last call, and says what. Cancel-safe: a dropped call loses
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the connection is closed for good; [`Error::Refused`] if the server refused the watch
    /// after a reconnection.
    pub async fn changed(&mut self) -> Result<Changes, Error> {
        loop {
            let notified = self.dirty.notify.notified();
            match self.dirty.take() {
                Taken::Changes(changes) => return Ok(changes),
                Taken::Nothing => notified.await,
                Taken::Ended(failure) => {
                    let failure = failure.map(super::Failure::Refused);
                    return Err(describe(failure, MessageType::WATCH, &self.path));
                }
            }
        }
    }

    /// What may have changed since the last call, without waiting.
    ///
    /// # Errors
    /// As [`Watch::changed`].
    pub fn try_changed(&mut self) -> Result<Option<Changes>, Error> {
        match self.dirty.take() {
            Taken::Changes(changes) => Ok(Some(changes)),
            Taken::Nothing => Ok(None),
            Taken::Ended(failure) => {
                Err(describe(failure.map(super::Failure::Refused), MessageType::WATCH, &self.path))
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Fails only if the connection is closed for good, and the watch is gone with it.
        let _ = self.commands.send(Command::Unwatch { token: self.token });
    }
}

/// What a watch has not looked at yet. Marking never waits, so that a slow consumer cannot hold up the connection.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    marks: Mutex<Marks>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Marks {
    paths: BTreeSet<Path>,
    everything: bool,
    /// Set once no more changes will come; with the server's error if it refused the watch.
    ended: Option<Option<ErrorName>>,
}

enum Taken {
    Changes(Changes),
    Nothing,
    Ended(Option<ErrorName>),
}

impl Dirty {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Marks are whole after each statement, so a panic elsewhere cannot have broken them.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks one path; `None` marks everything.
    pub(super) fn mark(&self, path: Option<Path>) {
        let mut marks = self.marks();
        if !marks.everything {
            let Some(path) = path.filter(|_| marks.paths.len() < DIRTY_PATHS_MAX) else {
                marks.paths.clear();
                marks.everything = true;
                drop(marks);
                self.notify.notify_one();
                return;
            };
            marks.paths.insert(path);
        }
        drop(marks);
        self.notify.notify_one();
    }

    /// No more changes will come.
    pub(super) fn end(&self, reason: Option<ErrorName>) {
        self.marks().ended = Some(reason);
        self.notify.notify_one();
    }

    fn take(&self) -> Taken {
        let mut marks = self.marks();
        if std::mem::take(&mut marks.everything) {
            return Taken::Changes(Changes::Everything);
        }
        if !marks.paths.is_empty() {
            return Taken::Changes(Changes::Paths(std::mem::take(&mut marks.paths)));
        }
        marks.ended.clone().map_or(Taken::Nothing, Taken::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(dirty: &Dirty) -> Option<Changes> {
        match dirty.take() {
            Taken::Changes(changes) => Some(changes),
            _ => None,
        }
    }

    #[test]
    fn same_path_marked_twice_is_reported_once() {
        let dirty = Dirty::default();
        let path = Path::from_static("/a");
        dirty.mark(Some(path.clone()));
        dirty.mark(Some(path.clone()));
        assert_eq!(taken(&dirty), Some(Changes::Paths([path].into())));
        assert_eq!(taken(&dirty), None);
    }

    #[test]
    fn more_paths_than_the_bound_become_everything() {
        let dirty = Dirty::default();
        for number in 0..=DIRTY_PATHS_MAX {
            dirty.mark(Some(Path::ROOT.child(number).unwrap()));
        }
        assert_eq!(taken(&dirty), Some(Changes::Everything));
        assert_eq!(taken(&dirty), None);
    }

    #[test]
    fn changes_before_the_end_are_still_reported() {
        let dirty = Dirty::default();
        dirty.mark(Some(Path::ROOT));
        dirty.end(None);
        assert!(taken(&dirty).is_some());
        assert!(matches!(dirty.take(), Taken::Ended(None)));
    }

    #[test]
    fn change_affects_what_is_above_and_below_it() {
        let changes = Changes::Paths([Path::from_static("/a/b")].into());
        assert!(changes.affects(&Path::from_static("/a")));
        assert!(changes.affects(&Path::from_static("/a/b/c")));
        assert!(!changes.affects(&Path::from_static("/a/c")));
        assert!(Changes::Everything.affects(&Path::ROOT));
    }
}
