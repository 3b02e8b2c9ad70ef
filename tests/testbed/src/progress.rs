//! What the person at the terminal sees while long work goes on: the current step, what it is at, and its time. Without a
//! terminal, plain lines, one for each step that is done.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Announces steps on standard error, one at a time.
pub struct Progress {
    started: Instant,
    is_terminal: bool,
    /// The title of the current step, and its line.
    current: RefCell<Option<(String, ProgressBar)>>,
}

/// One step. Its line disappears with it.
pub struct Step<'a> {
    progress: &'a Progress,
    text: String,
    begun: Instant,
}

impl Progress {
    /// Time counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), is_terminal: std::io::stderr().is_terminal(), current: RefCell::new(None) }
    }

    /// Begins a step.
    pub fn step(&self, text: impl Into<String>) -> Step<'_> {
        let text = text.into();
        if self.is_terminal {
            let line = ProgressBar::new_spinner().with_message(text.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                line.set_style(style);
            }
            line.enable_steady_tick(Duration::from_millis(200));
            self.current.replace(Some((text.clone(), line)));
        }
        Step { progress: self, text, begun: Instant::now() }
    }

    /// Says what the current step is at.
    pub fn note(&self, text: &str) {
        if let Some((title, line)) = &*self.current.borrow() {
            line.set_message(format!("{title}: {text}"));
        }
    }
}

impl Step<'_> {
    /// Ends the step and leaves a line about it.
    pub fn done(self) {
        let (total, own) = (self.progress.started.elapsed().as_secs_f64(), self.begun.elapsed().as_secs_f64());
        let line = format!("[{total:6.1} s] {} ({own:.1} s)", self.text);
        drop(self);
        eprintln!("{line}");
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if let Some((_, line)) = self.progress.current.take() {
            line.finish_and_clear();
        }
    }
}
