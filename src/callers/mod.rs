//! Callers: the keys of the records and those that `skep.yaml` declares, as the gateway is to know them, and tokens.

mod desk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use desk::{KeyError, KeyWish, Rotation, expiry, keys_in_force, make_key, read_expiry, revoke_key, rotate_key};

use crate::gateway::{Keys, Pusher, Tokens};
use crate::records::{Key, Records, RecordsError};
use crate::settings::{self, Settings};
use crate::tree::{RateLimit, Seconds};

/// How often `skep.yaml` is asked whether it has changed: a key that is taken out of it opens nothing within a second.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often it is written down when keys were last used.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// What holds for a key whose plan is not in `skep.yaml` any more, where no other plan is either: such a key was
/// limited, and must not be without a limit because of a word.
const WITHOUT_PLAN: RateLimit = RateLimit { requests: 60, per: Seconds::new(60), burst: 60 };

/// Keeps a gateway's keys as the records and `skep.yaml` say.
pub struct Callers {
    records: Arc<dyn Records>,
    keys: Arc<Keys>,
    /// The tokens that let callers in.
    pub tokens: Arc<Tokens>,
    root: PathBuf,
    settings: Mutex<Arc<Settings>>,
    /// Held while the keys are read and handed over, so that of two the later one is not undone.
    loading: Arc<tokio::sync::Mutex<()>>,
    stale: Arc<Stale>,
}

/// What this daemon has written of keys, and has not read again.
#[derive(Debug, Default)]
struct Stale {
    written: AtomicU64,
    read: AtomicU64,
    news: Notify,
}

impl Callers {
    /// Callers as these settings have them, until `skep.yaml` changes.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, keys: Arc<Keys>, settings: Arc<Settings>) -> Self {
        let tokens = Arc::new(Tokens::new(settings.jwt.clone()));
        let (root, settings) = (settings.root.clone(), Mutex::new(settings));
        Self { records, keys, tokens, root, settings, loading: Arc::default(), stale: Arc::default() }
    }

    /// Has the gateway show that secret to no app.
    pub fn withhold(&self, secret: &str) {
        self.keys.withhold(secret);
    }

    /// Reads the keys, and hands them to the gateway.
    ///
    /// # Errors
    /// Where the records cannot be read; the keys that are known then stay in force.
    pub async fn load(&self) -> Result<(), RecordsError> {
        let turn = Arc::clone(&self.loading).lock_owned().await;
        let written = self.stale.written.load(Ordering::SeqCst);
        let recorded = self.records.keys().await?;
        let settings = self.settings();
        let keys = Arc::clone(&self.keys);
        // Beside the requests: of a hundred thousand keys it takes some time.
        let handed = tokio::task::spawn_blocking(move || {
            let mut joined = join(recorded, &settings);
            for key in joined.iter_mut().filter(|key| key.terms.plan.is_some()) {
                let limit = limit(key, &settings.plans);
                if limit != key.terms.limit {
                    Arc::make_mut(key).terms.limit = limit;
                }
            }
            keys.set(joined);
            // Also where nobody waits for it any more.
            drop(turn);
        });
        // It neither panics nor is cancelled.
        let _ = handed.await;
        self.stale.read.store(written, Ordering::SeqCst);
        Ok(())
    }

    /// Says that this daemon has written something of keys: they are read until that succeeds, whoever stops waiting.
    pub fn have_changed(&self) {
        self.stale.written.fetch_add(1, Ordering::SeqCst);
        self.stale.news.notify_one();
    }

    /// Whether something that was written here has not been read again.
    #[must_use]
    pub fn are_stale(&self) -> bool {
        self.stale.written.load(Ordering::SeqCst) != self.stale.read.load(Ordering::SeqCst)
    }

    /// Returns when keys are to be read again because of that.
    pub async fn due(&self) {
        if !self.are_stale() {
            self.stale.news.notified().await;
        }
        // Whoever has written reads by itself, and mostly can.
        tokio::time::sleep(LOOK_EVERY).await;
    }

    /// Whose key this is, where its holder may push.
    #[must_use]
    pub fn pusher(&self, secret: &str) -> Option<Pusher> {
        self.keys.pusher(secret)
    }

    /// Whether this is a key whose holder may ask what a tree would change.
    #[must_use]
    pub fn plans(&self, secret: &str) -> bool {
        self.keys.plans(secret)
    }

    /// What `skep.yaml` says now, as far as callers go.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows `skep.yaml`, writes down when keys were used, and keeps the keys of the issuer fresh, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.follow(&stop), Arc::clone(&self.tokens).run(stop.clone()));
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut seen = self.seen();
        let mut since = Duration::ZERO;
        loop {
            let is_over =
                tokio::select! { () = stop.cancelled() => true, () = tokio::time::sleep(LOOK_EVERY) => false };
            since += LOOK_EVERY;
            if since >= WRITE_EVERY || is_over {
                since = Duration::ZERO;
                self.write().await;
            }
            if is_over {
                return;
            }
            let now = self.seen();
            // Remembered only when it was taken in: what could not be is tried again.
            if now != seen && self.reload().await {
                seen = now;
            }
        }
    }

    /// Enough of the file to notice a change.
    fn seen(&self) -> Option<(SystemTime, u64)> {
        let file = std::fs::metadata(self.root.join(settings::FILE)).ok()?;
        Some((file.modified().ok()?, file.len()))
    }

    /// Takes in what `skep.yaml` says of callers now; with errors in it, what it said before goes on.
    async fn reload(&self) -> bool {
        let Ok(now) = Settings::load(&self.root, |name| std::env::var(name).ok()) else {
            // Whoever follows the tree has said it, and the next save is another look.
            return true;
        };
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        self.load().await.is_ok()
    }

    async fn write(&self) {
        let used = self.keys.used();
        if used.is_empty() {
            return;
        }
        match self.records.touch_keys(&used).await {
            Ok(()) => self.keys.written(&used),
            Err(error) => tracing::debug!("{error}; it is tried again"),
        }
    }
}

/// The keys of the records, and those that are declared: by its hash, each once, as `skep.yaml` has it.
#[must_use]
fn join(recorded: Vec<Arc<Key>>, settings: &Settings) -> Vec<Arc<Key>> {
    let now = jiff::Timestamp::now();
    let declared = settings.keys.iter().filter(|key| !key.terms.is_over(now)).map(Key::declared);
    let mut keys: Vec<Arc<Key>> = declared.map(Arc::new).collect();
    let hashes: std::collections::HashSet<_> = keys.iter().map(|key| key.hash).collect();
    keys.extend(recorded.into_iter().filter(|key| !hashes.contains(&key.hash)));
    keys
}

/// The limit of a key: its own, or that of its plan.
fn limit(key: &Key, plans: &BTreeMap<String, RateLimit>) -> Option<RateLimit> {
    let plan = key.terms.plan.as_ref().filter(|_| key.terms.limit.is_none());
    let Some(plan) = plan else { return key.terms.limit };
    let known = plans.get(plan).copied();
    known.or_else(|| {
        let tightest = plans.values().max_by_key(|limit| limit.per.0 / limit.requests.max(1)).copied();
        tracing::warn!(
            "key {} is of the plan {plan:?}, which skep.yaml does not name; the tightest plan holds",
            key.id
        );
        Some(tightest.unwrap_or(WITHOUT_PLAN))
    })
}
