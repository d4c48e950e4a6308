//! Trouble is what a job on the database can meet, before it is known what the job was for.

use rusqlite::ErrorCode;

use crate::records::RecordsError;

/// What a job on the database can meet.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A statement failed.
    #[error("{}", explain(.0))]
    Sql(#[from] rusqlite::Error),
    /// Another daemon has taken over.
    #[error("fenced")]
    Fenced,
    /// A column holds what skep does not write; the text names table, row and column.
    #[error("{0}")]
    Corrupt(String),
}

impl Trouble {
    /// The error for callers, who know what was tried.
    pub fn while_trying(self, action: &'static str) -> RecordsError {
        match self {
            Self::Sql(error) => RecordsError::Failed { action, cause: explain(&error) },
            Self::Fenced => RecordsError::Fenced,
            Self::Corrupt(what) => RecordsError::Corrupt(what),
        }
    }
}

/// What the database said, and what to do about it where that is known.
fn explain(error: &rusqlite::Error) -> String {
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free some space, and skep goes on by itself",
        Some(ErrorCode::ReadOnly) => "make the file and its folder writable for the user that runs skep",
        Some(ErrorCode::CannotOpen) => "the folder must exist and be writable for the user that runs skep",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process has held the records for too long; end it, and try again"
        }
        Some(ErrorCode::DatabaseCorrupt) => "restore the file from a backup, or move it away to begin anew",
        Some(ErrorCode::NotADatabase) => "name another file, or move this one away",
        _ => return error.to_string(),
    };
    format!("{error}; {hint}")
}
