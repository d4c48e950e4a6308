//! The worker runs jobs on a pool of connections: what changes something one by one, in the order asked; the rest beside it.
//!
//! A job, once handed over, runs to its end whatever becomes of the future that waits for it, so that no half transaction
//! is left behind and a write whose asker has given up does not land after a later one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::address::Address;
use super::standing::Standing;
use super::trouble::{self, Trouble, explain};
use super::{lease, migrations, tls};
use crate::records::{Away, RecordsError};

/// How long a job waits for a connection where all are busy, and for one to be made.
const WAIT: Duration = Duration::from_secs(5);

/// After how long a server that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one statement may take. Ours take milliseconds; a batch of files or of usage takes longer.
const STATEMENT: Duration = Duration::from_secs(20);

/// How long a server keeps a transaction open whose client says nothing, as one that was put to sleep: locks that keep
/// another daemon from taking over must not outlive its patience.
const IDLE: Duration = Duration::from_secs(3);

/// How long a whole job may take; then its connection is thrown away.
const JOB: Duration = Duration::from_secs(60);

/// No such schema, table, column or function (PostgreSQL, appendix A).
const LOST: [&str; 4] = ["3F000", "42P01", "42703", "42883"];

/// How many jobs may wait for their turn. Those beyond wait before that.
const QUEUE: usize = 1024;

type Job = BoxFuture<'static, ()>;

/// Runs jobs on a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
}

struct Shared {
    pool: Pool,
    place: String,
    /// Checked to be a plain name.
    schema: String,
    owner: String,
    /// Tells our own changes from those of others.
    writer: String,
    /// The epoch that the lease must be of; nought where anything goes.
    fence: AtomicU64,
    /// Whether the tables are known to be there, and as this binary wants them.
    is_ready: AtomicBool,
    /// One at a time sees to that; and why the last try failed, a moment ago.
    preparing: Mutex<Option<(Instant, String)>>,
    /// Leaves connections to signs of life, however many and slow the reads are.
    reading: Semaphore,
    /// What has failed of late, for people.
    standing: Standing,
}

/// What a job does to the database, and how sure a caller must be of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing is written. Sees all that was asked before.
    Read,
    /// A write of the daemon that reconciles, in its turn; refused where another has taken over.
    Write,
    /// A write of the daemon that reconciles to what others hold locks on: waits for nobody's turn, and nobody for it.
    Aside,
    /// A write of a person's, in its turn.
    Word,
    /// A sign of life, or a count: waits for no other, and a crash of the server's host may undo it.
    Beat,
    /// As [`Access::Beat`], and once it is done it stays.
    Count,
}

/// One open transaction.
pub struct Tx<'a> {
    client: &'a Client,
}

/// A value of a statement, and the type that it is sent as.
pub type Value<'a> = (&'a (dyn ToSql + Sync), Type);

impl Tx<'_> {
    /// The rows of a statement.
    pub async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Trouble> {
        Ok(self.client.query_typed(sql, values).await?)
    }

    /// How many rows a statement has touched.
    pub async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Trouble> {
        Ok(self.client.execute_typed(sql, values).await?)
    }

    /// Several statements without values.
    pub async fn batch(&self, sql: &str) -> Result<(), Trouble> {
        Ok(self.client.batch_execute(sql).await?)
    }
}

