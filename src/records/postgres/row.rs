//! A row is how a value of ours lies in a table; each is read strictly, and a bad one is named by table, row and column.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use super::nul;
use super::trouble::Trouble;
use crate::reconcile::status::Status;
use crate::records::{Event, Key, KeyHash, NewEvent};
use crate::tree::{ApiId, Revision};
use crate::world::edit::Written;
use crate::world::{Record, Served};

/// The columns that [`record`] reads: the last one is what skep wrote and what is there, where these are not the same.
pub const RECORD: &str = "id, name, sync, health, message, served::text, failures::text, created_at, updated_at,
    (SELECT hold::text FROM holds WHERE holds.api = apis.id),
    CASE WHEN written IS DISTINCT FROM jsonb_build_object('name', name, 'sync', sync, 'health', health,
        'message', message, 'served', served, 'failures', failures,
        'created_at', extract(epoch FROM created_at)::text)
    THEN jsonb_build_array(written, jsonb_build_object('name', name, 'sync', sync, 'health', health,
        'message', message, 'served', served, 'failures', failures,
        'created_at', extract(epoch FROM created_at)::text))::text END";

/// The columns that [`event`] reads.
pub const EVENT: &str = "number, at, api, revision, kind, message";

/// The columns that [`key`] reads.
pub const KEY: &str = "id, hash, name, scope::text, created_at, revoked_at, terms::text, follows";

/// Which row is being read; for the error that names it.
struct At<'a> {
    table: &'static str,
    name: &'a str,
    row: &'a Row,
}

impl At<'_> {
    fn corrupt(&self, column: &str, cause: impl std::fmt::Display) -> Trouble {
        Trouble::Corrupt(format!("table `{}`, row `{}`, column `{column}`: {cause}", self.table, self.name))
    }

    fn get<T: FromSqlOwned>(&self, place: usize) -> Result<T, Trouble> {
        let column = self.row.columns().get(place).map_or("?", |column| column.name());
        self.row.try_get(place).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            self.corrupt(column, cause)
        })
    }

    fn text(&self, place: usize) -> Result<String, Trouble> {
        self.get(place).map(nul::decode)
    }

    fn json<T: DeserializeOwned>(&self, column: &str, text: String) -> Result<T, Trouble> {
        serde_json::from_str(&nul::decode_json(text)).map_err(|e| self.corrupt(column, e))
    }

    fn word<T: DeserializeOwned>(&self, column: &str, place: usize) -> Result<T, Trouble> {
        serde_json::from_value(Json::String(self.get(place)?)).map_err(|e| self.corrupt(column, e))
    }

    fn api(&self, column: &str, text: &str) -> Result<ApiId, Trouble> {
        ApiId::new(text).map_err(|e| self.corrupt(column, e))
    }
}

/// A row of `apis`, by the columns of [`RECORD`].
pub fn record(row: &Row) -> Result<Record, Trouble> {
    let id: String = row.try_get(0)?;
    let at = At { table: "apis", name: &id, row };
    let api = at.api("id", &id)?;
    let hold: Option<String> = at.get(9)?;
    let (written, edits) = match at.get::<Option<String>>(10)? {
        Some(both) => Written::restore(&api, &nul::decode_json(both)).map_err(|e| at.corrupt("written", e))?,
        None => {
            let status = Status {
                name: at.text(1)?,
                sync: at.word("sync", 2)?,
                health: at.word("health", 3)?,
                message: at.text(4)?,
            };
            let served: Option<String> = at.get(5)?;
            let served = served.map(|text| at.json("served", text)).transpose()?;
            let created: Timestamp = at.get(7)?;
            (Written::new(status, served, at.json("failures", at.get(6)?)?, created.to_string()), Vec::new())
        }
    };
    let created = written.created().ok_or_else(|| at.corrupt("created_at", "this is no moment"))?;
    Ok(Record {
        id: api,
        status: written.status(),
        served: written.served,
        failures: written.failures,
        edits,
        hold: hold.map(|text| At { table: "holds", name: &id, row }.json("hold", text)).transpose()?,
        created,
        updated: at.get(8)?,
    })
}

/// A row of `revisions`: `api`, `revision`, `served`.
pub fn served(row: &Row) -> Result<Served, Trouble> {
    let name = format!("{} {}", row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
    let at = At { table: "revisions", name: &name, row };
    at.json("served", at.get(2)?)
}

/// What can be read of rows: one that somebody has made such that it cannot is said, and holds up no other.
pub fn readable<T>(rows: impl Iterator<Item = Result<T, Trouble>>) -> Result<Vec<T>, Trouble> {
    let mut read = Vec::new();
    for row in rows {
        match row {
            Ok(row) => read.push(row),
            Err(Trouble::Corrupt(what)) => tracing::warn!("left out: {what}"),
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(read)
}

/// A row of `events`, by the columns of [`EVENT`].
pub fn event(row: &Row) -> Result<Event, Trouble> {
    let number: i64 = row.try_get(0)?;
    let name = number.to_string();
    let at = At { table: "events", name: &name, row };
    let api: Option<String> = at.get(2)?;
    let revision: Option<String> = at.get(3)?;
    let event = NewEvent {
        at: at.get(1)?,
        api: api.map(|text| at.api("api", &text)).transpose()?,
        revision: revision.as_deref().map(Revision::from_label),
        kind: at.text(4)?,
        message: at.text(5)?,
    };
    Ok(Event { number: number.try_into().map_err(|e| at.corrupt("number", e))?, event })
}

/// A row of `keys`, by the columns of [`KEY`].
pub fn key(row: &Row) -> Result<Key, Trouble> {
    let id: String = row.try_get(0)?;
    let at = At { table: "keys", name: &id, row };
    let follows: Option<String> = at.get(7)?;
    Ok(Key {
        hash: at.get::<String>(1)?.parse().map_err(|e| at.corrupt("hash", e))?,
        name: at.text(2)?,
        scope: at.json("scope", at.get(3)?)?,
        created: at.get(4)?,
        revoked: at.get(5)?,
        terms: at.json("terms", at.get(6)?)?,
        follows: follows.map(|text| text.parse().map_err(|e| at.corrupt("follows", e))).transpose()?,
        last_used: None,
        declared: false,
        id,
    })
}

/// A row of `key_uses`: `hash`, `used_at`.
pub fn key_use(row: &Row) -> Result<(KeyHash, Timestamp), Trouble> {
    let hash: String = row.try_get(0)?;
    let at = At { table: "key_uses", name: &hash, row };
    Ok((hash.parse().map_err(|e| at.corrupt("hash", e))?, at.get(1)?))
}

/// An id from a table that holds nothing else.
pub fn api(table: &'static str, text: &str) -> Result<ApiId, Trouble> {
    ApiId::new(text).map_err(|e| Trouble::Corrupt(format!("table `{table}`, row `{text}`, column `api`: {e}")))
}

/// A moment as Postgres keeps it: whole microseconds.
pub fn time(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Result<String, Trouble> {
    plain_json(value).map(nul::encode_json)
}

/// A status as the one word that its JSON is.
pub fn word(value: &impl Serialize) -> Result<String, Trouble> {
    plain_json(value).map(|text| text.trim_matches('"').to_owned())
}

fn plain_json(value: &impl Serialize) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|e| Trouble::Corrupt(format!("a value cannot be written as JSON: {e}")))
}
