//! Leaving is how a daemon goes whose place another one has taken: it accepts nobody any more, and goes on answering those
//! whose connections are its own, each of which it asks to come again elsewhere.
//!
//! An idle connection is not closed: its caller may be writing the next request at this moment, and would lose it. Where a
//! daemon ends, and nobody takes its place, it is not closed for a moment either: whoever is at work hears of it by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether a daemon is leaving, and since when. Cheap to clone; all clones say the same.
#[derive(Debug, Clone, Default)]
pub struct Leaving {
    begun: CancellationToken,
    /// Whether callers are asked to come again on another connection. Without the lock that asking a token takes: each
    /// answer looks.
    sends_away: Arc<AtomicBool>,
    /// Whether it accepts nobody for now.
    pauses: Arc<watch::Sender<bool>>,
}

impl Leaving {
    /// Begins to leave.
    pub fn begin(&self) {
        self.send_away();
        self.begun.cancel();
    }

    /// Asks all callers, with their next answer, to come again on another connection.
    pub(super) fn send_away(&self) {
        self.sends_away.store(true, Ordering::Relaxed);
    }

    /// Whether callers are asked to come again on another connection.
    pub(super) fn sends_away(&self) -> bool {
        self.sends_away.load(Ordering::Relaxed)
    }

    /// Accepts nobody while another daemon makes sure that it has taken over; or goes on, where that came to nothing.
    pub fn pause(&self, pauses: bool) {
        self.pauses.send_replace(pauses);
    }

    /// Returns when callers are accepted, or are not.
    pub(super) async fn paused(&self, pauses: bool) {
        // The sender lives as long as this.
        let _ = self.pauses.subscribe().wait_for(|now| *now == pauses).await;
    }

    /// Returns when it has begun.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_so(&self) -> bool {
        self.begun.is_cancelled()
    }
}
