//! Remembering: records that are elsewhere, and what of them a daemon needs to serve, in a file of this host.
//!
//! What was read last is written down. A daemon that starts while the database is out of reach reads that instead, until
//! the database has answered once; from then on an error is an error. Nothing is ever written into the database from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Away, Event, Keep, Key, KeyHash, Lease, Mirror, NewEvent, Pruned, Records, RecordsError, Row};
use crate::reconcile::status::Status;
use crate::tree::{ApiId, Digest};
use crate::usage::{Fold, UsageBatch, UsageQuery, UsageRow};
use crate::world::{Failure, Hold, Record, Served};

/// How often what was read is written down, where it has changed.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Of the file; another one is not read.
const VERSION: u32 = 1;

/// Records elsewhere, and a file that stands in for them at a start without them.
pub struct Remembering {
    records: Arc<dyn Records>,
    path: PathBuf,
    memory: Arc<Mutex<Memory>>,
    /// Whether the records have answered since this process began.
    has_answered: AtomicBool,
}

#[derive(Default)]
struct Memory {
    /// Where the records are that it is of.
    place: String,
    rows: BTreeMap<ApiId, Arc<Record>>,
    keys: Vec<Arc<Key>>,
    is_changed: bool,
}

/// What a daemon needs to serve, as the file has it.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    place: String,
    rows: Vec<Line>,
    keys: Vec<Arc<Key>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: ApiId,
    status: Status,
    served: Option<Served>,
    failures: Vec<Failure>,
    hold: Option<Hold>,
    created: Timestamp,
    updated: Timestamp,
}

impl Remembering {
    /// Records at that place, with this file beside them. What is in it counts only while the records have not answered yet;
    /// one that is damaged, of another version or of other records counts as none.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, place: &str, path: &Path) -> Self {
        let file = std::fs::read(path).ok().and_then(|bytes| match serde_json::from_slice::<File>(&bytes) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!("{} is passed over: {error}", path.display());
                None
            }
        });
        let mut memory = Memory { place: place.to_owned(), ..Memory::default() };
        if let Some(file) = file.filter(|file| file.version == VERSION && file.place == place) {
            memory.rows = file.rows.into_iter().map(|line| (line.id.clone(), Arc::new(line.into()))).collect();
            memory.keys = file.keys;
        }
        let memory = Arc::new(Mutex::new(memory));
        Self { records, path: path.to_owned(), memory, has_answered: AtomicBool::new(false) }
    }

    /// Whether there is something to serve from.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        !self.memory().rows.is_empty()
    }

    /// Writes down what is read, for ever.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            let (place, rows, keys) = {
                let mut memory = self.memory();
                if !std::mem::take(&mut memory.is_changed) {
                    continue;
                }
                (memory.place.clone(), memory.rows.clone(), memory.keys.clone())
            };
            let path = self.path.clone();
            let written = tokio::task::spawn_blocking(move || {
                let rows = rows.into_values().map(|record| Line::from(Arc::unwrap_or_clone(record))).collect();
                write(&path, &File { version: VERSION, place, rows, keys })
            });
            let written = written.await;
            if let Ok(Err(error)) = written {
                tracing::warn!("what a start without the database would need cannot be written down: {error}");
                self.memory().is_changed = true;
            }
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer of the records; or, while they have not answered yet, what is remembered.
    fn or_remembered<T>(
        &self,
        answer: Result<T, RecordsError>,
        remembered: impl FnOnce(&Memory) -> T,
    ) -> Result<T, RecordsError> {
        match answer {
            Err(RecordsError::Open { .. } | RecordsError::Failed { .. } | RecordsError::TooNew { .. })
                if !self.has_answered.load(Ordering::SeqCst) =>
            {
                Ok(remembered(&self.memory()))
            }
            answer => {
                if answer.is_ok() {
                    self.has_answered.store(true, Ordering::SeqCst);
                }
                answer
            }
        }
    }
}

