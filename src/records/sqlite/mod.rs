//! Records in one SQLite file, which several processes may use at once: the daemon, and `skep keys create` beside it.

mod apis;
mod changed;
mod events;
pub mod examine;
mod holds;
mod keys;
mod lease;
mod migrations;
mod row;
mod trouble;
mod usage;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use self::row::{list, list_readable};
use self::trouble::Trouble;
use self::worker::{Access, Worker};
use super::known::{Known, Row, Seen};
use super::{Event, Keep, Key, KeyHash, Lease, NewEvent, Pruned, Records, RecordsError};
use crate::tree::{ApiId, Digest};
use crate::usage::{Fold, UsageBatch, UsageQuery, UsageRow};
use crate::world::{Hold, Record, Served};

/// Records in one SQLite file. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct Sqlite {
    worker: Worker,
    memory: Arc<Memory>,
}

/// What a handle has read already.
#[derive(Debug, Default)]
struct Memory {
    apis: Known<Row>,
    keys: Known<Arc<Key>>,
}

impl Sqlite {
    /// Opens the file, makes it where it is missing (mode 0600, in a folder that is there), and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// [`RecordsError::Open`] where it cannot be read and written or is no file of ours, [`RecordsError::TooNew`]
    /// where a later skep wrote it.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        Ok(Self { worker: Worker::open(path)?, memory: Arc::default() })
    }

    /// Records that go when the last clone of this handle goes.
    ///
    /// # Errors
    /// [`RecordsError::Open`] where the system has no memory or thread to spare.
    pub fn in_memory() -> Result<Self, RecordsError> {
        Ok(Self { worker: Worker::in_memory()?, memory: Arc::default() })
    }
}

#[async_trait]
impl Records for Sqlite {
    async fn get(&self, id: &ApiId) -> Result<Option<Record>, RecordsError> {
        let id = id.clone();
        self.worker.run(Access::Read, "read the row of an API", move |t| apis::find(t, &id)).await
    }

