//! Records made of maps. They outlive every daemon; each daemon has a handle of its own, which can be fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use skep::records::{Event, Keep, Key, KeyHash, Lease, NewEvent, Pruned, Records, RecordsError, Row};
use skep::tree::{ApiId, Digest};
use skep::usage::{Counted, Fold, Group, Tally, UsageBatch, UsageQuery, UsageRow};
use skep::world::{Hold, Record, Served, edit};

use skep::reconcile::turn::Clock;

use super::faults::Faults;

/// What the database holds.
#[derive(Default)]
pub struct Tables {
    pub rows: BTreeMap<ApiId, Record>,
    /// The rows as skep wrote them; people edit only the others.
    pub written: BTreeMap<ApiId, Record>,
    pub holds: BTreeMap<ApiId, Hold>,
    pub revisions: BTreeMap<ApiId, Vec<Served>>,
    pub leaving: BTreeMap<String, BTreeSet<String>>,
    /// When each container that leaves, or has left, was announced first; only the simulation knows it.
    pub announced: BTreeMap<String, Timestamp>,
    /// The files that were kept, and those in the tree.
    pub blobs: BTreeMap<Digest, Arc<[u8]>>,
    pub followers: BTreeMap<String, u64>,
    pub told: Option<String>,
    pub lease: Option<Lease>,
    pub events: Vec<Event>,
    /// What was counted, and the last batch of each daemon.
    pub usage: Vec<(Counted, Tally)>,
    pub usage_batches: BTreeMap<String, u64>,
}

impl Tables {
    pub fn lease(&self) -> Lease {
        self.lease.clone().unwrap_or(Lease { epoch: 0, holder: None, beat: 0 })
    }

    pub fn claim(&mut self, seen: &Lease, holder: &str) -> Option<u64> {
        if self.lease() != *seen {
            return None;
        }
        let epoch = seen.epoch + 1;
        self.lease = Some(Lease { epoch, holder: Some(holder.to_owned()), beat: seen.beat + 1 });
        self.followers.remove(holder);
        Some(epoch)
    }

    pub fn row(&self, id: &ApiId) -> Option<Record> {
        let (row, written) = (self.rows.get(id)?, self.written.get(id)?);
        let json = |row: &Record| {
            let (status, served, failures) = (row.status.clone(), row.served.clone(), row.failures.clone());
            serde_json::to_value(edit::Written::new(status, served, failures, row.created.to_string())).unwrap()
        };
        let edits = if row == written { Vec::new() } else { edit::edits(&json(written), &json(row)) };
        Some(Record { hold: self.holds.get(id).cloned(), edits, ..written.clone() })
    }
}

/// One handle on the database.
pub struct SimRecords {
    pub tables: Arc<Mutex<Tables>>,
    pub faults: Arc<Faults>,
    fence: AtomicU64,
}

impl SimRecords {
    pub fn new(tables: Arc<Mutex<Tables>>, faults: Arc<Faults>) -> Self {
        Self { tables, faults, fence: AtomicU64::new(0) }
    }

    async fn call<T>(&self, effect: impl FnOnce(&mut Tables) -> T) -> Result<T, RecordsError> {
        let lost = |_| RecordsError::Failed { action: "answer", cause: "gone away".to_owned() };
        self.faults.call(|| Ok(effect(&mut self.tables.lock().unwrap()))).await.map_err(lost)
    }

    /// As [`Self::call`], for what only the daemon may write that reconciles.
    async fn write<T>(&self, effect: impl FnOnce(&mut Tables) -> T) -> Result<T, RecordsError> {
        let fence = self.fence.load(Ordering::SeqCst);
        let fenced = |tables: &mut Tables| {
            let is_in_force = fence == 0 || tables.lease().epoch == fence;
            is_in_force.then(|| effect(tables)).ok_or(RecordsError::Fenced)
        };
        self.call(fenced).await?
    }
}

