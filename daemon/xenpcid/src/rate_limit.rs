//! A bound on what a guest can make the daemon log.

use std::time::{Duration, Instant};

/// Lines admitted in each [`RateLimit::PERIOD`].
const LINES: u32 = 10;

/// A line that may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// How many were not since the last one, if any.
    pub suppressed: Option<u64>,
}

/// Admits ten lines in five seconds and counts the rest.
#[derive(Debug, Default)]
pub struct RateLimit {
    period: Option<Instant>,
    admitted: u32,
    suppressed: u64,
}

impl RateLimit {
    /// Length of the period that the bound is for.
    const PERIOD: Duration = Duration::from_secs(5);

    /// A line, if one may be logged now.
    pub fn admit(&mut self) -> Option<Line> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&mut self, now: Instant) -> Option<Line> {
        if self.period.is_none_or(|start| now.duration_since(start) >= Self::PERIOD) {
            self.period = Some(now);
            self.admitted = 0;
        }
        if self.admitted == LINES {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.admitted += 1;
        let suppressed = std::mem::take(&mut self.suppressed);
        Some(Line { suppressed: (suppressed > 0).then_some(suppressed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eleventh_line_waits_for_the_next_period_and_is_counted() {
        let start = Instant::now();
        let mut limit = RateLimit::default();
        for _ in 0..LINES {
            assert_eq!(limit.admit_at(start), Some(Line { suppressed: None }));
        }
        assert_eq!(limit.admit_at(start), None);
        assert_eq!(limit.admit_at(start + Duration::from_secs(4)), None);
        assert_eq!(limit.admit_at(start + RateLimit::PERIOD), Some(Line { suppressed: Some(2) }));
        assert_eq!(limit.admit_at(start + RateLimit::PERIOD), Some(Line { suppressed: None }));
    }
}
