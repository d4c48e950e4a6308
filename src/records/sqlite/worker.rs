//! The worker is the one thread that holds the database connection. Jobs run there one by one, in the order asked.
//!
//! A thread rather than a mutex and a pool of blocking threads, for two reasons. Order: a write whose asker has
//! given up must not land after a later one. Wholeness: a job, once handed over, runs to its end whatever becomes of
//! the future that waits for it, so that no half transaction can be left behind.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::lease;
use super::migrations::migrate;
use super::trouble::Trouble;
use super::usage;
use crate::records::RecordsError;

/// How long a job waits for another process to end its transaction. Ours take milliseconds.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two tries at what SQLite does not wait for by itself.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The one thread that holds the database connection. It ends when the last handle is dropped and the last job done.
#[derive(Debug, Clone)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    /// The epoch that the lease must be of; nought where anything goes.
    fence: Arc<AtomicU64>,
    /// What [`Worker::version`] said last, and what it stands for.
    seen: Arc<Mutex<Seen>>,
}

/// What the database was last seen to be: the engine's count of others' commits, and our own of changes.
#[derive(Debug, Default)]
struct Seen {
    commits: Option<i64>,
    version: i64,
}

/// What a job does to the database, and how sure a caller must be of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written.
    Read,
    /// Once committed it outlives this process, but a power cut within the next seconds may undo it, always whole
    /// transactions. For what a look at the world finds out again; saves a wait for the disk on the way from save to
    /// serving.
    Write,
    /// It outlives a power cut. For what only a person knows: a revoked key must stay revoked.
    WriteThrough,
    /// As [`Access::Write`], for what also a daemon writes that does not reconcile.
    Beat,
}

impl Worker {
    /// Opens a file, or makes it, and starts the thread.
    pub fn open(path: &Path) -> Result<Self, RecordsError> {
        let place = path.display().to_string();
        let io = |e: io::Error| RecordsError::Open { place: place.clone(), cause: e.to_string() };
        // SQLite gives its side files the mode of this one. Settings of APIs are in it, and they may hold secrets.
        // A file that is there is not opened here: closing it again would drop every lock that this process has on it (POSIX), and
        // SQLite would not know.
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        let there = fs::metadata(path).map_err(io)?;
        if there.is_dir() {
            return Err(io(io::ErrorKind::IsADirectory.into()));
        }
        if there.permissions().mode() & 0o077 != 0 {
            // As of a restored copy. Where the file is another user's, that user decides.
            let _ = fs::set_permissions(path, Permissions::from_mode(0o600));
        }
        // Without SQLITE_OPEN_URI, so that a path is a path whatever it looks like.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::start(Connection::open_with_flags(path, flags), &place)
    }

    /// Starts the thread on a database that goes when it ends.
    pub fn in_memory() -> Result<Self, RecordsError> {
        Self::start(Connection::open_in_memory(), "memory")
    }

    fn start(connection: rusqlite::Result<Connection>, place: &str) -> Result<Self, RecordsError> {
        let failed = |cause: String| RecordsError::Open { place: place.to_owned(), cause };
        let mut connection = connection.map_err(|e| failed(Trouble::from(e).to_string()))?;
        configure(&connection).map_err(|e| failed(Trouble::from(e).to_string()))?;
        migrate(&mut connection, place)?;

        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || queue.into_iter().for_each(|job| job(&mut connection)))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { jobs, fence: Arc::default(), seen: Arc::default() })
    }

    /// Runs `job` in one transaction, which is committed where it succeeds and undone where it fails.
    pub async fn run<T: Send + 'static>(
        &self,
        access: Access,
        action: &'static str,
        job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let gone = || RecordsError::Failed { action, cause: "the thread that holds them has ended".to_owned() };
        let (reply, answer) = oneshot::channel();
        let fence = Arc::clone(&self.fence);
        let job = move |connection: &mut Connection| {
            let fence = if access == Access::Write { fence.load(Ordering::SeqCst) } else { 0 };
            let outcome = transact(connection, access, fence, job).map_err(|trouble| trouble.while_trying(action));
            // Nobody may be waiting any more; what was asked is done all the same.
            let _ = reply.send(outcome);
        };
        self.jobs.send(Box::new(job)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Worker {
    /// See [`crate::records::Records::fence`].
    pub fn fence(&self, epoch: u64) {
        self.fence.store(epoch, Ordering::SeqCst);
    }

    /// See [`crate::records::Records::version`]. Reads one page where nobody else has written since.
    pub async fn version(&self) -> Result<u64, RecordsError> {
        let seen = Arc::clone(&self.seen);
        let job = move |t: &Transaction<'_>| {
            let commits: i64 = t.pragma_query_value(None, "data_version", |r| r.get(0))?;
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.commits != Some(commits) {
                // Signs of life are commits too, and say nothing: changes are counted apart.
                seen.version = t.query_row("SELECT count FROM changes", [], |r| r.get(0))?;
                seen.commits = Some(commits);
            }
            Ok(seen.version.unsigned_abs())
        };
        self.run(Access::Read, "look for changes", job).await
    }
}

fn transact<T>(
    connection: &mut Connection,
    access: Access,
    fence: u64,
    job: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let (behavior, synchronous) = match access {
        Access::Read => (TransactionBehavior::Deferred, None),
        // Immediate: the wait for another process is at the beginning, where SQLite can wait; a transaction that
        // began by reading would fail at its first write instead.
        Access::Write | Access::Beat => (TransactionBehavior::Immediate, Some("NORMAL")),
        Access::WriteThrough => (TransactionBehavior::Immediate, Some("FULL")),
    };
    if let Some(level) = synchronous {
        connection.pragma_update(None, "synchronous", level)?;
    }
    let transaction = connection.transaction_with_behavior(behavior)?;
    lease::check(&transaction, fence)?;
    let outcome = job(&transaction)?;
    transaction.commit()?;
    Ok(outcome)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Readers and the writer of several processes do not wait for each other. The change of mode is the one step for
    // which SQLite does not wait by itself when two processes make a new file at once.
    let give_up = Instant::now() + BUSY_TIMEOUT;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < give_up => {
                thread::sleep(BUSY_PAUSE);
            }
            outcome => break outcome?,
        }
    }
    connection.pragma_update(None, "foreign_keys", true)?;
    // JSON of a hundred files and more should not push everything else out; 2 MiB is SQLite's default, stated here.
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.set_prepared_statement_cache_capacity(32);
    usage::define_functions(connection)?;
    Ok(())
}
