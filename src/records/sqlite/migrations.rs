//! A migration takes the records from one schema to the next. They are numbered, never edited once released, and run
//! in one transaction, so that two processes that start at once both find a whole schema.

use rusqlite::{Connection, TransactionBehavior};

use super::trouble::Trouble;
use crate::records::RecordsError;

/// In order; the number of a migration is its place, from 1.
const MIGRATIONS: [&str; 8] = [
    include_str!("migrations/0001_begin.sql"),
    include_str!("migrations/0002_keep.sql"),
    include_str!("migrations/0003_keys.sql"),
    include_str!("migrations/0004_usage.sql"),
    include_str!("migrations/0005_written.sql"),
    include_str!("migrations/0006_log.sql"),
    include_str!("migrations/0007_told.sql"),
    include_str!("migrations/0008_previews.sql"),
];

/// The schema that this binary knows.
pub const KNOWN: usize = MIGRATIONS.len();

/// Marks the file as ours for `file` and for ourselves: `skep` in ASCII.
pub const APPLICATION_ID: i64 = 0x736b_6570;

/// Brings the schema up to what this binary knows.
///
/// # Errors
/// [`RecordsError::TooNew`], and where the file is a database of some other program or cannot be written.
pub fn migrate(connection: &mut Connection, place: &str) -> Result<(), RecordsError> {
    let open = |trouble: Trouble| RecordsError::Open { place: place.to_owned(), cause: trouble.to_string() };
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);

    // The lock comes first: of two processes at once, the second waits here and then finds the work done.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| open(e.into()))?;
    let found: i64 = pragma(&transaction, "user_version").map_err(open)?;
    if found > known {
        return Err(RecordsError::TooNew { found, known });
    }
    if found == 0 && !is_empty(&transaction).map_err(open)? {
        return Err(foreign(place));
    }
    if found > 0 && pragma(&transaction, "application_id").map_err(open)? != APPLICATION_ID {
        return Err(foreign(place));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration).map_err(|e| open(e.into()))?;
    }
    if found < known {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(|e| open(e.into()))?;
        transaction.pragma_update(None, "user_version", known).map_err(|e| open(e.into()))?;
    }
    transaction.commit().map_err(|e| open(e.into()))
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, Trouble> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

fn is_empty(connection: &Connection) -> Result<bool, Trouble> {
    Ok(connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?)
}

fn foreign(place: &str) -> RecordsError {
    let cause = "this is a database of another program; name another file".to_owned();
    RecordsError::Open { place: place.to_owned(), cause }
}
