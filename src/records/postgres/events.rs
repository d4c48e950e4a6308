//! Events in Postgres.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use super::{nul, row};
use crate::records::{Event, NewEvent, RecordsError};
use crate::tree::{ApiId, Revision};

/// Numbers are given and committed in one order: whoever reads on from the last that it saw misses none.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('skep events ' || current_schema(), 0))";

/// For how long an event that may be in is waited for to be tried again. Whoever writes one tries again within a minute.
const TRIED_AGAIN: Duration = Duration::from_secs(600);

/// Events of which nobody knows whether they are in: the way to the server broke off when they were written.
#[derive(Debug, Default)]
pub struct Unsure(Mutex<Vec<(NewEvent, Instant)>>);

impl Unsure {
    /// The event that an earlier try was about, where this is another try: the same, but for its time.
    pub fn earlier(&self, event: &NewEvent) -> Option<NewEvent> {
        let mut events = self.events();
        events.retain(|(_, since)| since.elapsed() < TRIED_AGAIN);
        let is_same = |earlier: &NewEvent| NewEvent { at: event.at, ..earlier.clone() } == *event;
        events.iter().find(|(earlier, _)| is_same(earlier)).map(|(earlier, _)| earlier.clone())
    }

    /// A try was about that event, and came to this.
    pub fn note<T>(&self, event: &NewEvent, outcome: &Result<T, RecordsError>) {
        match outcome {
            Ok(_) => self.events().retain(|(earlier, _)| earlier != event),
            Err(RecordsError::Unsure { .. }) if self.earlier(event).is_none() => {
                self.events().push((event.clone(), Instant::now()));
            }
            Err(_) => {}
        }
    }

    fn events(&self) -> MutexGuard<'_, Vec<(NewEvent, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds an event that an earlier try may have added.
pub async fn add_again(t: &Tx<'_>, event: &NewEvent) -> Result<u64, Trouble> {
    const SQL: &str = "SELECT number FROM events WHERE at = $1 AND api IS NOT DISTINCT FROM $2
        AND revision IS NOT DISTINCT FROM $3 AND kind = $4 AND message = $5 ORDER BY number DESC LIMIT 1";
    // The earlier try may be under way still, and then holds the lock.
    match number(t, SQL, event).await? {
        Some(number) => Ok(number),
        None => add(t, event).await,
    }
}

pub async fn add(t: &Tx<'_>, event: &NewEvent) -> Result<u64, Trouble> {
    const SQL: &str =
        "INSERT INTO events (at, api, revision, kind, message) VALUES ($1, $2, $3, $4, $5) RETURNING number";
    Ok(number(t, SQL, event).await?.unwrap_or_default())
}

/// The number that a statement gives of an event, with all others kept from theirs meanwhile.
async fn number(t: &Tx<'_>, sql: &str, event: &NewEvent) -> Result<Option<u64>, Trouble> {
    t.query(LOCK, &[]).await?;
    let api = event.api.as_ref().map(ApiId::as_str);
    let revision = event.revision.as_ref().map(Revision::as_str);
    let values = [
        (&row::time(event.at) as _, Type::TIMESTAMPTZ),
        (&api as _, Type::TEXT),
        (&revision as _, Type::TEXT),
        (&nul::encode(&event.kind) as _, Type::TEXT),
        (&nul::encode(&event.message) as _, Type::TEXT),
    ];
    let rows = t.query(sql, &values).await?;
    // Numbers begin at 1 and count up, so that the sign is never lost.
    rows.first().map(|row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs())).transpose()
}

pub async fn after(t: &Tx<'_>, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, Trouble> {
    let (columns, after, limit) = (row::EVENT, whole(after), whole(limit));
    let rows = match api {
        None => {
            let sql = format!("SELECT {columns} FROM events WHERE number > $1 ORDER BY number LIMIT $2");
            t.query(&sql, &[(&after, Type::INT8), (&limit, Type::INT8)]).await?
        }
        Some(api) => {
            let sql = format!("SELECT {columns} FROM events WHERE api = $3 AND number > $1 ORDER BY number LIMIT $2");
            t.query(&sql, &[(&after, Type::INT8), (&limit, Type::INT8), (&api.as_str(), Type::TEXT)]).await?
        }
    };
    row::readable(rows.iter().map(row::event))
}

pub async fn last(t: &Tx<'_>, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, Trouble> {
    let (columns, count) = (row::EVENT, whole(count));
    let mut rows = match api {
        None => {
            let sql = format!("SELECT {columns} FROM events ORDER BY number DESC LIMIT $1");
            t.query(&sql, &[(&count, Type::INT8)]).await?
        }
        Some(api) => {
            let sql = format!("SELECT {columns} FROM events WHERE api = $2 ORDER BY number DESC LIMIT $1");
            t.query(&sql, &[(&count, Type::INT8), (&api.as_str(), Type::TEXT)]).await?
        }
    };
    rows.reverse();
    row::readable(rows.iter().map(row::event))
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
