//! The old system's tables, as far as they are there: APIs, users and callers' keys, read as of one moment and never
//! written.
//!
//! Of a caller's key nothing but its hash leaves this module.

mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

pub use self::rows::{OldApi, OldConsumerKey, OldKey, OldText, OldTime, OldUser};
use super::RecordsError;
use super::postgres::{self, Address};

/// The tables of an old system, within one transaction that only reads.
#[derive(Debug)]
pub struct OldSystem<'a> {
    client: &'a Client,
    columns: BTreeMap<String, BTreeMap<String, String>>,
}

/// Connects to the database of an old system, and says where that is, without secrets. `ca` is the authority that signs its
/// certificate, where the address names none.
///
/// # Errors
/// [`RecordsError::Open`], which names no secret of the address.
pub async fn connect(address: &str, ca: Option<&PathBuf>) -> Result<(Client, String), RecordsError> {
    let open = |cause| RecordsError::Open { place: "the address of the old system's database".to_owned(), cause };
    let address = Address::parse(address).map_err(open)?.or_ca(ca);
    Ok((postgres::connect(&address).await?, address.place().to_owned()))
}

impl<'a> OldSystem<'a> {
    /// Begins to read: all that follows is as of this moment. Ends where the client does, or with [`OldSystem::end`].
    ///
    /// # Errors
    /// Where the database refuses, or has no `public.apis` with ids that this role may read, or hides rows of it.
    pub async fn begin(client: &'a Client) -> Result<Self, RecordsError> {
        const COLUMNS: &str = "SELECT table_name::text, column_name::text, data_type::text
            FROM information_schema.columns WHERE table_schema = 'public'
            AND table_name IN ('apis', 'users', 'consumer_api_keys')";
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '10s'";
        client.batch_execute(BEGIN).await.map_err(|error| failed(&error))?;
        let mut columns: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for row in client.query_typed(COLUMNS, &[]).await.map_err(|error| failed(&error))? {
            let [table, column, kind] = [text(&row, 0)?, text(&row, 1)?, text(&row, 2)?].map(Option::unwrap_or_default);
            columns.entry(table).or_default().insert(column, kind);
        }
        let system = Self { client, columns };
        if system.has("apis", &["id"]).is_none() {
            let cause = "there is no table public.apis with a column `id` that this role may read; name the old \
                         system's database and a role that has SELECT on it";
            return Err(RecordsError::Failed { action: ACTION, cause: cause.to_owned() });
        }
        Ok(system)
    }

    /// The tables of which row level security hides rows from this role: what is read of them may be too little.
    ///
    /// # Errors
    /// Where the database refuses.
    pub async fn hidden(&self) -> Result<Vec<String>, RecordsError> {
        let mut hidden = Vec::new();
        for table in self.columns.keys() {
            let sql = format!("SELECT row_security_active('public.{table}')::text");
            let rows = self.client.query_typed(&sql, &[]).await.map_err(|error| failed(&error))?;
            if rows.first().map(|row| text(row, 0)).transpose()?.flatten().as_deref() == Some("true") {
                hidden.push(table.clone());
            }
        }
        Ok(hidden)
    }

