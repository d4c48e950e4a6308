//! A line is where requests wait for a place at an upstream that has as much to do as it may: short, and first come,
//! first served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The longest wait. A caller can make more of an honest 503 after two seconds than of an answer after twenty.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one request waits. Not each as long as the others: a thousand that came together, and were sent away together,
/// would all be back at the same moment.
pub(super) fn patience() -> Duration {
    PATIENCE.mul_f64(rand::random_range(0.75..=1.0))
}

/// Requests that wait for a place at one upstream.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: AtomicU64,
    freed: Notify,
}

impl Line {
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Stands in line, unless `longest` do so already.
    pub(super) fn join(&self, longest: u64) -> Option<Place<'_>> {
        let enter = |waiting: u64| (waiting < longest).then(|| waiting + 1);
        let before = self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).ok()?;
        Some(Place { line: self, is_first: before == 0 })
    }

    /// A place has come free. Called after it is; whoever stands in line has looked before, or hears of it.
    pub(super) fn freed(&self) {
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// Sends all who wait to look at the route again.
    pub(super) fn dissolve(&self) {
        self.freed.notify_waiters();
    }
}

/// A place in a line; left when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    line: &'a Line,
    /// Nobody was there before, who would have to be served before.
    pub(super) is_first: bool,
}

impl<'a> Place<'a> {
    /// Becomes ready when it may be one's turn. Counts from its `enable` on.
    pub(super) fn turn(&self) -> Notified<'a> {
        self.line.freed.notified()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
