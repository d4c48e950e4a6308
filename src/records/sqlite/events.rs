//! Events in SQLite.

use rusqlite::{Transaction, params};

use super::trouble::Trouble;
use super::{list_readable, row};
use crate::records::{Event, NewEvent};
use crate::tree::{ApiId, Revision};

pub fn add(t: &Transaction<'_>, event: &NewEvent) -> Result<u64, Trouble> {
    const SQL: &str = "INSERT INTO events (at, api, revision, kind, message) VALUES (?1, ?2, ?3, ?4, ?5)";
    let api = event.api.as_ref().map(ApiId::as_str);
    let revision = event.revision.as_ref().map(Revision::as_str);
    t.prepare_cached(SQL)?.execute(params![row::time(event.at), api, revision, event.kind, event.message])?;
    // Numbers begin at 1 and count up, so that the sign is never lost.
    Ok(t.last_insert_rowid().unsigned_abs())
}

pub fn after(t: &Transaction<'_>, api: Option<&ApiId>, after: u64, limit: usize) -> Result<Vec<Event>, Trouble> {
    let (columns, after, limit) = (row::EVENT, whole(after), whole(limit));
    match api {
        None => {
            let sql = format!("SELECT {columns} FROM events WHERE number > ?1 ORDER BY number LIMIT ?2");
            list_readable(t, &sql, &[&after, &limit], row::event)
        }
        Some(api) => {
            let sql = format!("SELECT {columns} FROM events WHERE api = ?3 AND number > ?1 ORDER BY number LIMIT ?2");
            list_readable(t, &sql, &[&after, &limit, &api.as_str()], row::event)
        }
    }
}

pub fn last(t: &Transaction<'_>, api: Option<&ApiId>, count: usize) -> Result<Vec<Event>, Trouble> {
    let (columns, count) = (row::EVENT, whole(count));
    let mut events = match api {
        None => {
            let sql = format!("SELECT {columns} FROM events ORDER BY number DESC LIMIT ?1");
            list_readable(t, &sql, &[&count], row::event)?
        }
        Some(api) => {
            let sql = format!("SELECT {columns} FROM events WHERE api = ?2 ORDER BY number DESC LIMIT ?1");
            list_readable(t, &sql, &[&count, &api.as_str()], row::event)?
        }
    };
    events.reverse();
    Ok(events)
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