/// Written aside and renamed, so that a crash leaves the old file or the new one.
fn write(path: &Path, file: &File) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut into = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    into.write_all(&serde_json::to_vec(file)?)?;
    into.sync_all()?;
    std::fs::rename(&aside, path)
}

impl From<Record> for Line {
    fn from(record: Record) -> Self {
        let Record { id, status, served, failures, hold, created, updated, edits: _ } = record;
        Self { id, status, served, failures, hold, created, updated }
    }
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        let Line { id, status, served, failures, hold, created, updated } = line;
        Self { id, status, served, failures, hold, created, updated, edits: Vec::new() }
    }
}

#[async_trait]
impl Records for Remembering {
    async fn get(&self, id: &ApiId) -> Result<Option<Record>, RecordsError> {
        let found = |known: &Memory| known.rows.get(id).map(|record| Record::clone(record));
        self.or_remembered(self.records.get(id).await, found)
    }

    async fn each(&self) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
        let answer = self.records.each().await;
        if let Ok(each) = &answer {
            let readable = |(id, row): (&ApiId, &Row)| Some((id.clone(), Arc::clone(row.as_ref().ok()?)));
            let rows: BTreeMap<_, _> = each.iter().filter_map(readable).collect();
            let mut memory = self.memory();
            let same = |(was, is): (&Arc<Record>, &Arc<Record>)| Arc::ptr_eq(was, is) || was == is;
            memory.is_changed |= rows.len() != memory.rows.len() || !memory.rows.values().zip(rows.values()).all(same);
            memory.rows = rows;
        }
        self.or_remembered(answer, |known| {
            known.rows.iter().map(|(id, row)| (id.clone(), Ok(Arc::clone(row)))).collect()
        })
    }

    async fn keys(&self) -> Result<Vec<Arc<Key>>, RecordsError> {
        let answer = self.records.keys().await;
        if let Ok(keys) = &answer {
            let mut memory = self.memory();
            let same = |(was, is): (&Arc<Key>, &Arc<Key>)| Arc::ptr_eq(was, is) || was == is;
            memory.is_changed |= keys.len() != memory.keys.len() || !memory.keys.iter().zip(keys).all(same);
            memory.keys.clone_from(keys);
        }
        self.or_remembered(answer, |known| known.keys.clone())
    }

    async fn version(&self) -> Result<u64, RecordsError> {
        self.or_remembered(self.records.version().await, |_| 0)
    }

    async fn confirmed_removals(&self) -> Result<Vec<ApiId>, RecordsError> {
        self.or_remembered(self.records.confirmed_removals().await, |_| Vec::new())
    }

    async fn last_events(&self, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, RecordsError> {
        self.or_remembered(self.records.last_events(api, count).await, |_| Vec::new())
    }

    async fn leaving(&self) -> Result<BTreeMap<String, BTreeSet<String>>, RecordsError> {
        self.or_remembered(self.records.leaving().await, |_| BTreeMap::new())
    }

    async fn key_uses(&self) -> Result<BTreeMap<KeyHash, Timestamp>, RecordsError> {
        self.or_remembered(self.records.key_uses().await, |_| BTreeMap::new())
    }

    fn fence(&self, epoch: Option<u64>) {
        if epoch.is_some() {
            // Whoever reconciles goes by the records alone.
            self.has_answered.store(true, Ordering::SeqCst);
        }
        self.records.fence(epoch);
    }

    async fn mirror(&self, mirror: &Mirror) -> Result<u64, RecordsError> {
        self.records.mirror(mirror).await
    }

    fn away(&self) -> Option<Away> {
        self.records.away()
    }

    async fn changed(&self) {
        self.records.changed().await;
    }

    // Everything else goes to the records as it is.
    async fn put(&self, record: &Record) -> Result<(), RecordsError> {
        self.records.put(record).await
    }

    async fn forget(&self, id: &ApiId) -> Result<(), RecordsError> {
        self.records.forget(id).await
    }

    async fn put_revision(&self, id: &ApiId, served: &Served) -> Result<(), RecordsError> {
        self.records.put_revision(id, served).await
    }

    async fn revisions(&self, id: &ApiId) -> Result<Vec<Served>, RecordsError> {
        self.records.revisions(id).await
    }

    async fn put_blobs(&self, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), RecordsError> {
        self.records.put_blobs(blobs).await
    }

    async fn missing_blobs(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, RecordsError> {
        self.records.missing_blobs(digests).await
    }

    async fn blob(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, RecordsError> {
        self.records.blob(digest).await
    }

    async fn add_event(&self, event: &NewEvent) -> Result<u64, RecordsError> {
        self.records.add_event(event).await
    }

    async fn events(&self, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, RecordsError> {
        self.records.events(api, after, limit).await
    }

    async fn every_key(&self) -> Result<Vec<Key>, RecordsError> {
        self.records.every_key().await
    }

    async fn add_missing_keys(&self, keys: &[Key]) -> Result<usize, RecordsError> {
        self.records.add_missing_keys(keys).await
    }

    async fn add_key(&self, key: &Key) -> Result<(), RecordsError> {
        self.records.add_key(key).await
    }

    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, RecordsError> {
        self.records.revoke_key(id, at).await
    }

    async fn rotate_key(&self, old: &str, new: &Key, until: Timestamp) -> Result<bool, RecordsError> {
        self.records.rotate_key(old, new, until).await
    }

    async fn touch_keys(&self, used: &[(KeyHash, Timestamp)]) -> Result<(), RecordsError> {
        self.records.touch_keys(used).await
    }

    async fn confirm_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        self.records.confirm_removal(ids).await
    }

    async fn withdraw_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        self.records.withdraw_removal(ids).await
    }

    async fn put_hold(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        self.records.put_hold(id, hold).await
    }

    async fn release(&self, id: &ApiId) -> Result<bool, RecordsError> {
        self.records.release(id).await
    }

    async fn release_spent(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        self.records.release_spent(id, hold).await
    }

    async fn lease(&self) -> Result<Lease, RecordsError> {
        self.records.lease().await
    }

    async fn claim(&self, seen: &Lease, holder: &str) -> Result<Option<u64>, RecordsError> {
        self.records.claim(seen, holder).await
    }

    async fn renew(&self, epoch: u64) -> Result<bool, RecordsError> {
        self.records.renew(epoch).await
    }

    async fn resign(&self, epoch: u64) -> Result<(), RecordsError> {
        self.records.resign(epoch).await
    }

    async fn check_fence(&self) -> Result<(), RecordsError> {
        self.records.check_fence().await
    }

    async fn follow(&self, daemon: &str) -> Result<(), RecordsError> {
        self.records.follow(daemon).await
    }

    async fn followers(&self) -> Result<BTreeMap<String, u64>, RecordsError> {
        self.records.followers().await
    }

    async fn dismiss(&self, daemon: &str) -> Result<(), RecordsError> {
        self.records.dismiss(daemon).await
    }

    async fn announce(&self, container: &str) -> Result<(), RecordsError> {
        self.records.announce(container).await
    }

    async fn let_go(&self, container: &str, daemon: &str) -> Result<(), RecordsError> {
        self.records.let_go(container, daemon).await
    }

    async fn left(&self, container: &str) -> Result<(), RecordsError> {
        self.records.left(container).await
    }

    async fn told(&self) -> Result<Option<String>, RecordsError> {
        self.records.told().await
    }

    async fn put_told(&self, text: &str) -> Result<(), RecordsError> {
        self.records.put_told(text).await
    }

    async fn prune(&self, keep: &Keep) -> Result<Pruned, RecordsError> {
        self.records.prune(keep).await
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), RecordsError> {
        self.records.add_usage(batch).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, RecordsError> {
        self.records.usage(query).await
    }

    async fn fold_usage(&self, fold: &Fold) -> Result<bool, RecordsError> {
        self.records.fold_usage(fold).await
    }
}
