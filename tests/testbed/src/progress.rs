//! What the person at the terminal sees while long work goes on: the current step and its time. Without a terminal,
//! plain lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Announces steps on standard error.
pub struct Progress {
    started: Instant,
    is_terminal: bool,
}

/// One step; says how long it took when it is finished, and disappears silently when it is dropped on an error.
pub struct Step {
    text: String,
    begun: Instant,
    started: Instant,
    line: Option<ProgressBar>,
}

impl Progress {
    /// Time counts from here.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), is_terminal: std::io::stderr().is_terminal() }
    }

    /// Begins a step.
    pub fn step(&self, text: impl Into<String>) -> Step {
        let text = text.into();
        let line = self.is_terminal.then(|| {
            let line = ProgressBar::new_spinner().with_message(text.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                line.set_style(style);
            }
            line.enable_steady_tick(Duration::from_millis(200));
            line
        });
        Step { text, begun: Instant::now(), started: self.started, line }
    }
}

impl Step {
    /// Ends the step and leaves a line about it.
    pub fn done(mut self) {
        self.clear();
        eprintln!(
            "[{:6.1} s] {} ({:.1} s)",
            self.started.elapsed().as_secs_f64(),
            self.text,
            self.begun.elapsed().as_secs_f64()
        );
    }

    fn clear(&mut self) {
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.clear();
    }
}
