//! The writer hands what the gateway has counted to the records, until all of it is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::counter::Counter;
use super::tally::{Fold, UsageBatch};
use crate::metrics::Metrics;
use crate::records::Records;

/// How often what was counted is written down: with the time that writing takes, a crash loses less than a second.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// How long a daemon that ends goes on trying.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How often somebody is told that nothing can be written down.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How often old sums are put together.
const FOLD_EVERY: Duration = Duration::from_secs(300);

/// For how long minutes and hours are told apart.
const KEEP: (Duration, Duration) = (Duration::from_secs(6 * 3600), Duration::from_secs(35 * 86_400));

/// Hands what was counted to the records.
///
/// A batch is tried again as it is, under its number, until the records have it: whether a try that failed has come
/// through nobody knows, and only the records can tell. What is counted meanwhile waits in the counter.
pub struct Writer {
    counter: Arc<Counter>,
    records: Arc<dyn Records>,
    metrics: Option<Arc<Metrics>>,
    daemon: Arc<str>,
    number: u64,
    /// What the records do not have yet, as far as is known.
    pending: Option<UsageBatch>,
    told: Option<Instant>,
    /// How long usage is kept.
    keep: Duration,
}

impl Writer {
    /// For one run of a daemon, on an installation that keeps usage for so long. The records should be a handle of its own, so that a database that is locked keeps nobody
    /// else waiting.
    #[must_use]
    pub fn new(
        counter: Arc<Counter>,
        records: Arc<dyn Records>,
        metrics: Option<Arc<Metrics>>,
        keep: Duration,
    ) -> Self {
        let daemon = uuid::Uuid::now_v7().to_string().into();
        Self { counter, records, metrics, daemon, number: 0, pending: None, told: None, keep }
    }

    /// Where the gateway counts.
    #[must_use]
    pub fn counter(&self) -> Arc<Counter> {
        Arc::clone(&self.counter)
    }

    /// Writes while callers are served; then what is left, for as long as a daemon that ends has time for.
    pub async fn run_while(self, serving: impl Future<Output = ()>) {
        let drained = CancellationToken::new();
        let serving = async {
            serving.await;
            drained.cancel();
        };
        tokio::join!(serving, self.run(&drained));
    }

    async fn run(mut self, drained: &CancellationToken) {
        let mut folded = Instant::now();
        while drained.run_until_cancelled(sleep(WRITE_EVERY)).await.is_some() {
            if self.write().await && folded.elapsed() >= FOLD_EVERY {
                folded = Instant::now();
                self.fold(drained).await;
            }
        }
        let rest = async {
            while !self.write().await {
                sleep(WRITE_EVERY).await;
            }
        };
        if timeout(LAST_WORDS, rest).await.is_err() {
            let entries = self.counter.take();
            let lost: u64 = entries.iter().map(|(_, tally)| tally.requests).sum();
            let unsure = self.pending.as_ref().map_or(0, UsageBatch::requests);
            tracing::error!("{} requests are counted and cannot be written into the records", lost + unsure);
        }
    }

    /// Writes what was counted by now; whether the records have all of it.
    pub async fn write(&mut self) -> bool {
        if self.pending.is_some() && !self.try_to_write().await {
            return false;
        }
        if self.counter.waiting() > 0 {
            self.number += 1;
            let (daemon, entries) = (Arc::clone(&self.daemon), self.counter.take().into());
            self.pending = Some(UsageBatch { daemon, number: self.number, entries });
        }
        self.try_to_write().await
    }

    async fn try_to_write(&mut self) -> bool {
        self.show();
        let Some(batch) = &self.pending else { return true };
        if let Err(error) = self.records.add_usage(batch).await {
            self.tell(&error.to_string());
            return false;
        }
        self.pending = None;
        self.show();
        if self.told.take().is_some() {
            tracing::info!("what was counted is written down again; nothing was lost");
        }
        true
    }

    /// Puts old sums together, one hour or day at a time, so that others can write in between.
    async fn fold(&self, drained: &CancellationToken) {
        let now = Timestamp::now();
        let before = |span: Duration| now.checked_sub(span).unwrap_or(Timestamp::MIN);
        let fold = Fold { minutes_before: before(KEEP.0), hours_before: before(KEEP.1), all_before: before(self.keep) };
        while !drained.is_cancelled() {
            match self.records.fold_usage(&fold).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::debug!("{error}; it is tried again"),
            }
        }
    }

    fn show(&self) {
        if let Some(metrics) = &self.metrics {
            let pending = self.pending.as_ref().map_or(0, |batch| batch.entries.len());
            metrics.usage_waits(self.counter.waiting() + pending, self.counter.folded());
        }
    }

    fn tell(&mut self, error: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.usage_not_written();
        }
        if self.told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!("{error}; what is counted waits in memory, and it is tried again");
        }
    }
}
