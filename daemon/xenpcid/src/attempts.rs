//! What was tried and failed, and when it is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// After the first failure, and doubled with each more.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Failed {
    reason: String,
    pause: Duration,
    next: Instant,
}

/// Failures by what was tried, each with its own back-off.
#[derive(Debug)]
pub struct Attempts<K> {
    failed: BTreeMap<K, Failed>,
}

impl<K> Default for Attempts<K> {
    fn default() -> Self {
        Self { failed: BTreeMap::new() }
    }
}

impl<K: Ord> Attempts<K> {
    /// Whether it may be tried now.
    #[must_use]
    pub fn may(&self, key: &K) -> bool {
        self.failed.get(key).is_none_or(|failed| failed.next <= Instant::now())
    }

    /// It failed; `true` unless it failed for the same reason before.
    pub fn failed(&mut self, key: K, reason: String) -> bool {
        let before = self.failed.remove(&key);
        let is_new = before.as_ref().is_none_or(|before| before.reason != reason);
        let pause = before.map_or(FIRST, |before| (before.pause * 2).min(LONGEST));
        self.failed.insert(key, Failed { reason, pause, next: Instant::now() + pause });
        is_new
    }

    /// It worked, or nobody wants it any more.
    pub fn forget(&mut self, key: &K) {
        self.failed.remove(key);
    }

    /// As [`Attempts::forget`], of many.
    pub fn forget_those(&mut self, is_over: impl Fn(&K) -> bool) {
        self.failed.retain(|key, _| !is_over(key));
    }

    /// Why each failed.
    pub fn reasons(&self) -> impl Iterator<Item = (&K, &str)> {
        self.failed.iter().map(|(key, failed)| (key, failed.reason.as_str()))
    }

    /// When the next one may be tried that may not be tried now.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        self.failed.values().map(|failed| failed.next).filter(|next| *next > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_pause_up_to_a_minute() {
        let mut attempts = Attempts::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            attempts.failed("a", "x".to_owned());
            assert!(!attempts.may(&"a") && attempts.may(&"b"));
            let next = attempts.next().unwrap();
            pauses.push((next - Instant::now()).as_secs());
            tokio::time::advance(next - Instant::now()).await;
            assert!(attempts.may(&"a"));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn same_reason_is_news_only_once() {
        let mut attempts = Attempts::default();
        let news: Vec<bool> = ["x", "x", "y", "x"].map(|reason| attempts.failed("a", reason.to_owned())).to_vec();
        assert_eq!(news, [true, false, true, true]);
        attempts.forget(&"a");
        assert!(attempts.failed("a", "x".to_owned()));
    }
}
