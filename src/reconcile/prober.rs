//! The prober asks instances in the background whether they are well, and keeps the last reading of each.
//!
//! Besides the gateway and the admin surface this is the only place that names hyper.

mod probe;
mod rhythm;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use self::probe::{Outcome, Target, probe};
use self::rhythm::Rhythm;
use crate::tree::{ApiId, Health};
use crate::world::Readiness;
use crate::world::instance::ContainerId;

/// How many probes run at once, so that a thousand instances at start-up do not use up the file descriptors.
const AT_ONCE: usize = 256;

/// How long an instance that is waited for may take to accept a connection. A packet that was lost while the network
/// of a new container came up is sent again by the kernel after a second; we are faster.
const CONNECT_TIME: Duration = Duration::from_millis(250);

/// How many hints are kept for a receiver that is behind.
const HINTS: usize = 1024;

/// Asks instances in the background and keeps the last reading of each. Cheap to clone; clones are one prober, which
/// stops when the last of them is dropped.
#[derive(Debug, Clone)]
pub struct Prober {
    table: Arc<Mutex<HashMap<ContainerId, Watched>>>,
    hints: broadcast::Sender<ApiId>,
    at_once: Arc<Semaphore>,
}

/// One instance that is asked.
#[derive(Debug)]
struct Watched {
    target: Target,
    interval: Duration,
    reading: watch::Sender<Readiness>,
    /// Ends the asking when this entry goes.
    _task: AbortOnDropHandle<()>,
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober {
    /// A prober that asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Self { table: Arc::default(), hints: broadcast::channel(HINTS).0, at_once }
    }

    /// Begins to ask an instance, and goes on until it is forgotten. Again with the same values changes nothing. Another
    /// address is another process: its reading begins anew. Other health settings hold from the next probe, which is at
    /// once; the reading stays, since an instance that serves does not stop serving when its settings change.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch(&self, container: ContainerId, api: ApiId, address: SocketAddr, health: &Health) {
        let target = Target { address, kind: health.probe, path: health.path.clone(), timeout: health.timeout.0 };
        let interval = health.interval.0;
        let mut table = self.table();
        let reading = match table.get(&container) {
            Some(before) if before.target == target && before.interval == interval => return,
            Some(before) if before.target.address == address => before.reading.clone(),
            _ => watch::Sender::new(Readiness::Unknown),
        };
        let asker = Asker {
            api,
            target: target.clone(),
            interval,
            reading: reading.clone(),
            hints: self.hints.clone(),
            at_once: Arc::clone(&self.at_once),
            has_warned: false,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(asker.run()));
        table.insert(container, Watched { target, interval, reading, _task: task });
    }

    /// The instances that are asked.
    #[must_use]
    pub fn watched(&self) -> Vec<ContainerId> {
        self.table().keys().cloned().collect()
    }

    /// Stops asking one. One that is not asked is fine.
    pub fn forget(&self, container: &ContainerId) {
        self.table().remove(container);
    }

    /// The last reading; [`Readiness::Unknown`] for one that is not asked.
    #[must_use]
    pub fn readiness(&self, container: &ContainerId) -> Readiness {
        let reading = self.table().get(container).map(|watched| watched.reading.borrow().clone());
        match reading.unwrap_or(Readiness::Unknown) {
            // By the wall clock as it is now: where somebody has set it, that has made nothing older.
            Readiness::Failing { last, since } => {
                let since = since.checked_add(Timestamp::now().duration_since(steady())).unwrap_or(since);
                Readiness::Failing { last, since }
            }
            reading => reading,
        }
    }

    /// Waits until the instance is ready, or its reading is another than it was at the call, or `limit` is over; the
    /// reading then. Does not wait for an instance that is not asked.
    pub async fn changed(&self, container: &ContainerId, limit: Duration) -> Readiness {
        let Some(mut reading) = self.table().get(container).map(|watched| watched.reading.subscribe()) else {
            return Readiness::Unknown;
        };
        let now = reading.borrow_and_update().clone();
        if now == Readiness::Ready {
            return now;
        }
        match timeout(limit, reading.changed()).await {
            Ok(Ok(())) => reading.borrow().clone(),
            // Forgotten meanwhile, or at another address.
            Ok(Err(_)) => self.readiness(container),
            Err(_) => now,
        }
    }

    /// Hints that an instance of that API became ready, or is ready no more. A receiver that is told that it lags should
    /// look at everything.
    #[must_use]
    pub fn hints(&self) -> broadcast::Receiver<ApiId> {
        self.hints.subscribe()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<ContainerId, Watched>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time as the wall clock would have it if nobody had set it since this process began.
fn steady() -> Timestamp {
    static BEGUN: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (Timestamp::now(), Instant::now()));
    let (at, begun) = *BEGUN;
    at.checked_add(begun.elapsed()).unwrap_or(at)
}

/// The task that asks one instance.
struct Asker {
    api: ApiId,
    target: Target,
    interval: Duration,
    reading: watch::Sender<Readiness>,
    hints: broadcast::Sender<ApiId>,
    at_once: Arc<Semaphore>,
    /// It was said that this host cannot ask; once is enough.
    has_warned: bool,
}

impl Asker {
    async fn run(mut self) {
        let mut rhythm = match *self.reading.borrow() {
            Readiness::Ready => Rhythm::Serving { missed: None },
            Readiness::Unknown | Readiness::Failing { .. } => Rhythm::Waiting { since: Instant::now() },
        };
        loop {
            let connect = match rhythm {
                Rhythm::Waiting { .. } => CONNECT_TIME.min(self.target.timeout),
                Rhythm::Serving { .. } => self.target.timeout,
            };
            // Boxed, so that the task is slim while it rests, which is nearly always.
            let outcome = Box::pin(self.ask(connect)).await;
            self.take(outcome, &mut rhythm);
            let pause = rhythm.pause(self.interval, rand::random(), Instant::now());
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self, connect: Duration) -> Outcome {
        let _permit = self.at_once.acquire().await;
        probe(&self.target, connect).await
    }

    fn take(&mut self, outcome: Outcome, rhythm: &mut Rhythm) {
        let before = self.reading.borrow().clone();
        let after = match outcome {
            Outcome::Good => rhythm.good(&before),
            Outcome::Missed(last) => rhythm.miss(&before, &last, Instant::now(), steady()),
            Outcome::NotAsked(cause) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(api = %self.api, "cannot probe: {cause}");
                }
                None
            }
        };
        let Some(after) = after else { return };
        let is_flip = (before == Readiness::Ready) != (after == Readiness::Ready);
        self.reading.send_replace(after);
        if is_flip {
            // Nobody may be listening.
            let _ = self.hints.send(self.api.clone());
        }
    }
}

#[cfg(test)]
mod tests;
