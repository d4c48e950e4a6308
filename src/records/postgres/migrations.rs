//! A migration takes the tables from one schema to the next. They are numbered, never edited once released, and run in one
//! transaction, so that two daemons that start at once both find a whole schema.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Place;
use super::trouble::{Trouble, explain};
use crate::records::RecordsError;

/// In order; the number of a migration is its place, from 1.
const MIGRATIONS: [&str; 6] = [
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_mirror.sql"),
    include_str!("migrations/0003_written.sql"),
    include_str!("migrations/0004_log.sql"),
    include_str!("migrations/0005_told.sql"),
    include_str!("migrations/0006_previews.sql"),
];

/// The schema that this binary knows.
pub const KNOWN: usize = MIGRATIONS.len();

/// How the tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The schema that they were written with; `None` where there are none.
    pub schema: Option<i64>,
    /// The mark of the installation that they are of.
    pub owner: Option<String>,
    /// Whether the schema of the database is there that they lie in.
    pub has_namespace: bool,
    /// Whether something else lies in it.
    pub has_others: bool,
}

/// Looks, and changes nothing.
pub async fn look(client: &Client, schema: &str) -> Result<Found, Trouble> {
    const LOOK: &str = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.installation') IS NOT NULL,
        EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1))";
    let row = client.query_typed_one(LOOK, &[(&schema, Type::TEXT)]).await?;
    let (has_namespace, has_mark, has_others): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !has_mark {
        return Ok(Found { schema: None, owner: None, has_namespace, has_others });
    }
    let row = client.query_typed_opt(&format!("SELECT schema, owner FROM {schema}.installation"), &[]).await?;
    let corrupt = || Trouble::Corrupt("table `installation` has no row".to_owned());
    let row = row.ok_or_else(corrupt)?;
    Ok(Found { schema: Some(row.try_get(0)?), owner: Some(row.try_get(1)?), has_namespace, has_others: false })
}

/// Brings the tables up to what this binary knows, for the installation of that mark.
pub async fn migrate(client: &Client, place: &str, schema: &str, owner: &str) -> Result<(), Trouble> {
    // Most starts find all done, and need no lock for it; nor does a server that takes no writes now.
    if is_done(&look(client, schema).await?, place, schema, owner)? {
        return Ok(());
    }
    // The lock comes first: of two daemons at once, the second waits here and then finds the work done. It goes with the
    // transaction, so that a pool before the server cannot lose it.
    client
        .batch_execute(
            "BEGIN; SET LOCAL statement_timeout = 30000; SET LOCAL idle_in_transaction_session_timeout = 3000",
        )
        .await?;
    client
        .query_typed("SELECT pg_advisory_xact_lock(hashtextextended('skep ' || $1, 0))", &[(&schema, Type::TEXT)])
        .await?;
    let found = look(client, schema).await?;
    if !is_done(&found, place, schema, owner)? {
        client.batch_execute(&statements(&found, schema, owner)).await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

/// What is left to do, as SQL.
fn statements(found: &Found, schema: &str, owner: &str) -> String {
    let mut sql = if found.has_namespace { String::new() } else { format!("CREATE SCHEMA {schema};\n") };
    sql.push_str(&format!("SET LOCAL search_path = {schema}, pg_temp;\n"));
    if found.schema.is_some() {
        // What is made is of whoever the rest is of: its functions run with that role's rights.
        sql.push_str(
            "DO $$ DECLARE theirs name := (SELECT tableowner FROM pg_tables
                WHERE schemaname = current_schema() AND tablename = 'installation');
            BEGIN
                IF theirs <> current_user THEN EXECUTE format('SET LOCAL ROLE %I', theirs); END IF;
            END $$;\n",
        );
    }
    if found.schema.is_none() {
        sql.push_str(
            "CREATE TABLE installation (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
                schema bigint NOT NULL, owner text NOT NULL);\n",
        );
        // The mark is hexadecimal; see `Installation`.
        let owner = owner.replace('\'', "");
        sql.push_str(&format!("INSERT INTO installation (schema, owner) VALUES (0, '{owner}');\n"));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found.schema.unwrap_or(0)).unwrap_or(0)) {
        sql.push_str(migration);
    }
    sql.push_str(&format!("\nUPDATE installation SET schema = {KNOWN};\n"));
    sql
}

/// Does what is left to do and undoes it; why it fails, where it does.
pub async fn try_out(client: &Client, found: &Found, place: &Place) -> Option<String> {
    match is_done(found, place.address.place(), &place.schema, &place.owner) {
        // What cannot be tried has a finding of its own.
        Ok(true) | Err(Trouble::Schema(RecordsError::TooNew { .. })) => return None,
        Err(_) if found.owner.is_some() => return None,
        Err(Trouble::Schema(RecordsError::Foreign { cause, .. })) => return Some(cause),
        Err(trouble) => return Some(trouble.to_string()),
        Ok(false) => {}
    }
    let sql = format!("BEGIN; {} ROLLBACK", statements(found, &place.schema, &place.owner));
    match client.batch_execute(&sql).await {
        Ok(()) => None,
        Err(error) => {
            // The connection is given up anyway.
            let _ = client.batch_execute("ROLLBACK").await;
            Some(explain(&error))
        }
    }
}

/// Whether nothing is left to do.
fn is_done(found: &Found, place: &str, schema: &str, owner: &str) -> Result<bool, Trouble> {
    let refuse = |cause: String| Err(Trouble::Schema(RecordsError::Foreign { place: place.to_owned(), cause }));
    let known = i64::try_from(KNOWN).unwrap_or(i64::MAX);
    match (found.schema, &found.owner) {
        (Some(found), _) if found > known => Err(Trouble::Schema(RecordsError::TooNew { found, known })),
        (Some(_), Some(theirs)) if theirs != owner => refuse(format!(
            "the schema {schema} holds the records of another installation ({theirs}, this one is {owner}); where this host \
             takes its place, write {theirs} into the file `installation` of the state folder; else name another schema in \
             skep.yaml, as in `records: {{ schema: skep_two }}`"
        )),
        (Some(found), _) => Ok(found == known),
        (None, _) if found.has_others => refuse(format!(
            "the schema {schema} holds tables that skep did not make; name another one in skep.yaml, as in \
             `records: {{ schema: skep_records }}`"
        )),
        (None, _) => Ok(false),
    }
}
