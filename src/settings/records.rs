//! Where records are kept, and what holds while that is out of reach.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;

/// The longest name of a schema or table (PostgreSQL's `NAMEDATALEN` less one).
const MAX_NAME: usize = 63;

/// Where records are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsSettings {
    /// `SKEP_DB_URL` or `SUPABASE_DB_URL`; `None` is a file in the state folder.
    pub url: Option<DatabaseUrl>,
    /// The schema of the database that the tables lie in.
    pub schema: String,
    /// How many connections there may be at most.
    pub connections: u16,
    /// The authority that signs the server's certificate, where the host does not trust it anyway.
    pub ca: Option<PathBuf>,
    /// What a daemon does that starts while the database is out of reach, or of a newer skep.
    pub offline: Offline,
    /// A table of the system before that is kept as that system kept it: schema and table.
    pub mirror: Option<String>,
    /// Where callers reach the gateway, for that table.
    pub mirror_url: Option<String>,
}

/// The address of a database, which holds a password; its `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

/// What a daemon does that starts while the database is out of reach, or of a newer skep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Offline {
    /// It ends with an error.
    #[default]
    Refuse,
    /// It serves as it last knew, from a file in the state folder, and changes nothing until the database is back.
    Serve,
}

impl Default for RecordsSettings {
    fn default() -> Self {
        Self {
            url: None,
            schema: "skep".to_owned(),
            connections: 5,
            ca: None,
            offline: Offline::Refuse,
            mirror: None,
            mirror_url: None,
        }
    }
}

/// Where records are kept: in a Postgres where `SKEP_DB_URL` or `SUPABASE_DB_URL` names one, else in a file of the state
/// folder.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordsFile {
    /// The schema of the database that the tables lie in; of each installation its own. Made where it is missing.
    #[schemars(regex(pattern = "^[a-z_][a-z0-9_]*$"), length(min = 1, max = 63), extend("default" = "skep"))]
    pub schema: Option<At<String>>,
    /// How many connections to the database there may be at most. With one, changes that others make are looked for, and
    /// not told.
    #[schemars(range(min = 1, max = 100), extend("default" = 5))]
    pub connections: Option<At<u16>>,
    /// The file, in PEM, of the authority that signs the database's certificate; relative to `skep.yaml`. The host's own
    /// where nothing is said. `sslrootcert` in the address goes before it.
    #[schemars(length(min = 1, max = 4000))]
    pub ca: Option<At<String>>,
    /// What a daemon does that starts while the database is out of reach, or of a newer skep: `refuse` to, or `serve` what it last knew, from a
    /// file in the state folder, and change nothing until the database is back.
    #[schemars(extend("default" = "refuse"))]
    pub offline: Option<Offline>,
    /// A table of the system before, in the same database, whose `status`, `endpoint_url` and `usage_count` are kept true
    /// for a dashboard that reads it: schema and table. Holds from the next start.
    #[schemars(regex(pattern = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$"), length(min = 3, max = 127))]
    pub mirror: Option<At<String>>,
    /// Where callers reach the gateway, for the `endpoint_url` of that table, which stays as it is where nothing is said.
    #[schemars(length(min = 1, max = 2000), regex(pattern = "^https?://"))]
    pub mirror_url: Option<At<String>>,
}

/// Lays a file over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, file: &RecordsFile, settings: &mut Settings) {
    let root = settings.root.clone();
    let records = &mut settings.records;
    if let Some(schema) = &file.schema {
        // Names that begin with `pg_` are the database's own; `public` is everybody's.
        if !is_plain(&schema.value) || schema.value.starts_with("pg_") {
            let hint = "write lower-case letters, digits and _, as in skep_two";
            settler.error(code::BAD_VALUE, schema, "this is no name of a schema", hint);
        } else if matches!(schema.value.as_str(), "public" | "auth" | "storage" | "information_schema") {
            let hint = "take one that nobody else uses, as in skep";
            settler.error(code::BAD_VALUE, schema, "others keep their tables in this schema", hint);
        } else {
            records.schema.clone_from(&schema.value);
        }
    }
    settler.within(file.connections.as_ref(), 1..=100, &mut records.connections);
    if let Some(ca) = &file.ca {
        if ca.value.is_empty() || ca.value.chars().any(char::is_control) {
            settler.error(code::BAD_VALUE, ca, "this is no path", "write the path of a PEM file");
        } else {
            records.ca = Some(root.join(&ca.value));
        }
    }
    records.offline = file.offline.unwrap_or(records.offline);
    if let Some(mirror) = &file.mirror {
        match mirror.value.split_once('.') {
            Some((schema, table)) if is_plain(schema) && is_plain(table) => records.mirror = Some(mirror.value.clone()),
            _ => settler.error(
                code::BAD_VALUE,
                mirror,
                "this is no name of a schema and a table",
                "write both, in lower-case letters, digits and _, as in public.apis",
            ),
        }
    }
    if let Some(url) = &file.mirror_url {
        let is_url = url.value.parse::<http::Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        if is_url && url.value.len() <= 2000 {
            records.mirror_url = Some(url.value.clone());
        } else {
            settler.error(code::BAD_VALUE, url, "this is no address", "write it as in https://apis.example.com");
        }
    }
}

/// Whether a name needs no quotes in SQL.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && name.starts_with(|c: char| !c.is_ascii_digit())
        && name.len() <= MAX_NAME
}

/// Whether an address of a database is of a kind that skep speaks to.
pub(super) fn is_postgres(url: &str) -> bool {
    let keys = ["host=", "hostaddr=", "user=", "dbname=", "port=", "password="];
    url.starts_with("postgres://")
        || url.starts_with("postgresql://")
        || url.split_whitespace().any(|pair| keys.iter().any(|key| pair.starts_with(key)))
}