    /// What the tables lack that is read where it is there, as `public.users` or `public.apis.description`.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let wanted: [(&str, &[&str]); 3] = [
            ("apis", &["user_id", "name", "description", "api_key", "status", "code_snapshot", "requirements"]),
            ("users", &["id", "plan", "custom_rate_limit"]),
            ("consumer_api_keys", &[]),
        ];
        let mut missing = Vec::new();
        for (table, columns) in wanted {
            match self.columns.get(table) {
                None => missing.push(format!("public.{table}")),
                Some(there) => missing.extend(
                    columns
                        .iter()
                        .filter(|name| !there.contains_key(**name))
                        .map(|name| format!("public.{table}.{name}")),
                ),
            }
        }
        missing
    }

    /// The APIs in order of id, one after the other. Texts of more than `longest` bytes stay where they are.
    ///
    /// # Errors
    /// Where the database refuses.
    pub async fn apis(
        &self,
        longest: u64,
    ) -> Result<impl Stream<Item = Result<OldApi, RecordsError>> + use<>, RecordsError> {
        let column = |names| self.text_of("apis", names);
        let (code, requirements) = (column(&["code_snapshot"]), column(&["requirements"]));
        let sql = format!(
            "SELECT id::text, {user}, {name}, {description}, {status}, {key}, octet_length({code})::bigint,
                CASE WHEN octet_length({code}) <= $1 THEN {code} END, octet_length({requirements})::bigint,
                CASE WHEN octet_length({requirements}) <= $1 THEN {requirements} END
                FROM public.apis WHERE id IS NOT NULL ORDER BY id::text COLLATE \"C\"",
            user = column(&["user_id"]),
            name = column(&["name"]),
            description = column(&["description"]),
            status = column(&["status"]),
            key = column(&["api_key"]),
        );
        let longest = i64::try_from(longest).unwrap_or(i64::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&longest, Type::INT8)];
        let rows = self.client.query_typed_raw(&sql, parameters).await.map_err(|error| failed(&error))?;
        Ok(rows.map(|row| api(&row.map_err(|error| failed(&error))?)))
    }

    /// The users by id; none where there is no such table.
    ///
    /// # Errors
    /// Where the database refuses.
    pub async fn users(&self) -> Result<BTreeMap<String, OldUser>, RecordsError> {
        if self.has("users", &["id"]).is_none() {
            return Ok(BTreeMap::new());
        }
        let [plan, limit] = [["plan"], ["custom_rate_limit"]].map(|names| self.text_of("users", &names));
        let sql = format!("SELECT id::text, {plan}, {limit} FROM public.users WHERE id IS NOT NULL");
        let rows = self.client.query_typed_raw::<&str, _>(&sql, []).await.map_err(|error| failed(&error))?;
        let user = |row: Row| -> Result<_, RecordsError> {
            let limit = text(&row, 2)?.and_then(|number| whole(&number));
            Ok((text(&row, 0)?.unwrap_or_default(), OldUser { plan: text(&row, 1)?, limit }))
        };
        rows.map(|row| user(row.map_err(|error| failed(&error))?)).try_collect().await
    }

    /// The keys of consumers, in order of id; none where there is no such table.
    ///
    /// # Errors
    /// Where the database refuses.
    pub async fn consumer_keys(&self) -> Result<Vec<OldConsumerKey>, RecordsError> {
        const TABLE: &str = "consumer_api_keys";
        if !self.columns.contains_key(TABLE) {
            return Ok(Vec::new());
        }
        let columns: [&[&str]; 10] = [
            &["id"],
            &["api_id"],
            &["user_id", "consumer_id", "owner_id"],
            &["name", "label", "consumer_name", "description"],
            &["api_key", "key", "key_value", "token"],
            &["is_active", "active", "enabled"],
            &["status"],
            &["revoked_at", "deleted_at"],
            &["is_revoked", "revoked"],
            &["expires_at", "expires", "expiry", "valid_until"],
        ];
        let columns = columns.map(|names| self.text_of(TABLE, names)).join(", ");
        // The id alone would do, but there may be none.
        let sql = format!("SELECT {columns} FROM public.{TABLE} ORDER BY 1 NULLS LAST, 2, 3, 4");
        let rows = self.client.query_typed_raw::<&str, _>(&sql, []).await.map_err(|error| failed(&error))?;
        let mut keys = Vec::new();
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await.map_err(|error| failed(&error))? {
            keys.push(consumer_key(&row, keys.len() + 1)?);
        }
        Ok(keys)
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub async fn end(self) -> Result<(), RecordsError> {
        self.client.batch_execute("ROLLBACK").await.map_err(|error| failed(&error))
    }

    /// The first of these columns that is there, and its type.
    fn has<'n>(&self, table: &str, names: &[&'n str]) -> Option<(&'n str, &str)> {
        let there = self.columns.get(table)?;
        names.iter().find_map(|name| there.get(*name).map(|kind| (*name, kind.as_str())))
    }

    /// The expression for the first of these columns that is there, as text, whatever type it has.
    fn text_of(&self, table: &str, names: &[&str]) -> String {
        match self.has(table, names) {
            None => "NULL::text".to_owned(),
            Some((name, "ARRAY")) => format!("array_to_string(\"{name}\", E'\\n')"),
            Some((name, kind)) if kind.starts_with("timestamp") || kind == "date" => {
                format!("(extract(epoch FROM \"{name}\")::bigint)::text")
            }
            Some((name, _)) => format!("\"{name}\"::text"),
        }
    }
}

