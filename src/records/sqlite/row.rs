//! A row is how a value of ours lies in a table; each is read strictly, and a bad one is named by table, row and column.

use jiff::Timestamp;
use rusqlite::{Row, ToSql, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::trouble::Trouble;
use crate::reconcile::status::Status;
use crate::records::{Event, Key, KeyHash, NewEvent};
use crate::tree::{ApiId, Revision};
use crate::world::edit::Written;
use crate::world::{Record, Served};

/// The columns that [`record`] reads: the last one is what skep wrote and what is there, where these are not the same.
pub const RECORD: &str = "id, name, sync, health, message, served, failures, created_at, updated_at,
    (SELECT hold FROM holds WHERE holds.api = apis.id),
    CASE WHEN written IS NOT json_object('name', name, 'sync', sync, 'health', health, 'message', message,
        'served', json(served), 'failures', json(failures), 'created_at', created_at)
    THEN json_array(json(coalesce(written, 'null')), json_object('name', name, 'sync', sync, 'health', health,
        'message', message, 'served', json(served), 'failures', json(failures), 'created_at', created_at)) END";

/// The columns that [`event`] reads.
pub const EVENT: &str = "number, at, api, revision, kind, message";

/// The columns that [`key`] reads.
pub const KEY: &str = "id, hash, name, scope, created_at, revoked_at, terms, follows";

/// Which row is being read; for the error that names it.
struct At<'a> {
    table: &'static str,
    row: &'a str,
}

impl At<'_> {
    fn corrupt(&self, column: &str, cause: impl std::fmt::Display) -> Trouble {
        Trouble::Corrupt(format!("table `{}`, row `{}`, column `{column}`: {cause}", self.table, self.row))
    }

    fn json<T: DeserializeOwned>(&self, column: &str, text: &str) -> Result<T, Trouble> {
        serde_json::from_str(text).map_err(|e| self.corrupt(column, e))
    }

    fn word<T: DeserializeOwned>(&self, column: &str, text: String) -> Result<T, Trouble> {
        serde_json::from_value(Value::String(text)).map_err(|e| self.corrupt(column, e))
    }

    fn time(&self, column: &str, text: &str) -> Result<Timestamp, Trouble> {
        text.parse().map_err(|e| self.corrupt(column, e))
    }

    fn api(&self, column: &str, text: &str) -> Result<ApiId, Trouble> {
        ApiId::new(text).map_err(|e| self.corrupt(column, e))
    }
}

/// A row of `apis`, by the columns of [`RECORD`].
pub fn record(row: &Row<'_>) -> Result<Record, Trouble> {
    let id: String = row.get(0)?;
    let at = At { table: "apis", row: &id };
    let api = at.api("id", &id)?;
    let hold: Option<String> = row.get(9)?;
    let (written, edits) = match row.get::<_, Option<String>>(10)? {
        Some(both) => Written::restore(&api, &both).map_err(|e| at.corrupt("written", e))?,
        None => {
            let status = Status {
                name: row.get(1)?,
                sync: at.word("sync", row.get(2)?)?,
                health: at.word("health", row.get(3)?)?,
                message: row.get(4)?,
            };
            let served: Option<String> = row.get(5)?;
            let served = served.map(|text| at.json("served", &text)).transpose()?;
            let failures = at.json("failures", &row.get::<_, String>(6)?)?;
            let created = row.get::<_, String>(7)?;
            (Written::new(status, served, failures, created), Vec::new())
        }
    };
    let created = written.created().ok_or_else(|| at.corrupt("created_at", "this is no moment"))?;
    Ok(Record {
        id: api,
        status: written.status(),
        served: written.served,
        failures: written.failures,
        edits,
        hold: hold.map(|text| At { table: "holds", row: &id }.json("hold", &text)).transpose()?,
        created,
        updated: at.time("updated_at", &row.get::<_, String>(8)?)?,
    })
}

/// A row of `revisions`: `api`, `revision`, `served`.
pub fn served(row: &Row<'_>) -> Result<Served, Trouble> {
    let name = format!("{} {}", row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    At { table: "revisions", row: &name }.json("served", &row.get::<_, String>(2)?)
}

/// A row of `events`, by the columns of [`EVENT`].
pub fn event(row: &Row<'_>) -> Result<Event, Trouble> {
    let number: i64 = row.get(0)?;
    let name = number.to_string();
    let at = At { table: "events", row: &name };
    let api: Option<String> = row.get(2)?;
    let revision: Option<String> = row.get(3)?;
    let event = NewEvent {
        at: at.time("at", &row.get::<_, String>(1)?)?,
        api: api.map(|text| at.api("api", &text)).transpose()?,
        revision: revision.as_deref().map(Revision::from_label),
        kind: row.get(4)?,
        message: row.get(5)?,
    };
    Ok(Event { number: number.try_into().map_err(|e| at.corrupt("number", e))?, event })
}

/// A row of `keys`, by the columns of [`KEY`].
pub fn key(row: &Row<'_>) -> Result<Key, Trouble> {
    let id: String = row.get(0)?;
    let at = At { table: "keys", row: &id };
    let revoked: Option<String> = row.get(5)?;
    let follows: Option<String> = row.get(7)?;
    Ok(Key {
        hash: row.get::<_, String>(1)?.parse().map_err(|e| at.corrupt("hash", e))?,
        name: row.get(2)?,
        scope: at.json("scope", &row.get::<_, String>(3)?)?,
        created: at.time("created_at", &row.get::<_, String>(4)?)?,
        revoked: revoked.map(|text| at.time("revoked_at", &text)).transpose()?,
        terms: at.json("terms", &row.get::<_, String>(6)?)?,
        follows: follows.map(|text| text.parse().map_err(|e| at.corrupt("follows", e))).transpose()?,
        last_used: None,
        declared: false,
        id,
    })
}

/// A row of `key_uses`: `hash`, `used_at`.
pub fn key_use(row: &Row<'_>) -> Result<(KeyHash, Timestamp), Trouble> {
    let hash: String = row.get(0)?;
    let at = At { table: "key_uses", row: &hash };
    let used = at.time("used_at", &row.get::<_, String>(1)?)?;
    Ok((hash.parse().map_err(|e| at.corrupt("hash", e))?, used))
}

/// An id from a table that holds nothing else.
pub fn api(table: &'static str, text: &str) -> Result<ApiId, Trouble> {
    At { table, row: text }.api("api", text)
}

/// A moment as it is written: UTC, RFC 3339, always nine digits of a second, so that order of text is order of time
/// and nothing is lost.
pub fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|e| Trouble::Corrupt(format!("a value cannot be written as JSON: {e}")))
}

/// A status as the one word that its JSON is.
pub fn word(value: &impl Serialize) -> Result<String, Trouble> {
    json(value).map(|text| text.trim_matches('"').to_owned())
}

/// Every row that a query gives, read by `read`.
pub fn list<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, Trouble>,
) -> Result<Vec<T>, Trouble> {
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// As [`list`]; a row that somebody has made such that it cannot be read is said, and holds up no other.
pub fn list_readable<T>(
    transaction: &Transaction<'_>,
    sql: &str,
    values: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, Trouble>,
) -> Result<Vec<T>, Trouble> {
    let read = |row: &Row<'_>| match read(row) {
        Err(Trouble::Corrupt(what)) => {
            tracing::warn!("left out: {what}");
            Ok(None)
        }
        read => read.map(Some),
    };
    Ok(list(transaction, sql, values, read)?.into_iter().flatten().collect())
}
