//! What a long operation tells its caller on the way.
//!
//! ```text
//!   Service::attach(.., progress)  ── say ──► lines, bounded ──┐
//!      a task of its own           ── accept ─┐                ├──► Running ──► the caller's connection, while it is there
//!                                  ── end ────┴─► the answer ──┘
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::refusal::Refusal;

/// Lines that the caller may be behind. It loses what comes then.
const LINES: usize = 64;

/// The way from an operation to its caller. Clones are the same way.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    lines: Option<mpsc::Sender<String>>,
    /// Until the caller has its answer.
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// Whether the caller wants to know what came of it.
    waits: bool,
}

/// The result; none for a caller who does not wait.
type Answer = Result<Option<Value>, Refusal>;

impl Progress {
    /// For an operation that nobody called for over the socket.
    #[must_use]
    pub fn unheard() -> Self {
        Self(Arc::new(Inner { lines: None, answer: Mutex::new(None), waits: false }))
    }

    /// Tells what is done now. Never waits.
    pub fn say(&self, line: impl Into<String>) {
        if let Some(lines) = &self.0.lines {
            // The caller has gone, or reads too slowly to be told everything.
            let _ = lines.try_send(line.into());
        }
    }

    /// The operation is under way: what could be wrong with the call was looked at. A caller who does not wait is answered
    /// now.
    pub fn accept(&self) {
        if !self.0.waits {
            self.answer(Ok(None));
        }
    }

    fn answer(&self, answer: Answer) -> bool {
        let taken = self.0.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taken {
            // A caller who has gone does not want it any more.
            Some(sender) => sender.send(answer).is_ok(),
            None => false,
        }
    }

    /// The operation has ended. What the caller does not hear is said in the log.
    pub(crate) fn end(&self, method: &str, outcome: Result<Value, Refusal>) {
        let failed = outcome.as_ref().err().map(Refusal::to_string);
        let answer = if self.0.waits { outcome.map(Some) } else { outcome.map(|_| None) };
        if let (false, Some(reason)) = (self.answer(answer), failed) {
            tracing::warn!(method, reason, "failed, and its caller does not wait for it");
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("waits", &self.0.waits).finish_non_exhaustive()
    }
}

/// The caller's end.
pub(crate) struct Running {
    lines: mpsc::Receiver<String>,
    answer: oneshot::Receiver<Answer>,
}

/// What comes of an operation.
pub(crate) enum News {
    Line(String),
    Answer(Answer),
}

impl Running {
    /// Both ends.
    pub(crate) fn new(waits: bool) -> (Progress, Self) {
        let (lines, received) = mpsc::channel(LINES);
        let (sender, answer) = oneshot::channel();
        let inner = Inner { lines: Some(lines), answer: Mutex::new(Some(sender)), waits };
        (Progress(Arc::new(inner)), Self { lines: received, answer })
    }

    /// The next line, or after the last one the answer. Not to be called after that.
    pub(crate) async fn next(&mut self) -> News {
        tokio::select! {
            biased;
            Some(line) = self.lines.recv() => News::Line(line),
            answer = &mut self.answer => News::Answer(answer.unwrap_or_else(|_| {
                let reason = "the operation ended badly; this is a defect, please report it".to_owned();
                Err(Refusal::Failed { reason })
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines, and the answer.
    async fn all(mut running: Running) -> (Vec<String>, Answer) {
        let mut lines = Vec::new();
        loop {
            match running.next().await {
                News::Line(line) => lines.push(line),
                News::Answer(answer) => return (lines, answer),
            }
        }
    }

    #[tokio::test]
    async fn caller_that_reads_too_slowly_loses_lines_and_never_the_answer() {
        let (progress, running) = Running::new(true);
        (0..LINES + 5).for_each(|n| progress.say(n.to_string()));
        progress.end("M", Ok(Value::from(7)));
        let (lines, answer) = all(running).await;
        assert_eq!((lines.len(), lines.last()), (LINES, Some(&(LINES - 1).to_string())));
        assert_eq!(answer, Ok(Some(Value::from(7))));
    }

    #[tokio::test]
    async fn caller_who_does_not_wait_hears_what_is_wrong_with_the_call_and_nothing_of_the_end() {
        let refusal = || Refusal::DomainNotFound { domain: "web1".to_owned() };
        let (progress, running) = Running::new(false);
        progress.end("M", Err(refusal()));
        assert_eq!(all(running).await.1, Err(refusal()));

        let (progress, running) = Running::new(false);
        progress.accept();
        progress.end("M", Err(refusal()));
        assert_eq!(all(running).await.1, Ok(None));
    }

    #[tokio::test]
    async fn caller_who_waits_hears_nothing_of_the_beginning() {
        let (progress, running) = Running::new(true);
        progress.accept();
        progress.end("M", Ok(Value::Null));
        assert_eq!(all(running).await.1, Ok(Some(Value::Null)));
    }

    #[tokio::test]
    async fn operation_that_ends_without_an_answer_is_a_defect() {
        let (progress, running) = Running::new(true);
        drop(progress);
        let (_, answer) = all(running).await;
        assert!(matches!(answer, Err(Refusal::Failed { reason }) if reason.contains("defect")));
    }

    #[test]
    fn operation_that_nobody_called_for_can_say_what_it_wants() {
        let progress = Progress::unheard();
        progress.accept();
        progress.say("resetting it");
        progress.end("M", Ok(Value::Null));
    }
}
