//! A standing is what connecting to an upstream has taught: one that cannot be reached is left aside for a while.
//!
//! The prober finds out too, and the route then moves; this is for the moments before, and for a way to an instance
//! that only this host has lost.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pool::CONNECT_LIMIT;

/// From this many failures in a row on, an upstream is left aside.
const FAILURES: u32 = 3;

/// How long an upstream is left aside at first, and at most; twice as long each time that a trial fails.
const ASIDE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What connecting to an upstream has taught.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Connections in a row that did not come about.
    failures: AtomicU32,
    /// Milliseconds since [`START`]; 0 where it is not aside.
    until: AtomicU64,
}

/// What times are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Standing {
    /// Whether requests should rather go elsewhere.
    pub(super) fn is_aside(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// Whether the time aside is over and this is the one request that shall find out whether it has helped. The next
    /// is let through only after this one must have.
    pub(super) fn begin_trial(&self) -> bool {
        self.begin_trial_at(START.elapsed())
    }

    fn begin_trial_at(&self, now: Duration) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        let next = millis(now + 2 * CONNECT_LIMIT);
        until != 0
            && millis(now) >= until
            && self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A connection came about.
    pub(super) fn reached(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.until.store(0, Ordering::Relaxed);
        }
    }

    /// A connection was refused, or not answered in time.
    pub(super) fn missed(&self) {
        self.missed_at(START.elapsed());
    }

    fn missed_at(&self, now: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if let Some(trials) = failures.checked_sub(FAILURES) {
            let aside = (ASIDE.0 * 2_u32.pow(trials.min(16))).min(ASIDE.1);
            self.until.store(millis(now + aside), Ordering::Relaxed);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_is_missed_again_and_again_is_left_aside_for_longer_and_longer_up_to_a_limit() {
        let standing = Standing::default();
        for _ in 1..FAILURES {
            standing.missed_at(second(10));
            assert!(!standing.is_aside());
        }
        standing.missed_at(second(10));
        assert!(standing.is_aside());
        let mut now = second(10);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let began = now;
            while !standing.begin_trial_at(now) {
                now += Duration::from_millis(500);
            }
            waits.push(now.saturating_sub(began).as_secs());
            standing.missed_at(now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn a_trial_is_one_request_and_its_success_ends_the_matter() {
        let standing = Standing::default();
        (0..FAILURES).for_each(|_| standing.missed_at(second(10)));
        assert!(standing.begin_trial_at(second(11)));
        assert!(!standing.begin_trial_at(second(11)), "a second trial while the first may be under way");
        standing.reached();
        assert!(!standing.is_aside());
        standing.missed_at(second(12));
        assert!(!standing.is_aside(), "failures count in a row");
    }
}
