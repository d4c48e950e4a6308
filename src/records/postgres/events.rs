//! Events in Postgres.

use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use super::{nul, row};
use crate::records::{Event, NewEvent};
use crate::tree::{ApiId, Revision};

pub async fn add(t: &Tx<'_>, event: &NewEvent) -> Result<u64, Trouble> {
    // Numbers are given and committed in one order: whoever reads on from the last that it saw misses none.
    const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('skep events ' || current_schema(), 0))";
    const SQL: &str =
        "INSERT INTO events (at, api, revision, kind, message) VALUES ($1, $2, $3, $4, $5) RETURNING number";
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
    let rows = t.query(SQL, &values).await?;
    let number: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(number.unsigned_abs())
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
    rows.iter().map(row::event).collect()
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
    rows.iter().map(row::event).collect()
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
