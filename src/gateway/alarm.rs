//! An alarm is a timer that is used again and again, and seldom set.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that one wait after the other uses, each for later than the one before, as a rule. A runtime's own is set and
/// taken back for each wait, which takes a lock; nearly all of them never go off.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits until `latest`, or less long where it was set before: whoever waits looks at the clock and waits again.
    pub(super) async fn go_off(&mut self, latest: Instant) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(latest)));
        if sleep.is_elapsed() || sleep.deadline() > latest {
            sleep.as_mut().reset(latest);
        }
        sleep.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_goes_off_late_and_early_only_where_it_was_set_before() {
        let (mut alarm, begin) = (Alarm::default(), Instant::now());
        let after = |millis| begin + Duration::from_millis(millis);
        alarm.go_off(after(50)).await;
        assert!(Instant::now() >= after(50));
        let wait = Duration::from_millis(5);
        assert!(tokio::time::timeout(wait, alarm.go_off(after(60_000))).await.is_err());
        // For sooner than it is set.
        let far = tokio::time::timeout(Duration::from_secs(30), alarm.go_off(after(100)));
        assert!(far.await.is_ok() && Instant::now() >= after(100));
        assert!(tokio::time::timeout(wait, alarm.go_off(after(200))).await.is_err());
        // For later than it is set.
        let early = tokio::time::timeout(Duration::from_secs(30), alarm.go_off(after(60_000)));
        assert!(early.await.is_ok() && Instant::now() >= after(200));
    }
}
