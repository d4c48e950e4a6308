//! The rows of APIs in SQLite.

use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::trouble::Trouble;
use super::{changed, list, row};
use crate::records::known::{News, Row, Seen};
use crate::tree::ApiId;
use crate::world::Record;

/// What is tried where all rows are read.
pub const EACH: &str = "read the rows of all APIs";

pub fn find(t: &Transaction<'_>, id: &ApiId) -> Result<Option<Record>, Trouble> {
    let sql = format!("SELECT {} FROM apis WHERE id = ?1", row::RECORD);
    Ok(list(t, &sql, &[&id.as_str()], row::record)?.pop())
}

/// The rows that were written since, each for itself; all of them where that cannot be told.
pub fn since(t: &Transaction<'_>, seen: Option<&Seen>) -> Result<News<Row>, Trouble> {
    let since = changed::since(t, seen, ["apis", "holds"])?;
    let sql = format!("SELECT {} FROM apis", row::RECORD);
    let read = |r: &rusqlite::Row<'_>| {
        Ok((r.get(0)?, row::record(r).map(Arc::new).map_err(|trouble| trouble.while_trying(EACH))))
    };
    let mut rows = Vec::new();
    match &since.names {
        Some(names) => {
            let sql = format!("{sql} WHERE id = ?1");
            for name in names {
                rows.extend(list(t, &sql, &[name], read)?);
            }
        }
        None => rows = list(t, &sql, &[], read)?,
    }
    Ok(News { since, rows })
}

pub fn put(t: &Transaction<'_>, record: &Record) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO apis
            (id, name, sync, health, message, served, failures, created_at, updated_at, written)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, json_object('name', ?2, 'sync', ?3, 'health', ?4,
            'message', ?5, 'served', json(?6), 'failures', json(?7), 'created_at', ?8))
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, sync = excluded.sync, health = excluded.health,
            message = excluded.message, served = excluded.served, failures = excluded.failures,
            created_at = excluded.created_at, updated_at = excluded.updated_at, written = excluded.written";
    // An equal row stays: no new time, no new version, no write at all. One that cannot be read is no equal.
    if let Ok(Some(there)) = find(t, &record.id)
        && *record == (Record { updated: record.updated, hold: record.hold.clone(), ..there })
    {
        return Ok(());
    }
    let values = params![
        record.id.as_str(),
        record.status.name,
        row::word(&record.status.sync)?,
        row::word(&record.status.health)?,
        record.status.message,
        record.served.as_ref().map(row::json).transpose()?,
        row::json(&record.failures)?,
        row::time(record.created),
        row::time(record.updated),
    ];
    t.prepare_cached(SQL)?.execute(values)?;
    Ok(())
}
