//! A bound on what a guest can make the daemon log.

use std::time::{Duration, Instant};

/// Lines admitted in each [`RateLimit::PERIOD`].
const LINES: u32 = 10;

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

    /// Whether a line may be logged now, and how many were not since the last one.
    pub fn admit(&mut self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&mut self, now: Instant) -> Option<u64> {
        if self.period.is_none_or(|start| now.duration_since(start) >= Self::PERIOD) {
            self.period = Some(now);
            self.admitted = 0;
        }
        if self.admitted == LINES {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.admitted += 1;
        Some(std::mem::take(&mut self.suppressed))
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
            assert_eq!(limit.admit_at(start), Some(0));
        }
        assert_eq!(limit.admit_at(start), None);
        assert_eq!(limit.admit_at(start + Duration::from_secs(4)), None);
        assert_eq!(limit.admit_at(start + RateLimit::PERIOD), Some(2));
        assert_eq!(limit.admit_at(start + RateLimit::PERIOD), Some(0));
    }
}