#[async_trait]
impl Records for SimRecords {
    async fn get(&self, id: &ApiId) -> Result<Option<Record>, RecordsError> {
        self.call(|tables| tables.row(id)).await
    }
    async fn each(&self) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
        self.call(|tables| {
            let ids: Vec<ApiId> = tables.rows.keys().cloned().collect();
            ids.into_iter().filter_map(|id| Some((id.clone(), Ok(Arc::new(tables.row(&id)?))))).collect()
        })
        .await
    }
    async fn version(&self) -> Result<u64, RecordsError> {
        self.call(|_| 0).await
    }
    async fn put(&self, record: &Record) -> Result<(), RecordsError> {
        self.write(|tables| {
            tables.rows.insert(record.id.clone(), record.clone());
            tables.written.insert(record.id.clone(), record.clone());
        })
        .await
    }
    async fn forget(&self, id: &ApiId) -> Result<(), RecordsError> {
        self.write(|tables| {
            tables.rows.remove(id);
            tables.holds.remove(id);
        })
        .await
    }
    async fn put_revision(&self, id: &ApiId, served: &Served) -> Result<(), RecordsError> {
        self.write(|tables| {
            let revisions = tables.revisions.entry(id.clone()).or_default();
            revisions.retain(|old| old.revision != served.revision);
            revisions.insert(0, served.clone());
        })
        .await
    }
    async fn revisions(&self, id: &ApiId) -> Result<Vec<Served>, RecordsError> {
        self.call(|tables| tables.revisions.get(id).cloned().unwrap_or_default()).await
    }
    async fn put_blobs(&self, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), RecordsError> {
        self.write(|tables| tables.blobs.extend(blobs.iter().cloned())).await
    }
    async fn missing_blobs(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, RecordsError> {
        self.call(|tables| digests.iter().filter(|digest| !tables.blobs.contains_key(digest)).copied().collect()).await
    }
    async fn blob(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, RecordsError> {
        self.call(|tables| tables.blobs.get(digest).cloned()).await
    }
    async fn add_event(&self, event: &NewEvent) -> Result<u64, RecordsError> {
        self.write(|tables| {
            let number = tables.events.len() as u64 + 1;
            tables.events.push(Event { number, event: event.clone() });
            number
        })
        .await
    }
    async fn events(&self, _: Option<&ApiId>, _: u64, _: usize) -> Result<Vec<Event>, RecordsError> {
        self.call(|_| Vec::new()).await
    }
    async fn last_events(&self, _: Option<&ApiId>, count: usize) -> Result<Vec<Event>, RecordsError> {
        self.call(|tables| tables.events[tables.events.len().saturating_sub(count)..].to_vec()).await
    }
    async fn keys(&self) -> Result<Vec<Arc<Key>>, RecordsError> {
        self.call(|_| Vec::new()).await
    }
    async fn every_key(&self) -> Result<Vec<Key>, RecordsError> {
        self.call(|_| Vec::new()).await
    }
    async fn add_key(&self, _: &Key) -> Result<(), RecordsError> {
        self.call(|_| ()).await
    }
    async fn add_missing_keys(&self, _: &[Key]) -> Result<usize, RecordsError> {
        self.call(|_| 0).await
    }
    async fn revoke_key(&self, _: &str, _: Timestamp) -> Result<bool, RecordsError> {
        self.call(|_| false).await
    }
    async fn rotate_key(&self, _: &str, _: &Key, _: Timestamp) -> Result<bool, RecordsError> {
        self.call(|_| false).await
    }
    async fn touch_keys(&self, _: &[(KeyHash, Timestamp)]) -> Result<(), RecordsError> {
        self.call(|_| ()).await
    }
    async fn key_uses(&self) -> Result<BTreeMap<KeyHash, Timestamp>, RecordsError> {
        self.call(|_| BTreeMap::new()).await
    }
    async fn confirm_removal(&self, _: &[ApiId]) -> Result<(), RecordsError> {
        self.call(|_| ()).await
    }
    async fn withdraw_removal(&self, _: &[ApiId]) -> Result<(), RecordsError> {
        self.call(|_| ()).await
    }
    async fn confirmed_removals(&self) -> Result<Vec<ApiId>, RecordsError> {
        self.call(|_| Vec::new()).await
    }
    async fn put_hold(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        self.call(|tables| drop(tables.holds.insert(id.clone(), hold.clone()))).await
    }
    async fn release(&self, id: &ApiId) -> Result<bool, RecordsError> {
        self.call(|tables| tables.holds.remove(id).is_some()).await
    }
    async fn release_spent(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        self.write(|tables| {
            if tables.holds.get(id).is_some_and(|now| now.at == hold.at) {
                tables.holds.remove(id);
            }
        })
        .await
    }
    async fn check_fence(&self) -> Result<(), RecordsError> {
        self.write(|_| ()).await
    }
    async fn lease(&self) -> Result<Lease, RecordsError> {
        self.call(|tables| tables.lease()).await
    }
    async fn claim(&self, seen: &Lease, holder: &str) -> Result<Option<u64>, RecordsError> {
        self.call(|tables| tables.claim(seen, holder)).await
    }
    async fn renew(&self, epoch: u64) -> Result<bool, RecordsError> {
        self.call(|tables| {
            let lease = tables.lease();
            let is_ours = lease.epoch == epoch;
            tables.lease = Some(Lease { beat: lease.beat + u64::from(is_ours), ..lease });
            is_ours
        })
        .await
    }
    async fn resign(&self, epoch: u64) -> Result<(), RecordsError> {
        self.call(|tables| {
            let lease = tables.lease();
            if lease.epoch == epoch {
                tables.lease = Some(Lease { holder: None, ..lease });
            }
        })
        .await
    }
    fn fence(&self, epoch: Option<u64>) {
        self.fence.store(epoch.unwrap_or_default(), Ordering::SeqCst);
    }
    async fn follow(&self, daemon: &str) -> Result<(), RecordsError> {
        self.call(|tables| *tables.followers.entry(daemon.to_owned()).or_default() += 1).await
    }
    async fn followers(&self) -> Result<BTreeMap<String, u64>, RecordsError> {
        self.call(|tables| tables.followers.clone()).await
    }
    async fn dismiss(&self, daemon: &str) -> Result<(), RecordsError> {
        self.call(|tables| tables.followers.remove(daemon).map_or((), |_| ())).await
    }
    async fn announce(&self, container: &str) -> Result<(), RecordsError> {
        self.write(|tables| {
            tables.leaving.entry(container.to_owned()).or_default();
            tables.announced.entry(container.to_owned()).or_insert_with(|| self.faults.clock.now());
        })
        .await
    }
    async fn leaving(&self) -> Result<BTreeMap<String, BTreeSet<String>>, RecordsError> {
        self.call(|tables| tables.leaving.clone()).await
    }
    async fn let_go(&self, container: &str, daemon: &str) -> Result<(), RecordsError> {
        self.call(|tables| {
            if let Some(by) = tables.leaving.get_mut(container) {
                by.insert(daemon.to_owned());
            }
        })
        .await
    }
    async fn left(&self, container: &str) -> Result<(), RecordsError> {
        self.write(|tables| drop(tables.leaving.remove(container))).await
    }
    async fn told(&self) -> Result<Option<String>, RecordsError> {
        self.call(|tables| tables.told.clone()).await
    }
    async fn put_told(&self, text: &str) -> Result<(), RecordsError> {
        self.write(|tables| tables.told = Some(text.to_owned())).await
    }
    async fn prune(&self, keep: &Keep) -> Result<Pruned, RecordsError> {
        self.write(|tables| {
            let mut pruned = Pruned::default();
            for revisions in tables.revisions.values_mut() {
                pruned.revisions += revisions.len().saturating_sub(keep.revisions);
                revisions.truncate(keep.revisions);
            }
            pruned
        })
        .await
    }
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), RecordsError> {
        self.call(|tables| {
            let last = tables.usage_batches.entry(batch.daemon.to_string()).or_default();
            if batch.number > *last {
                *last = batch.number;
                tables.usage.extend(batch.entries.iter().cloned());
            }
        })
        .await
    }
    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, RecordsError> {
        self.call(|tables| {
            let mut rows: BTreeMap<ApiId, UsageRow> = BTreeMap::new();
            for (what, tally) in &tables.usage {
                let Some(api) = what.api.clone().filter(|api| query.api.as_ref().is_none_or(|one| one == api)) else {
                    continue;
                };
                let group = Group::Api(Some(api.clone()));
                let empty = UsageRow { group, client_errors: 0, server_errors: 0, tally: Tally::default() };
                rows.entry(api).or_insert(empty).tally.add(tally);
            }
            rows.into_values().collect()
        })
        .await
    }
    async fn fold_usage(&self, _: &Fold) -> Result<bool, RecordsError> {
        self.call(|_| false).await
    }
}
