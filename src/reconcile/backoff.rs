//! Backoff: how long a revision that failed is left alone.

use std::time::Duration;

use jiff::Timestamp;

use super::desired::Target;
use super::step::Next;
use crate::world::{Failure, FailureKind, Observed};

/// Failures that lie further apart than this are not in a row.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How many times a revision that never served is tried. What it lacks will not come by itself: the next push does.
pub const TRIES: u32 = 8;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);

/// The longest pause where something outside is in the way: that is mended without a word to us.
const LONGEST_HINDERED: Duration = Duration::from_secs(60);

/// The pause that a target is in, if it is in one.
#[must_use]
pub fn pause(target: &Target, observed: &Observed) -> Option<Next> {
    let record = observed.record.as_ref()?;
    let failure = record.failure(&target.revision).filter(|failure| failure.settings == target.spec.digest())?;
    let has_served =
        record.served.as_ref().is_some_and(|served| served.revision == target.revision && !served.spec.suspend);
    // What is wrong outside may be mended at any time, without the folder changing.
    let is_its_own = failure.kind != FailureKind::Hindered;
    if is_its_own && !has_served && failure.count >= TRIES {
        let reason = format!("{}; given up after {} tries, until its folder changes", failure.message, failure.count);
        return Some(Next::Wait { until: None, reason });
    }
    // A clock that was set back must not make the pause longer than it is meant to be.
    let since = failure.at.min(observed.at);
    let until = since.checked_add(delay(failure, has_served)).unwrap_or(Timestamp::MAX);
    let reason = format!("{}; the next try is number {}", failure.message, failure.count + 1);
    (observed.at < until).then_some(Next::Wait { until: Some(until), reason })
}

/// From the last failure to the next try: at once after the first crash of what has served, else ten seconds,
/// doubled with each failure up to five minutes.
#[must_use]
pub fn delay(failure: &Failure, has_served: bool) -> Duration {
    let longest = if failure.kind == FailureKind::Hindered { LONGEST_HINDERED } else { LONGEST };
    let is_crash = matches!(failure.kind, FailureKind::Crash | FailureKind::OutOfMemory);
    let doublings = if has_served && is_crash { failure.count.checked_sub(2) } else { failure.count.checked_sub(1) };
    doublings.map_or(Duration::ZERO, |n| Duration::from_secs(10).saturating_mul(1 << n.min(10)).min(longest))
}

/// The failure to write down, given the one before it. What has `served` is forgiven for what lies further back than a pause and
/// its grace, which is given; what never has is not, since one try may take longer than any span that could be named here.
#[must_use]
pub fn next_failure(previous: Option<&Failure>, mut failure: Failure, served: Option<Duration>) -> Failure {
    let in_a_row = previous.filter(|previous| {
        let between = failure.at.duration_since(previous.at).unsigned_abs();
        let forgives = |grace| FORGIVEN_AFTER.saturating_add(delay(previous, true)).saturating_add(grace);
        served.is_none_or(|grace| between < forgives(grace))
    });
    failure.count = in_a_row.map_or(1, |previous| previous.count.saturating_add(1));
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Digest, Revision};

    #[test]
    fn only_what_has_served_is_forgiven_and_not_for_tries_that_take_their_time() {
        let begin = Timestamp::UNIX_EPOCH;
        let failure = |seconds: u64| Failure {
            revision: Revision::from_label("r"),
            settings: Digest::of(b""),
            kind: FailureKind::NotReady,
            count: 1,
            at: begin + Duration::from_secs(seconds),
            message: String::new(),
            output: Vec::new(),
        };
        let count = |after: u64, served| next_failure(Some(&failure(0)), failure(after), served).count;
        let grace = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!([count(1, grace(60)), count(600, grace(60)), count(800, grace(60))], [2, 2, 1]);
        // A try that takes eleven minutes, and fails each time.
        assert_eq!([count(670, grace(660)), count(1500, grace(660))], [2, 1]);
        assert_eq!([count(670, None), count(86_400, None)], [2, 2]);
    }
}
