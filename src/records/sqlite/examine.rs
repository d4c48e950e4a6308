//! An examination reads the records' file, for `skep doctor`. Unlike opening them, it brings no schema up to date and
//! makes no file.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::migrations::{APPLICATION_ID, KNOWN};
use super::trouble::Trouble;
use super::worker::BUSY_TIMEOUT;
use crate::records::RecordsError;

/// The most complaints that SQLite is asked for: one is enough to act on.
const COMPLAINTS: u32 = 5;

/// How the file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The schema that it was written with.
    pub schema: i64,
    /// The schema that this binary writes.
    pub known: i64,
    /// It is a database of skep.
    pub is_ours: bool,
    /// How many APIs it has a row of.
    pub apis: u64,
    /// Its size in bytes, what is not yet merged into it included.
    pub bytes: u64,
    /// What SQLite finds wrong with it; empty where it is sound.
    pub complaints: Vec<String>,
}

impl Condition {
    /// Whether this skep can read them as they are.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_ours && self.schema == self.known && self.complaints.is_empty()
    }
}

/// Reads the whole file once, and writes nothing. Takes as long as the disk does: some 100 MB a second and more.
///
/// # Errors
/// [`RecordsError::Open`] where it cannot be read, or is no database at all.
pub fn examine(path: &Path) -> Result<Condition, RecordsError> {
    let place = path.display().to_string();
    look(path).map_err(|trouble| RecordsError::Open { place, cause: trouble.to_string() })
}

fn look(path: &Path) -> Result<Condition, Trouble> {
    // Not read-only as SQLite has it, since beside a file that nobody has open it would want to make side files.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    let schema = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mark: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let mut complaints = Vec::new();
    let checked = connection.pragma(None, "quick_check", COMPLAINTS, |row| {
        complaints.push(row.get::<_, String>(0)?);
        Ok(())
    });
    match checked {
        // So damaged that not even the check can be made.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
            complaints.push(error.to_string());
        }
        checked => checked?,
    }
    complaints.retain(|line| line != "ok");
    let is_ours = mark == APPLICATION_ID;
    let apis: i64 = if is_ours && complaints.is_empty() {
        connection.query_row("SELECT count(*) FROM apis", [], |row| row.get(0))?
    } else {
        0
    };
    let size = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).map_or(0, |found| found.len())
    };
    Ok(Condition {
        schema,
        known: i64::try_from(KNOWN).unwrap_or(i64::MAX),
        is_ours,
        apis: u64::try_from(apis).unwrap_or_default(),
        bytes: size("") + size("-wal"),
        complaints,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Sqlite;
    use super::*;

    #[test]
    fn sound_records_are_told_from_damaged_ones_and_from_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.db");
        assert!(examine(&path).is_err());
        assert!(!path.exists(), "a look has made a file");

        drop(Sqlite::open(&path).unwrap());
        // Its thread closes the file a moment later, and merges into it what was written.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while folder.path().join("records.db-wal").exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let condition = examine(&path).unwrap();
        assert_eq!((condition.schema, condition.is_ours, condition.apis), (condition.known, true, 0));
        assert!(condition.bytes > 0 && condition.complaints.is_empty(), "{condition:?}");

        // A page in the middle is overwritten, as by a bad disk.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..8192].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let condition = examine(&path).unwrap();
        assert!(!condition.complaints.is_empty() && !condition.is_usable(), "{condition:?}");

        std::fs::write(&path, "not a database, and long enough to be taken for something".repeat(20)).unwrap();
        assert!(examine(&path).is_err());
        let other = folder.path().join("other.db");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(!examine(&other).unwrap().is_ours);
    }
}
