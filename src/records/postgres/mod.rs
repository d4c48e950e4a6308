//! Records in a Postgres: the team's own, as Supabase gives one to each project, or any other.
//!
//! All of it lies in one schema of its own. Every statement is sent with the types of its values and without a name, so
//! that a pool before the server may hand each transaction to another connection.

mod address;
mod apis;
mod changed;
mod events;
pub mod examine;
mod keys;
mod lease;
mod migrations;
mod mirror;
mod nul;
mod people;
mod prune;
mod row;
mod signal;
mod standing;
mod tls;
mod trouble;
mod usage;
mod version;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

pub use self::address::{Address, Trust};
use self::signal::Signal;
pub(super) use self::tls::connect;
use self::worker::{Access, Worker};
use super::known::{Known, Row, Seen};
use super::{Away, Event, Keep, Key, KeyHash, Lease, Mirror, NewEvent, Pruned, Records, RecordsError};
use crate::tree::{ApiId, Digest};
use crate::usage::{Fold, UsageBatch, UsageQuery, UsageRow};
use crate::world::{Hold, Record, Served};

/// What to know of a Postgres before records can be kept there.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is.
    pub address: Address,
    /// The schema that our tables lie in: a lower-case letter or `_`, then letters, digits and `_`.
    pub schema: String,
    /// The mark of the installation that they are of.
    pub owner: String,
    /// How many connections there may be at most, one for signals included where there are two or more. Below four, slow
    /// reads may keep signs of life waiting, which one daemon alone does not mind.
    pub connections: usize,
}

/// Records in a Postgres. Cheap to clone; clones share one pool of connections.
#[derive(Clone)]
pub struct Postgres {
    worker: Worker,
    signal: Signal,
    memory: Arc<Memory>,
}

/// What a handle remembers of what it did.
#[derive(Default)]
struct Memory {
    unsure: events::Unsure,
    own: version::Own,
    apis: Known<Row>,
    keys: Known<Arc<Key>>,
}

impl Place {
    /// Reads a connection string, and takes this file of the authority where the string names none.
    ///
    /// # Errors
    /// [`RecordsError::Open`] where it cannot be used.
    pub fn parse(
        url: &str,
        ca: Option<&PathBuf>,
        schema: &str,
        owner: &str,
        connections: usize,
    ) -> Result<Self, RecordsError> {
        let failed = |cause: String| RecordsError::Open { place: "the address that is set".to_owned(), cause };
        let address = Address::parse(url).map_err(failed)?.or_ca(ca);
        Ok(Self { address, schema: schema.to_owned(), owner: owner.to_owned(), connections })
    }
}

impl Postgres {
    /// Connects, makes the schema and its tables where they are missing, and brings them up to date.
    ///
    /// # Errors
    /// [`RecordsError::Open`] where the server cannot be reached or refuses us, or the schema is of somebody else,
    /// [`RecordsError::TooNew`] where a later skep wrote it.
    pub async fn open(place: &Place) -> Result<Self, RecordsError> {
        let records = Self::lazy(place)?;
        records.prepare().await?;
        Ok(records)
    }

    /// Connects and sees to the tables now, where that has not been done.
    ///
    /// # Errors
    /// As [`Postgres::open`].
    pub async fn prepare(&self) -> Result<(), RecordsError> {
        self.worker.prepare().await
    }

    /// Connects only when something is asked. Wants a runtime.
    ///
    /// # Errors
    /// [`RecordsError::Open`] where the file of the authority cannot be used.
    pub fn lazy(place: &Place) -> Result<Self, RecordsError> {
        let failed = |cause| RecordsError::Open { place: place.address.place().to_owned(), cause };
        let pooled = if place.connections > 1 { place.connections - 1 } else { 1 };
        let worker = Worker::new(&place.address, &place.schema, &place.owner, pooled).map_err(failed)?;
        let signal =
            if place.connections > 1 { Signal::listen(place, worker.clone()).map_err(failed)? } else { Signal::none() };
        Ok(Self { worker, signal, memory: Arc::default() })
    }
}