fn api(row: &Row) -> Result<OldApi, RecordsError> {
    Ok(OldApi {
        id: text(row, 0)?.unwrap_or_default(),
        user: text(row, 1)?,
        name: text(row, 2)?,
        description: text(row, 3)?,
        status: text(row, 4)?,
        key: text(row, 5)?.filter(|key| !key.is_empty()).map(|key| OldKey::of(&key)),
        code: bounded(row, 6)?,
        requirements: bounded(row, 8)?,
    })
}

fn consumer_key(row: &Row, number: usize) -> Result<OldConsumerKey, RecordsError> {
    let is = |at: usize, words: &[&str]| -> Result<Option<bool>, RecordsError> {
        Ok(text(row, at)?.map(|said| words.contains(&said.to_lowercase().as_str())))
    };
    let active = is(5, &["true", "t", "1", "yes"])?.unwrap_or(true) && is(6, &["active", "enabled"])?.unwrap_or(true);
    let is_revoked = text(row, 7)?.is_some() || is(8, &["true", "t", "1", "yes"])?.unwrap_or(false);
    let expires = text(row, 9)?.map(|at| match at.parse().ok().and_then(|at| Timestamp::from_second(at).ok()) {
        Some(at) => OldTime::At(at),
        None => at.parse().map_or(OldTime::Unknown, OldTime::At),
    });
    Ok(OldConsumerKey {
        id: text(row, 0)?.unwrap_or_else(|| format!("row {number}")),
        api: text(row, 1)?,
        user: text(row, 2)?,
        name: text(row, 3)?,
        key: text(row, 4)?.filter(|key| !key.is_empty()).map(|key| OldKey::of(&key)),
        is_active: active && !is_revoked,
        expires,
    })
}

/// A length, and in the column after it the text, where it was not too long.
fn bounded(row: &Row, at: usize) -> Result<OldText, RecordsError> {
    let length: Option<i64> = row.try_get(at).map_err(|error| failed(&error))?;
    Ok(match (length, text(row, at + 1)?) {
        (_, Some(text)) => OldText::Whole(text),
        (Some(length), None) => OldText::TooLong(u64::try_from(length).unwrap_or_default()),
        (None, None) => OldText::None,
    })
}

fn text(row: &Row, at: usize) -> Result<Option<String>, RecordsError> {
    row.try_get(at).map_err(|error| failed(&error))
}

/// A whole number, also one that is written as `500.0`.
fn whole(number: &str) -> Option<i64> {
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    if rest.bytes().all(|digit| digit == b'0') { whole.parse().ok() } else { None }
}

const ACTION: &str = "read the old system's tables";

fn failed(error: &tokio_postgres::Error) -> RecordsError {
    RecordsError::Failed { action: ACTION, cause: said(error) }
}

/// What the database said, with what lies below.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => crate::report::with_causes(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_not_repeated() {
        for address in ["https://me:hunter2@x", "postgres://me:hunter2@x:port/y", "hunter2"] {
            let error = connect(address, None).await.unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("postgres://user:password@host"), "{error}");
        }
    }

    #[test]
    fn whole_numbers_are_read_in_any_spelling() {
        assert_eq!((whole("500"), whole("500.00"), whole("0.5"), whole("x")), (Some(500), Some(500), None, None));
        assert_eq!(whole("-1"), Some(-1));
    }
}