impl Worker {
    /// A worker that has not connected yet. Wants a runtime.
    ///
    /// # Errors
    /// Where the authority's file cannot be read.
    pub fn new(address: &Address, schema: &str, owner: &str, connections: usize) -> Result<Self, String> {
        let manager = Manager::from_config(
            address.config.clone(),
            tls::connector(address)?,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT * 2))
            .recycle_timeout(Some(WAIT))
            .build()
            .map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared {
            pool,
            place: address.place().to_owned(),
            schema: schema.to_owned(),
            owner: owner.to_owned(),
            writer: uuid::Uuid::now_v7().to_string(),
            fence: AtomicU64::new(0),
            is_ready: AtomicBool::new(false),
            preparing: Mutex::default(),
            reading: Semaphore::new(connections.saturating_sub(2).max(1)),
            standing: Standing::default(),
        });
        let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                job.await;
            }
        });
        Ok(Self { shared, queue })
    }

    /// Whose changes are ours.
    pub fn writer(&self) -> &str {
        &self.shared.writer
    }

    /// The schema that our tables lie in.
    pub fn schema(&self) -> &str {
        &self.shared.schema
    }

    /// See [`crate::records::Records::away`].
    pub fn away(&self) -> Option<Away> {
        self.shared.standing.away()
    }

    /// See [`crate::records::Records::fence`].
    pub fn fence(&self, epoch: u64) {
        self.shared.fence.store(epoch, Ordering::SeqCst);
    }

    /// Connects, and brings the tables up to what this binary knows, where that has not been done.
    ///
    /// # Errors
    /// [`RecordsError::Open`] and [`RecordsError::TooNew`].
    pub async fn prepare(&self) -> Result<(), RecordsError> {
        let place = self.shared.place.clone();
        let open = |trouble: Trouble| match trouble {
            Trouble::Schema(error) => error,
            trouble => RecordsError::Open { place, cause: trouble.to_string() },
        };
        self.shared.prepare().await.map_err(open)
    }

    /// Runs `job` in one transaction, which is committed where it succeeds and undone where it fails.
    pub async fn run<T: Send + 'static>(
        &self,
        access: Access,
        action: &'static str,
        job: impl for<'t> FnOnce(&'t Tx<'t>) -> BoxFuture<'t, Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let gone = || RecordsError::Failed { action, cause: "skep is about to end".to_owned() };
        let (reply, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let fence =
            if matches!(access, Access::Write | Access::Aside) { shared.fence.load(Ordering::SeqCst) } else { 0 };
        let work = async move {
            let _permit = if access == Access::Read { shared.reading.acquire().await.ok() } else { None };
            let outcome = shared.transact(access, fence, job).await;
            shared.standing.note(access, &outcome);
            // Nobody may be waiting any more; what was asked is done all the same.
            let _ = reply.send(outcome.map_err(|trouble| trouble.while_trying(action)));
        };
        let turn: Job = match access {
            Access::Write | Access::Word => Box::pin(work),
            // Begins when it is its turn, and holds up nobody behind it.
            Access::Read => Box::pin(async move { drop(tokio::spawn(work)) }),
            Access::Beat | Access::Count | Access::Aside => {
                tokio::spawn(work);
                return answer.await.map_err(|_| gone())?;
            }
        };
        self.queue.send(turn).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Shared {
    async fn transact<T>(
        &self,
        access: Access,
        fence: u64,
        job: impl for<'t> FnOnce(&'t Tx<'t>) -> BoxFuture<'t, Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        self.prepare().await?;
        let connection = self.begin(access).await?;
        let tx = Tx { client: &connection };
        let is_committing = AtomicBool::new(false);
        let work = async {
            if fence != 0 {
                lease::check(&tx, fence).await?;
            }
            let outcome = job(&tx).await?;
            is_committing.store(access != Access::Read, Ordering::Relaxed);
            tx.batch("COMMIT").await?;
            Ok(outcome)
        };
        let mut outcome = tokio::time::timeout(JOB, work).await.unwrap_or_else(|_| {
            Err(Trouble::Unreachable(format!(
                "the server did not answer within {} s; skep tries again by itself",
                JOB.as_secs()
            )))
        });
        if let Err(Trouble::Sql(error)) = &outcome
            && error.code().is_some_and(|code| LOST.contains(&code.code()))
        {
            // The tables are gone or older, as after a restore from a backup: the next job sees to them first.
            self.is_ready.store(false, Ordering::Release);
        }
        outcome = match outcome {
            // What a server says of a commit is so; where the way to it breaks off, it has said nothing.
            Err(Trouble::Sql(error)) if is_committing.load(Ordering::Relaxed) && trouble::is_cut(&error) => {
                Err(Trouble::Unsure(explain(&error)))
            }
            Err(Trouble::Unreachable(cause)) if is_committing.load(Ordering::Relaxed) => Err(Trouble::Unsure(cause)),
            outcome => outcome,
        };
        if outcome.is_err() {
            // What a connection is in the middle of must not be in the way of the next job.
            let undone = tokio::time::timeout(WAIT, tx.batch("ROLLBACK")).await;
            if !matches!(undone, Ok(Ok(()))) {
                drop(Object::take(connection));
            }
        }
        outcome
    }

    /// A connection with a transaction begun on it. One that has died in the pool is no reason to fail: nothing was asked of
    /// it yet.
    async fn begin(&self, access: Access) -> Result<Object, Trouble> {
        let mut sql = String::from(match access {
            // Of one moment, whatever is read.
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            _ => "BEGIN",
        });
        sql.push_str(&format!(
            "; SET LOCAL search_path = {}, pg_temp; SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}",
            self.schema,
            STATEMENT.as_millis(),
            IDLE.as_millis()
        ));
        if access != Access::Read {
            sql.push_str(&format!("; SET LOCAL skep.writer = '{}'", self.writer));
        }
        if access == Access::Beat {
            sql.push_str("; SET LOCAL synchronous_commit = off");
        }
        sql.push_str("; SHOW transaction_read_only");
        let mut is_afresh = false;
        for _ in 0..=self.pool.status().max_size {
            let connection = self.connection().await?;
            match tokio::time::timeout(WAIT * 2, connection.simple_query(&sql)).await {
                Ok(Ok(said)) if access == Access::Read || !is_read_only(&said) => return Ok(connection),
                // What a database or a server is told about writes, a connection made earlier does not hear: that it may
                // write again, or that writes go to another host now. A new one does.
                Ok(Ok(_)) => {
                    drop(Object::take(connection));
                    if std::mem::replace(&mut is_afresh, true) {
                        return Err(trouble::read_only());
                    }
                    self.pool.retain(|_, _| false);
                }
                Ok(Err(error)) => {
                    let is_dead = connection.is_closed() || trouble::is_cut(&error);
                    drop(Object::take(connection));
                    if !is_dead {
                        return Err(error.into());
                    }
                }
                Err(_) => {
                    drop(Object::take(connection));
                    break;
                }
            }
        }
        Err(Trouble::Unreachable("the server ends every connection, or does not answer on it".to_owned()))
    }

    async fn connection(&self) -> Result<Object, Trouble> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Trouble::Unreachable(explain(&error)),
            PoolError::Timeout(TimeoutType::Wait) => {
                Trouble::Unreachable("all connections are busy; raise `records.connections` in skep.yaml".to_owned())
            }
            PoolError::Timeout(_) => Trouble::Unreachable("the server did not answer in time".to_owned()),
            other => Trouble::Unreachable(other.to_string()),
        })
    }

    async fn prepare(&self) -> Result<(), Trouble> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut failed = self.preparing.lock().await;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        // Those who have waited meanwhile need not find out for themselves.
        if let Some((at, cause)) = &*failed
            && at.elapsed() < AGAIN
        {
            return Err(Trouble::Unreachable(cause.clone()));
        }
        let outcome = self.migrate().await;
        *failed = match &outcome {
            Err(Trouble::Unreachable(cause)) => Some((Instant::now(), cause.clone())),
            _ => None,
        };
        outcome
    }

    async fn migrate(&self) -> Result<(), Trouble> {
        let connection = self.connection().await?;
        let migrated =
            tokio::time::timeout(JOB, migrations::migrate(&connection, &self.place, &self.schema, &self.owner));
        let outcome = migrated
            .await
            .unwrap_or_else(|_| Err(Trouble::Unreachable("the server did not answer in time".to_owned())));
        if outcome.is_err() {
            drop(Object::take(connection));
        } else {
            self.is_ready.store(true, Ordering::Release);
        }
        outcome
    }
}

/// What `SHOW transaction_read_only` has said, as the only statement that says anything.
fn is_read_only(said: &[SimpleQueryMessage]) -> bool {
    said.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")))
}