/// Begins a job: what it takes is cloned, since it outlives whoever asks.
macro_rules! job {
    ($self:ident, $access:ident, $action:expr, [$($taken:ident = $value:expr),*], |$t:ident| $call:expr) => {{
        $(let $taken = $value;)*
        $self.worker.run(Access::$access, $action, move |$t| Box::pin(async move { $call.await })).await
    }};
}

#[async_trait]
impl Records for Postgres {
    async fn get(&self, id: &ApiId) -> Result<Option<Record>, RecordsError> {
        job!(self, Read, "read the row of an API", [id = id.clone()], |t| apis::find(t, &id))
    }

    async fn each(&self) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
        let ask = async |seen: Option<Seen>| job!(self, Read, apis::EACH, [], |t| apis::since(t, seen.as_ref()));
        self.memory.apis.each(ask).await
    }

    async fn put(&self, record: &Record) -> Result<(), RecordsError> {
        job!(self, Write, "write the row of an API", [record = record.clone()], |t| apis::put(t, &record))
    }

    async fn forget(&self, id: &ApiId) -> Result<(), RecordsError> {
        job!(self, Write, "remove the row of an API", [id = id.clone()], |t| apis::forget(t, &id))
    }

    async fn put_revision(&self, id: &ApiId, served: &Served) -> Result<(), RecordsError> {
        job!(self, Write, "write a revision", [id = id.clone(), served = served.clone()], |t| {
            apis::put_revision(t, &id, &served)
        })
    }

    async fn revisions(&self, id: &ApiId) -> Result<Vec<Served>, RecordsError> {
        job!(self, Read, "read the revisions of an API", [id = id.clone()], |t| apis::revisions(t, &id))
    }

    async fn put_blobs(&self, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), RecordsError> {
        job!(self, Write, "keep files", [blobs = blobs.to_vec()], |t| apis::put_blobs(t, &blobs))
    }

    async fn missing_blobs(&self, digests: &[Digest]) -> Result<BTreeSet<Digest>, RecordsError> {
        job!(self, Read, "look for files", [digests = digests.to_vec()], |t| apis::missing_blobs(t, &digests))
    }

    async fn blob(&self, digest: &Digest) -> Result<Option<Arc<[u8]>>, RecordsError> {
        job!(self, Read, "read a file", [digest = *digest], |t| apis::blob(t, &digest))
    }

    async fn add_event(&self, event: &NewEvent) -> Result<u64, RecordsError> {
        let earlier = self.memory.unsure.earlier(event);
        let event = earlier.as_ref().unwrap_or(event);
        let mut added = match earlier {
            None => job!(self, Write, "write an event", [event = event.clone()], |t| events::add(t, &event)),
            Some(_) => job!(self, Write, "write an event", [event = event.clone()], |t| events::add_again(t, &event)),
        };
        if matches!(added, Err(RecordsError::Unsure { .. })) {
            // Remembered first: nobody may be waiting for what comes of it.
            self.memory.unsure.note(event, &added);
            added = job!(self, Write, "write an event", [event = event.clone()], |t| events::add_again(t, &event));
        }
        self.memory.unsure.note(event, &added);
        added
    }

    async fn events(&self, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, RecordsError> {
        job!(self, Read, "read events", [api = api.cloned()], |t| events::after(t, api.as_ref(), after, limit))
    }

    async fn last_events(&self, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, RecordsError> {
        job!(self, Read, "read events", [api = api.cloned()], |t| events::last(t, api.as_ref(), count))
    }

    async fn keys(&self) -> Result<Vec<Arc<Key>>, RecordsError> {
        let now = Timestamp::now();
        let ask =
            async |seen: Option<Seen>| job!(self, Read, "read the keys", [], |t| keys::since(t, seen.as_ref(), now));
        self.memory.keys.in_force(now, ask).await
    }

    async fn every_key(&self) -> Result<Vec<Key>, RecordsError> {
        job!(self, Read, "read the keys", [], |t| keys::every(t))
    }

    async fn add_missing_keys(&self, keys: &[Key]) -> Result<usize, RecordsError> {
        job!(self, Word, "add keys", [keys = keys.to_vec()], |t| keys::add_missing(t, &keys))
    }

    async fn add_key(&self, key: &Key) -> Result<(), RecordsError> {
        match job!(self, Word, "add a key", [key = key.clone()], |t| keys::add(t, &key)) {
            // A person who is told that it failed makes another one, and this one stays.
            Err(RecordsError::Unsure { .. }) => {
                job!(self, Word, "add a key", [key = key.clone()], |t| keys::add_again(t, &key))
            }
            added => added,
        }
    }

    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, RecordsError> {
        job!(self, Word, "revoke a key", [id = id.to_owned()], |t| keys::revoke(t, &id, at))
    }

    async fn rotate_key(&self, old: &str, new: &Key, until: Timestamp) -> Result<bool, RecordsError> {
        let rotated = job!(self, Word, "rotate a key", [old = old.to_owned(), new = new.clone()], |t| {
            keys::rotate(t, &old, &new, until)
        });
        match rotated {
            Err(RecordsError::Unsure { .. }) => {
                job!(self, Word, "rotate a key", [old = old.to_owned(), new = new.clone()], |t| {
                    keys::rotate_again(t, &old, &new, until)
                })
            }
            rotated => rotated,
        }
    }

    async fn touch_keys(&self, used: &[(KeyHash, Timestamp)]) -> Result<(), RecordsError> {
        job!(self, Beat, "write when keys were used", [used = used.to_vec()], |t| keys::touch(t, &used))
    }

    async fn key_uses(&self) -> Result<BTreeMap<KeyHash, Timestamp>, RecordsError> {
        job!(self, Read, "read when keys were used", [], |t| keys::uses(t))
    }

    async fn confirm_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        job!(self, Word, "confirm removals", [ids = ids.to_vec()], |t| people::confirm(t, &ids))
    }

    async fn withdraw_removal(&self, ids: &[ApiId]) -> Result<(), RecordsError> {
        job!(self, Write, "take back confirmed removals", [ids = ids.to_vec()], |t| people::withdraw(t, &ids))
    }

    async fn confirmed_removals(&self) -> Result<Vec<ApiId>, RecordsError> {
        job!(self, Read, "read the confirmed removals", [], |t| people::confirmed(t))
    }

    async fn put_hold(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        job!(self, Word, "hold an API", [id = id.clone(), hold = hold.clone()], |t| people::put_hold(t, &id, &hold))
    }

    async fn release(&self, id: &ApiId) -> Result<bool, RecordsError> {
        job!(self, Word, "release an API", [id = id.clone()], |t| people::release(t, &id))
    }

    async fn release_spent(&self, id: &ApiId, hold: &Hold) -> Result<(), RecordsError> {
        job!(self, Write, "release an API", [id = id.clone(), hold = hold.clone()], |t| {
            people::release_spent(t, &id, &hold)
        })
    }

    async fn check_fence(&self) -> Result<(), RecordsError> {
        job!(self, Write, "see who reconciles", [], |_t| std::future::ready(Ok(())))
    }

    async fn lease(&self) -> Result<Lease, RecordsError> {
        job!(self, Read, "read the lease", [], |t| lease::read(t))
    }

    async fn claim(&self, seen: &Lease, holder: &str) -> Result<Option<u64>, RecordsError> {
        job!(self, Word, "take the lease", [seen = seen.clone(), holder = holder.to_owned()], |t| {
            lease::claim(t, &seen, &holder)
        })
    }

    async fn renew(&self, epoch: u64) -> Result<bool, RecordsError> {
        job!(self, Beat, "renew the lease", [], |t| lease::renew(t, epoch))
    }

    async fn resign(&self, epoch: u64) -> Result<(), RecordsError> {
        job!(self, Beat, "give back the lease", [], |t| lease::resign(t, epoch))
    }

    fn fence(&self, epoch: Option<u64>) {
        self.worker.fence(epoch.unwrap_or_default());
    }

    async fn follow(&self, daemon: &str) -> Result<(), RecordsError> {
        job!(self, Beat, "follow", [daemon = daemon.to_owned()], |t| lease::follow(t, &daemon))
    }

    async fn followers(&self) -> Result<BTreeMap<String, u64>, RecordsError> {
        job!(self, Read, "read the followers", [], |t| lease::followers(t))
    }

    async fn dismiss(&self, daemon: &str) -> Result<(), RecordsError> {
        job!(self, Beat, "forget a follower", [daemon = daemon.to_owned()], |t| lease::dismiss(t, &daemon))
    }

    async fn announce(&self, container: &str) -> Result<(), RecordsError> {
        job!(self, Write, "announce a removal", [container = container.to_owned()], |t| lease::announce(t, &container))
    }

    async fn leaving(&self) -> Result<BTreeMap<String, BTreeSet<String>>, RecordsError> {
        job!(self, Read, "read what is leaving", [], |t| lease::leaving(t))
    }

    async fn let_go(&self, container: &str, daemon: &str) -> Result<(), RecordsError> {
        job!(self, Beat, "let go of a container", [container = container.to_owned(), daemon = daemon.to_owned()], |t| {
            lease::let_go(t, &container, &daemon)
        })
    }

    async fn left(&self, container: &str) -> Result<(), RecordsError> {
        job!(self, Write, "forget a container", [container = container.to_owned()], |t| lease::left(t, &container))
    }

    async fn told(&self) -> Result<Option<String>, RecordsError> {
        job!(self, Read, "read what was told", [], |t| people::told(t))
    }

    async fn put_told(&self, text: &str) -> Result<(), RecordsError> {
        job!(self, Write, "write what was told", [text = text.to_owned()], |t| people::put_told(t, &text))
    }

    async fn prune(&self, keep: &Keep) -> Result<Pruned, RecordsError> {
        const WHAT: &str = "throw away what is old";
        job!(self, Beat, WHAT, [], |t| prune::changes(t))?;
        let (revisions, events) = job!(self, Write, WHAT, [keep = *keep], |t| prune::history(t, &keep))?;
        let unused = job!(self, Read, WHAT, [keep = *keep], |t| prune::unused(t, &keep))?;
        let mut blobs = 0;
        for some in unused.chunks(prune::FEW) {
            blobs += job!(self, Write, WHAT, [keep = *keep, some = some.to_vec()], |t| prune::blobs(t, &keep, &some))?;
        }
        Ok(Pruned { revisions, events, blobs })
    }

    async fn add_usage(&self, batch: &UsageBatch) -> Result<(), RecordsError> {
        job!(self, Count, "add usage", [batch = batch.clone()], |t| usage::add(t, &batch))
    }

    async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, RecordsError> {
        job!(self, Read, "read usage", [query = query.clone()], |t| usage::sums(t, &query))
    }

    async fn fold_usage(&self, fold: &Fold) -> Result<bool, RecordsError> {
        job!(self, Count, "put old usage together", [fold = *fold], |t| usage::fold(t, &fold))
    }

    async fn version(&self) -> Result<u64, RecordsError> {
        let changes = job!(self, Read, "look for changes", [writer = self.worker.writer().to_owned()], |t| {
            version::changes(t, &writer)
        })?;
        Ok(self.memory.own.version(changes))
    }

    fn away(&self) -> Option<Away> {
        self.worker.away()
    }

    async fn mirror(&self, mirror: &Mirror) -> Result<u64, RecordsError> {
        let schema = self.worker.schema().to_owned();
        job!(self, Aside, "keep the table of the system before", [mirror = mirror.clone()], |t| {
            mirror::write(t, &schema, &mirror)
        })
    }

    async fn changed(&self) {
        self.signal.wait().await;
    }
}
