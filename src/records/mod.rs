//! Records are what skep remembers of each API: its row, revisions, events, keys and usage.
//!
//! Only this module names SQL.

pub mod away;
pub mod key;
pub mod known;
pub mod lease;
pub mod old_system;
pub mod postgres;
pub mod remembering;
pub mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use away::Away;
pub use key::{Key, KeyHash, KeyScope, NewKey};
pub use known::Row;
pub use lease::{Keep, Lease, Pruned};

use crate::tree::{ApiId, Digest, Revision};
use crate::usage::{Fold, UsageBatch, UsageQuery, UsageRow};
use crate::world::{Hold, Record, Served};

/// How often records are asked whether somebody has written that do not tell by themselves. Asking takes some 50 µs.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What skep remembers. Every call is one transaction; it is done whole or not at all, also where the caller stops
/// waiting, and calls through one handle take effect in the order in which they began. Moments are kept to the microsecond.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// The row of one API.
    async fn get(&self, id: &ApiId) -> Result<Option<Record>, RecordsError>;

    /// All rows by id, each for itself: a row that cannot be read is an error in its own place, so that it holds up no
    /// other API. The daemon wants this one; its outer error means that nothing is known of any row.
    async fn each(&self) -> Result<BTreeMap<ApiId, Row>, RecordsError>;

    /// All rows, in order of id. One row that cannot be read is an error that names it: a list that silently lacks a row
    /// would look like an API that was never there.
    async fn all(&self) -> Result<BTreeMap<ApiId, Record>, RecordsError> {
        let rows = self.each().await?.into_iter();
        rows.map(|(id, record)| Ok((id, record.map(Arc::unwrap_or_clone)?))).collect()
    }

    /// Writes a row, whole but for [`Record::hold`]; makes it where it is missing. Where it differs in nothing but
    /// [`Record::updated`], the row that is there stays as it is.
    async fn put(&self, record: &Record) -> Result<(), RecordsError>;

    /// Removes a row and its hold. Its keys, revisions and events stay. One that is gone already is a success.
    async fn forget(&self, id: &ApiId) -> Result<(), RecordsError>;

    /// Remembers that a revision serves: its settings and files. Once for each revision; again is a success, and makes it
    /// the latest where its `since` is later.
    async fn put_revision(&self, id: &ApiId, served: &Served) -> Result<(), RecordsError>;

    /// The revisions of an API that have served, the latest first.
    async fn revisions(&self, id: &ApiId) -> Result<Vec<Served>, RecordsError>;

    /// Keeps the bytes of files, by digest. Those that are there already are left as they are.
    async fn put_blobs(&self, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), RecordsError>;

    /// Which of these are not kept.
    async fn missing_blobs(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, RecordsError>;

    /// The bytes of a file, where they were kept.
    async fn blob(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, RecordsError>;

    /// Adds an event and gives it its number. Where an earlier try ended with [`RecordsError::Unsure`], another one, at
    /// whatever time, does not write it twice.
    async fn add_event(&self, event: &NewEvent) -> Result<u64, RecordsError>;

    /// Events with a number above `after`, of one API or of all, oldest first, at most `limit`.
    async fn events(&self, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, RecordsError>;

    /// The last `count` events, of one API or of all, oldest first.
    async fn last_events(&self, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, RecordsError>;

    /// All keys that may still be used, in order of id, for the gateway's snapshot. When they were used, [`Records::key_uses`]
    /// says.
    async fn keys(&self) -> Result<Vec<Arc<Key>>, RecordsError>;

    /// All keys that ever were added, in order of id: also those that open nothing any more.
    async fn every_key(&self) -> Result<Vec<Key>, RecordsError>;

    /// Adds a key.
    async fn add_key(&self, key: &Key) -> Result<(), RecordsError>;

    /// Adds those of these keys whose hashes were never added before, in one go, and says how many those were. One that
    /// is there already stays as it is, revoked or not.
    async fn add_missing_keys(&self, keys: &[Key]) -> Result<usize, RecordsError>;

    /// Revokes a key by its public id; `false` where there is none.
    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, RecordsError>;

    /// Puts a key in the place of another, which goes on opening `until`, in one go; `false`, and nothing is written, where
    /// the other is not there or somebody has said already when it ends.
    async fn rotate_key(&self, old: &str, new: &Key, until: Timestamp) -> Result<bool, RecordsError>;

    /// Remembers when keys last let somebody in, also those that are not in the records. An earlier time changes nothing.
    async fn touch_keys(&self, used: &[(KeyHash, Timestamp)]) -> Result<(), RecordsError>;

    /// When the keys that are not in the records last let somebody in, and all others too.
    async fn key_uses(&self) -> Result<BTreeMap<KeyHash, Timestamp>, RecordsError>;

    /// Lets these APIs be removed although many would go at once; forgotten as each of them is forgotten.
    async fn confirm_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError>;

    /// Takes back what [`Records::confirm_removal`] said: their folders are back.
    async fn withdraw_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError>;

    /// The APIs whose removal was confirmed.
    async fn confirmed_removals(&self) -> Result<Vec<ApiId>, RecordsError>;

    /// Leaves an API as it is, in place of an earlier hold.
    async fn put_hold(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError>;

    /// Ends a hold; `false` where there is none.
    async fn release(&self, id: &ApiId) -> Result<bool, RecordsError>;

    /// Ends a hold that is over, and no other that somebody has made in its place meanwhile.
    async fn release_spent(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError>;

    /// Who reconciles.
    async fn lease(&self) -> Result<Lease, RecordsError>;

    /// Takes the lease where it is still as it was `seen`, for `holder`; the new epoch, or `None` where somebody was
    /// quicker.
    async fn claim(&self, seen: &Lease, holder: &str) -> Result<Option<u64>, RecordsError>;

    /// Gives a sign of life; `false` where another daemon has taken over.
    async fn renew(&self, epoch: u64) -> Result<bool, RecordsError>;

    /// Gives the lease back, so that another daemon need not wait for it to run out.
    async fn resign(&self, epoch: u64) -> Result<(), RecordsError>;

    /// From now on, refuses with [`RecordsError::Fenced`] what this handle writes of rows, revisions, files, events,
    /// containers that leave and what was told, unless the lease is of that epoch; `None` refuses nothing. What people write (keys, holds,
    /// confirmations) is never refused.
    fn fence(&self, epoch: Option<u64>);

    /// Writes nothing, and is refused where a write would be: for what is not written here and must not be done by one
    /// who was asleep while another daemon took over.
    async fn check_fence(&self) -> Result<(), RecordsError>;

    /// Says that a daemon serves callers and does not reconcile; each call is a sign of life.
    async fn follow(&self, daemon: &str) -> Result<(), RecordsError>;

    /// The daemons that said so, each with a number that goes up with every sign of life.
    async fn followers(&self) -> Result<BTreeMap<String, u64>, RecordsError>;

    /// Forgets a follower that has ended.
    async fn dismiss(&self, daemon: &str) -> Result<(), RecordsError>;

    /// Announces that a container is about to be removed: nobody sends it a new request from then on, also where the
    /// announcer stops in the middle.
    async fn announce(&self, container: &str) -> Result<(), RecordsError>;

    /// The containers that are about to be removed, each with the followers that have let go of it.
    async fn leaving(&self) -> Result<BTreeMap<String, BTreeSet<String>>, RecordsError>;

    /// Says that a follower has let go of a container that is about to be removed.
    async fn let_go(&self, container: &str, daemon: &str) -> Result<(), RecordsError>;

    /// Forgets a container that is gone.
    async fn left(&self, container: &str) -> Result<(), RecordsError>;

    /// What whoever reconciles has told others, and has still to tell, as [`Records::put_told`] wrote it last.
    async fn told(&self) -> Result<Option<String>, RecordsError>;

    /// Writes that, in place of what was there.
    async fn put_told(&self, text: &str) -> Result<(), RecordsError>;

    /// Throws away what is older than what is kept.
    async fn prune(&self, keep: &Keep) -> Result<Pruned, RecordsError>;

    /// Adds what a daemon has counted. A batch that is in already, by its daemon and number, is a success and adds nothing;
    /// once it is in, it outlives a power cut. Never refused: what a daemon has counted is its own, whoever reconciles.
    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), RecordsError>;

    /// The sums of what was counted, as far as they are told apart.
    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, RecordsError>;

    /// Puts sums of one old span together, or forgets some; `true` where there is more to do. Loses no request before its
    /// time, whoever else does it at once.
    async fn fold_usage(&self, fold: &Fold) -> Result<bool, RecordsError>;

    /// A number that differs from an earlier answer of the same handle where another process or handle has written since:
    /// a key was made, a row edited. What this handle itself writes does not change it. Cheap enough to ask each second.
    async fn version(&self) -> Result<u64, RecordsError>;

    /// Keeps a table of the system before as it kept it, where it lies in the same database; how many of its rows changed.
    async fn mirror(&self, mirror: &Mirror) -> Result<u64, RecordsError> {
        let cause = format!("{} lies in a Postgres, and the records do not; set SKEP_DB_URL", mirror.table);
        Err(RecordsError::Failed { action: "keep the table of the system before", cause })
    }

    /// What cannot be done with the records now, and why, as the last calls have found; `None` where all of them have
    /// answered.
    fn away(&self) -> Option<Away> {
        None
    }

    /// Returns when it is worth asking for [`Records::version`] again: where the database says so, or after a while. A
    /// hint, as all signals are.
    async fn changed(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A table of the system before that is kept as that system kept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Schema and table, both plain names: `public.apis`.
    pub table: String,
    /// Where callers reach the gateway, for `endpoint_url`; that column stays as it is where nothing is said.
    pub url: Option<String>,
}

/// Something that happened, to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// To which API; `None` for the installation as a whole.
    pub api: Option<ApiId>,
    /// Which revision it is about.
    pub revision: Option<Revision>,
    /// A stable word: `built`, `started`, `serving`, `failed`, `healed`, `removed`, …
    pub kind: String,
    /// One sentence for people.
    pub message: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up; later events have higher numbers.
    pub number: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: NewEvent,
}

/// Why the records could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordsError {
    /// The file or server cannot be opened.
    #[error("cannot open the records at {place}: {cause}")]
    Open {
        /// Path or address, without secrets.
        place: String,
        /// What the database said.
        cause: String,
    },
    /// The database is there, and what lies in it is somebody else's.
    #[error("cannot keep records at {place}: {cause}")]
    Foreign {
        /// Address, without secrets.
        place: String,
        /// Whose it is, and what to do.
        cause: String,
    },
    /// They were written by a later version of skep.
    #[error("the records are of schema {found}, this skep knows up to {known}; use a newer skep")]
    TooNew {
        /// In the database.
        found: i64,
        /// In this binary.
        known: i64,
    },
    /// A statement failed.
    #[error("cannot {action} in the records: {cause}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// What the database said.
        cause: String,
    },
    /// The way to the database broke off before it said whether it has done what it was told.
    #[error("cannot {action} in the records: {cause}; whether it is written all the same is not known")]
    Unsure {
        /// What was tried.
        action: &'static str,
        /// What broke off.
        cause: String,
    },
    /// Another daemon has taken over; nothing was written.
    #[error("another daemon of this installation has taken over")]
    Fenced,
    /// What came back is not what skep writes.
    #[error("the records hold something that skep did not write: {0}")]
    Corrupt(String),
}