    async fn each(&self) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
        let ask = async |seen: Option<Seen>| {
            self.worker.run(Access::Read, apis::EACH, move |t| apis::since(t, seen.as_ref())).await
        };
        self.memory.apis.each(ask).await
    }

    async fn put(&self, record: &Record) -> Result<(), RecordsError> {
        let record = record.clone();
        self.worker.run(Access::Write, "write the row of an API", move |t| apis::put(t, &record)).await
    }

    async fn forget(&self, id: &ApiId) -> Result<(), RecordsError> {
        let id = id.clone();
        let job = move |t: &Transaction<'_>| {
            t.execute("DELETE FROM apis WHERE id = ?1", [id.as_str()])?;
            t.execute("DELETE FROM removals WHERE api = ?1", [id.as_str()])?;
            t.execute("DELETE FROM holds WHERE api = ?1", [id.as_str()])?;
            Ok(())
        };
        self.worker.run(Access::Write, "remove the row of an API", job).await
    }

    async fn put_revision(&self, id: &ApiId, served: &Served) -> Result<(), RecordsError> {
        // One row for each revision; one that serves again, as after a rollback, is the latest again.
        const SQL: &str = "INSERT INTO revisions (api, revision, since, served) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (api, revision) DO UPDATE SET since = excluded.since, served = excluded.served
            WHERE excluded.since >= since AND excluded.served <> served";
        let (id, served) = (id.clone(), served.clone());
        let job = move |t: &Transaction<'_>| {
            let values = params![id.as_str(), served.revision.as_str(), row::time(served.since), row::json(&served)?];
            t.prepare_cached(SQL)?.execute(values)?;
            Ok(())
        };
        self.worker.run(Access::Write, "write a revision", job).await
    }

    async fn revisions(&self, id: &ApiId) -> Result<Vec<Served>, RecordsError> {
        const SQL: &str = "SELECT api, revision, served FROM revisions WHERE api = ?1 ORDER BY since DESC, rowid DESC";
        let id = id.clone();
        let job = move |t: &Transaction<'_>| list(t, SQL, &[&id.as_str()], row::served);
        self.worker.run(Access::Read, "read the revisions of an API", job).await
    }

    async fn put_blobs(&self, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), RecordsError> {
        let blobs = blobs.to_vec();
        let job = move |t: &Transaction<'_>| {
            const SQL: &str = "INSERT INTO blobs (digest, bytes, kept_at) VALUES (?1, ?2, ?3)
                ON CONFLICT DO UPDATE SET kept_at = excluded.kept_at";
            let (mut insert, now) = (t.prepare_cached(SQL)?, row::time(Timestamp::now()));
            for (digest, bytes) in &blobs {
                insert.execute(params![digest.to_string(), &bytes[..], now])?;
            }
            Ok(())
        };
        self.worker.run(Access::Write, "keep files", job).await
    }

    async fn missing_blobs(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, RecordsError> {
        let digests = digests.to_vec();
        let job = move |t: &Transaction<'_>| {
            let mut find = t.prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?;
            let mut missing = BTreeSet::new();
            for digest in digests {
                if !find.exists([digest.to_string()])? {
                    missing.insert(digest);
                }
            }
            Ok(missing)
        };
        self.worker.run(Access::Read, "look for files", job).await
    }

    async fn blob(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, RecordsError> {
        let digest = *digest;
        let job = move |t: &Transaction<'_>| {
            let name = digest.to_string();
            let read = |r: &rusqlite::Row<'_>| Ok(Arc::<[u8]>::from(r.get_ref(0)?.as_blob()?));
            let bytes = t.query_row("SELECT bytes FROM blobs WHERE digest = ?1", [&name], read).optional()?;
            match bytes {
                Some(bytes) if Digest::of(&bytes) != digest => {
                    Err(Trouble::Corrupt(format!("table `blobs`, row `{name}`, column `bytes`: not what was kept")))
                }
                bytes => Ok(bytes),
            }
        };
        self.worker.run(Access::Read, "read a file", job).await
    }

    async fn add_event(&self, event: &NewEvent) -> Result<u64, RecordsError> {
        let event = event.clone();
        self.worker.run(Access::Write, "write an event", move |t| events::add(t, &event)).await
    }

    async fn events(&self, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, RecordsError> {
        let api = api.cloned();
        let job = move |t: &Transaction<'_>| events::after(t, api.as_ref(), after, limit);
        self.worker.run(Access::Read, "read events", job).await
    }

    async fn last_events(&self, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, RecordsError> {
        let api = api.cloned();
        let job = move |t: &Transaction<'_>| events::last(t, api.as_ref(), count);
        self.worker.run(Access::Read, "read events", job).await
    }

    async fn keys(&self) -> Result<Vec<Arc<Key>>, RecordsError> {
        let now = Timestamp::now();
        let ask = async |seen: Option<Seen>| {
            self.worker.run(Access::Read, "read the keys", move |t| keys::since(t, seen.as_ref(), now)).await
        };
        self.memory.keys.in_force(now, ask).await
    }

    async fn every_key(&self) -> Result<Vec<Key>, RecordsError> {
        self.worker.run(Access::Read, "read the keys", keys::every).await
    }

    async fn add_key(&self, key: &Key) -> Result<(), RecordsError> {
        let key = key.clone();
        self.worker.run(Access::WriteThrough, "add a key", move |t| keys::add(t, &key)).await
    }

    async fn add_missing_keys(&self, keys: &[Key]) -> Result<usize, RecordsError> {
        let keys = keys.to_vec();
        self.worker.run(Access::WriteThrough, "add keys", move |t| keys::add_missing(t, &keys)).await
    }

    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, RecordsError> {
        let id = id.to_owned();
        self.worker.run(Access::WriteThrough, "revoke a key", move |t| keys::revoke(t, &id, at)).await
    }

    async fn rotate_key(&self, old: &str, new: &Key, until: Timestamp) -> Result<bool, RecordsError> {
        let (old, new) = (old.to_owned(), new.clone());
        self.worker.run(Access::WriteThrough, "rotate a key", move |t| keys::rotate(t, &old, &new, until)).await
    }

    async fn touch_keys(&self, used: &[(KeyHash, Timestamp)]) -> Result<(), RecordsError> {
        let used = used.to_vec();
        self.worker.run(Access::Beat, "write when keys were used", move |t| keys::touch(t, &used)).await
    }

    async fn key_uses(&self) -> Result<BTreeMap<KeyHash, Timestamp>, RecordsError> {
        self.worker.run(Access::Read, "read when keys were used", keys::uses).await
    }

    async fn confirm_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        let ids = ids.to_vec();
        let job = move |t: &Transaction<'_>| {
            let mut insert = t.prepare_cached("INSERT OR IGNORE INTO removals (api) VALUES (?1)")?;
            for id in &ids {
                insert.execute([id.as_str()])?;
            }
            Ok(())
        };
        self.worker.run(Access::WriteThrough, "confirm removals", job).await
    }

    async fn withdraw_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        let ids = ids.to_vec();
        let job = move |t: &Transaction<'_>| {
            let mut delete = t.prepare_cached("DELETE FROM removals WHERE api = ?1")?;
            for id in &ids {
                delete.execute([id.as_str()])?;
            }
            Ok(())
        };
        self.worker.run(Access::Write, "take back confirmed removals", job).await
    }

    async fn confirmed_removals(&self) -> Result<Vec<ApiId>, RecordsError> {
        let job = |t: &Transaction<'_>| {
            list_readable(t, "SELECT api FROM removals ORDER BY api", &[], |r| {
                row::api("removals", &r.get::<_, String>(0)?)
            })
        };
        self.worker.run(Access::Read, "read the confirmed removals", job).await
    }

    async fn put_hold(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        let (id, hold) = (id.clone(), hold.clone());
        self.worker.run(Access::WriteThrough, "hold an API", move |t| holds::put(t, &id, &hold)).await
    }

    async fn release(&self, id: &ApiId) -> Result<bool, RecordsError> {
        let id = id.clone();
        self.worker.run(Access::WriteThrough, "release an API", move |t| holds::release(t, &id)).await
    }

    async fn release_spent(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        let (id, hold) = (id.clone(), hold.clone());
        self.worker.run(Access::Write, "release an API", move |t| holds::release_spent(t, &id, &hold)).await
    }

    async fn check_fence(&self) -> Result<(), RecordsError> {
        self.worker.run(Access::Write, "see who reconciles", |_| Ok(())).await
    }

    async fn lease(&self) -> Result<Lease, RecordsError> {
        self.worker.run(Access::Read, "read the lease", lease::read).await
    }

    async fn claim(&self, seen: &Lease, holder: &str) -> Result<Option<u64>, RecordsError> {
        let (seen, holder) = (seen.clone(), holder.to_owned());
        let job = move |t: &Transaction<'_>| lease::claim(t, &seen, &holder);
        self.worker.run(Access::WriteThrough, "take the lease", job).await
    }

    async fn renew(&self, epoch: u64) -> Result<bool, RecordsError> {
        self.worker.run(Access::Beat, "renew the lease", move |t| lease::renew(t, epoch)).await
    }

    async fn resign(&self, epoch: u64) -> Result<(), RecordsError> {
        self.worker.run(Access::Beat, "give back the lease", move |t| lease::resign(t, epoch)).await
    }

    fn fence(&self, epoch: Option<u64>) {
        self.worker.fence(epoch.unwrap_or_default());
    }

    async fn follow(&self, daemon: &str) -> Result<(), RecordsError> {
        let daemon = daemon.to_owned();
        self.worker.run(Access::Beat, "follow", move |t| lease::follow(t, &daemon)).await
    }

    async fn followers(&self) -> Result<BTreeMap<String, u64>, RecordsError> {
        self.worker.run(Access::Read, "read the followers", lease::followers).await
    }

    async fn dismiss(&self, daemon: &str) -> Result<(), RecordsError> {
        let daemon = daemon.to_owned();
        self.worker.run(Access::Beat, "forget a follower", move |t| lease::dismiss(t, &daemon)).await
    }

    async fn announce(&self, container: &str) -> Result<(), RecordsError> {
        let container = container.to_owned();
        self.worker.run(Access::Write, "announce a removal", move |t| lease::announce(t, &container)).await
    }

    async fn leaving(&self) -> Result<BTreeMap<String, BTreeSet<String>>, RecordsError> {
        self.worker.run(Access::Read, "read what is leaving", lease::leaving).await
    }

    async fn let_go(&self, container: &str, daemon: &str) -> Result<(), RecordsError> {
        let (container, daemon) = (container.to_owned(), daemon.to_owned());
        let job = move |t: &Transaction<'_>| lease::let_go(t, &container, &daemon);
        self.worker.run(Access::Beat, "let go of a container", job).await
    }

    async fn left(&self, container: &str) -> Result<(), RecordsError> {
        let container = container.to_owned();
        self.worker.run(Access::Write, "forget a container", move |t| lease::left(t, &container)).await
    }

    async fn told(&self) -> Result<Option<String>, RecordsError> {
        let job = |t: &Transaction<'_>| Ok(t.query_row("SELECT text FROM told", [], |r| r.get(0)).optional()?);
        self.worker.run(Access::Read, "read what was told", job).await
    }

    async fn put_told(&self, text: &str) -> Result<(), RecordsError> {
        const SQL: &str =
            "INSERT INTO told (only_one, text) VALUES (1, ?1) ON CONFLICT DO UPDATE SET text = excluded.text";
        let text = text.to_owned();
        let job = move |t: &Transaction<'_>| Ok(t.prepare_cached(SQL)?.execute([&text]).map(drop)?);
        self.worker.run(Access::Write, "write what was told", job).await
    }

    async fn prune(&self, keep: &Keep) -> Result<Pruned, RecordsError> {
        let keep = *keep;
        self.worker.run(Access::Write, "throw away what is old", move |t| lease::prune(t, &keep)).await
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), RecordsError> {
        let batch = batch.clone();
        self.worker.run(Access::WriteThrough, "add usage", move |t| usage::add(t, &batch)).await
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, RecordsError> {
        let query = query.clone();
        self.worker.run(Access::Read, "read usage", move |t| usage::sums(t, &query)).await
    }

    async fn fold_usage(&self, fold: &Fold) -> Result<bool, RecordsError> {
        let fold = *fold;
        self.worker.run(Access::Beat, "put old usage together", move |t| usage::fold(t, &fold)).await
    }

    async fn version(&self) -> Result<u64, RecordsError> {
        self.worker.version().await
    }
}

#[cfg(test)]
mod tests;
