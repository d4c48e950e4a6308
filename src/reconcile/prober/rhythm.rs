//! The rhythm of probing one instance: when to ask next, and what the answers so far amount to. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::world::Readiness;

/// How many probes in a row a serving instance must miss. One late answer is no outage.
pub const MISSES: u32 = 3;

/// The shortest pause between two probes. A refused connection on the same host costs some 20 µs.
const SHORTEST: Duration = Duration::from_millis(10);

/// Of the time that an instance has been waited for, the next pause is one part in this many: readiness is noticed
/// within 3 % of what it took, and an app that takes minutes is not asked a hundred times a second.
const SHARE: u32 = 32;

/// What the answers so far amount to.
#[derive(Debug, Clone)]
pub enum Rhythm {
    /// No good answer yet, or none any more.
    Waiting {
        /// Since when.
        since: Instant,
    },
    /// Good answers, but for the last few.
    Serving {
        /// How many were missed in a row, and when the first of them was.
        missed: Option<(u32, Timestamp)>,
    },
}

impl Rhythm {
    /// The pause before the next probe. `jitter` from 0.0 to 1.0 spreads many instances over time.
    pub fn pause(&self, interval: Duration, jitter: f64, now: Instant) -> Duration {
        match self {
            Self::Waiting { since } => (now.saturating_duration_since(*since) / SHARE).min(interval).max(SHORTEST),
            Self::Serving { .. } => interval.mul_f64(0.9 + 0.2 * jitter).max(SHORTEST),
        }
    }

    /// A good answer came. The new reading, where it is another.
    pub fn good(&mut self, reading: &Readiness) -> Option<Readiness> {
        *self = Self::Serving { missed: None };
        (*reading != Readiness::Ready).then_some(Readiness::Ready)
    }

    /// A probe was missed for that reason. The new reading, where it is another.
    pub fn miss(&mut self, reading: &Readiness, last: &str, now: Instant, at: Timestamp) -> Option<Readiness> {
        let since = match (&*self, reading) {
            (Self::Waiting { .. }, Readiness::Failing { last: before, .. }) if before == last => return None,
            (Self::Waiting { .. }, Readiness::Failing { since, .. }) => *since,
            (Self::Waiting { .. }, _) => at,
            (Self::Serving { missed }, _) => {
                let (count, first) = missed.map_or((1, at), |(count, first)| (count + 1, first));
                if count < MISSES {
                    *self = Self::Serving { missed: Some((count, first)) };
                    return None;
                }
                *self = Self::Waiting { since: now };
                first
            }
        };
        Some(Readiness::Failing { last: last.to_owned(), since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn failing(last: &str, second: i64) -> Readiness {
        Readiness::Failing { last: last.to_owned(), since: at(second) }
    }

    #[test]
    fn waiting_begins_tight_and_slackens_to_the_interval() {
        let zero = Instant::now();
        let waiting = Rhythm::Waiting { since: zero };
        let pause = |ms: u64| waiting.pause(Duration::from_secs(2), 0.5, zero + Duration::from_millis(ms)).as_millis();
        assert_eq!([0, 320, 800, 1600, 30_000, 600_000].map(pause), [10, 10, 25, 50, 937, 2000]);
        assert_eq!(waiting.pause(Duration::ZERO, 0.5, zero), SHORTEST, "never without a pause");
    }

    #[test]
    fn serving_keeps_the_interval_within_a_tenth() {
        let serving = Rhythm::Serving { missed: None };
        let pause = |jitter| serving.pause(Duration::from_secs(2), jitter, Instant::now()).as_millis();
        assert_eq!([0.0, 0.5, 1.0].map(pause), [1800, 2000, 2200]);
    }

    #[test]
    fn three_misses_in_a_row_are_an_outage_and_two_are_none() {
        let zero = Instant::now();
        let mut rhythm = Rhythm::Waiting { since: zero };
        assert_eq!(rhythm.good(&Readiness::Unknown), Some(Readiness::Ready));
        for second in 1..3 {
            assert_eq!(rhythm.miss(&Readiness::Ready, "HTTP 500", zero, at(second)), None);
        }
        assert_eq!(rhythm.good(&Readiness::Ready), None);
        for second in 11..13 {
            assert_eq!(rhythm.miss(&Readiness::Ready, "HTTP 500", zero, at(second)), None);
        }
        assert_eq!(rhythm.miss(&Readiness::Ready, "HTTP 503", zero, at(13)), Some(failing("HTTP 503", 11)));
        assert!(matches!(rhythm, Rhythm::Waiting { .. }));
    }

    #[test]
    fn a_starting_instance_fails_with_the_last_reason_since_the_first() {
        let zero = Instant::now();
        let mut rhythm = Rhythm::Waiting { since: zero };
        let first = rhythm.miss(&Readiness::Unknown, "connection refused", zero, at(1)).unwrap();
        assert_eq!(first, failing("connection refused", 1));
        assert_eq!(rhythm.miss(&first, "connection refused", zero, at(2)), None);
        assert_eq!(rhythm.miss(&first, "HTTP 500", zero, at(3)), Some(failing("HTTP 500", 1)));
    }
}
