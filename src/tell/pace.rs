//! A pace is how soon somebody is told again who could not be told: later with each time, and not all at once.

use std::time::{Duration, Instant};

use crate::tree::Digest;

/// The first and the longest pause after what may pass.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The first and the longest pause after what somebody has to mend.
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// How soon somebody is told again.
#[derive(Debug, Default)]
pub struct Pace {
    failures: u32,
    until: Option<Instant>,
    /// With which secrets they have refused.
    refused: Option<Digest>,
}

impl Pace {
    /// Whether they may be told now, by those secrets: others than were refused are tried at once.
    #[must_use]
    pub fn is_due(&self, secrets: &Digest, now: Instant) -> bool {
        let has_changed = self.refused.as_ref().is_some_and(|refused| refused != secrets);
        has_changed || self.until.is_none_or(|until| now >= until)
    }

    /// They could not be told, and want to be left alone for a while, or say nothing of that. Answers how many times in a row.
    pub fn again(&mut self, after: Option<Duration>, now: Instant) -> u32 {
        self.refused = None;
        self.wait(AGAIN, after, now)
    }

    /// They do not want to be told, by those secrets.
    pub fn refused(&mut self, secrets: Digest, now: Instant) {
        if self.refused.is_none() {
            self.failures = 0;
        }
        self.refused = Some(secrets);
        self.wait(REFUSED, None, now);
    }

    fn wait(&mut self, (first, longest): (Duration, Duration), after: Option<Duration>, now: Instant) -> u32 {
        let pause = first.saturating_mul(1 << self.failures.min(12)).min(longest);
        self.failures = self.failures.saturating_add(1);
        // Never sooner than they ask for.
        let jittered = pause.mul_f64(0.8 + 0.4 * rand::random::<f64>());
        self.until = Some(now + after.map_or(jittered, |after| after.max(jittered)));
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_are_never_shorter_than_asked_for() {
        let (mut pace, now, key) = (Pace::default(), Instant::now(), Digest::of(b"k"));
        assert!(pace.is_due(&key, now));
        for times in 1..100 {
            assert_eq!(pace.again(None, now), times);
        }
        assert!(
            !pace.is_due(&key, now + Duration::from_secs(200)) && pace.is_due(&key, now + Duration::from_secs(361))
        );
        let mut pace = Pace::default();
        pace.again(Some(Duration::from_secs(50)), now);
        assert!(!pace.is_due(&key, now + Duration::from_secs(49)) && pace.is_due(&key, now + Duration::from_secs(50)));
    }

    #[test]
    fn a_secret_that_was_refused_waits_and_another_one_does_not() {
        let (mut pace, now, (bad, good)) = (Pace::default(), Instant::now(), (Digest::of(b"bad"), Digest::of(b"good")));
        pace.refused(bad, now);
        assert!(!pace.is_due(&bad, now + Duration::from_secs(40)) && pace.is_due(&bad, now + Duration::from_secs(73)));
        assert!(pace.is_due(&good, now));
    }
}
