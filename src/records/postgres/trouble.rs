//! Trouble is what a job on the database can meet, before it is known what the job was for.

use tokio_postgres::error::SqlState;

use crate::records::RecordsError;

/// What a job on the database can meet.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A statement failed, or the connection did.
    #[error("{}", explain(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The way to the server broke off when it had been told to commit: whether it has, nobody has said.
    #[error("{0}")]
    Unsure(String),
    /// No connection is to be had.
    #[error("{0}")]
    Unreachable(String),
    /// Another daemon has taken over.
    #[error("fenced")]
    Fenced,
    /// A column holds what skep does not write; the text names table, row and column.
    #[error("{0}")]
    Corrupt(String),
    /// The tables are not what this binary can use.
    #[error(transparent)]
    Schema(RecordsError),
}

impl Trouble {
    /// The error for callers, who know what was tried.
    pub fn while_trying(self, action: &'static str) -> RecordsError {
        match self {
            Self::Sql(error) => RecordsError::Failed { action, cause: explain(&error) },
            Self::Unreachable(cause) => RecordsError::Failed { action, cause },
            Self::Unsure(cause) => RecordsError::Unsure { action, cause },
            Self::Fenced => RecordsError::Fenced,
            Self::Corrupt(what) => RecordsError::Corrupt(what),
            Self::Schema(error) => error,
        }
    }
}

/// That the server takes no writes, as it says itself where one is tried.
pub fn read_only() -> Trouble {
    let hint = hint_for(&SqlState::READ_ONLY_SQL_TRANSACTION).unwrap_or_default();
    Trouble::Unreachable(format!("the database is read-only; {hint}"))
}

/// Whether the server, where this came of a commit, has not said what became of it: the way to it broke off, or it ended the
/// connection, as one does that was waiting for its standby.
pub fn is_cut(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("57P"))
}

/// What the server or the system said, and what to do about it where that is known.
pub fn explain(error: &tokio_postgres::Error) -> String {
    let said = match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => causes(error),
    };
    match hint(error, &said) {
        Some(hint) => format!("{said}; {hint}"),
        None => said,
    }
}

/// An error and all that it came from.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn hint(error: &tokio_postgres::Error, said: &str) -> Option<&'static str> {
    if let Some(hint) = error.code().and_then(hint_for) {
        return Some(hint);
    }
    if said.contains("UnknownIssuer") || said.contains("SelfSigned") || said.contains("CaUsedAsEndEntity") {
        return Some(
            "the server's certificate is signed by nobody whom this host trusts; name the file of its authority in \
             skep.yaml, as in `records: { ca: prod-ca.crt }` (Supabase: Project Settings, Database, SSL Configuration)",
        );
    }
    if said.contains("not valid for name") || said.contains("NotValidForName") {
        return Some("the server's certificate is for another name; take the name in the certificate as the host");
    }
    if said.contains("server does not support TLS") {
        return Some("turn TLS on at the server; where the way to it is safe without, say sslmode=disable");
    }
    if said.contains("Network is unreachable") {
        return Some(
            "the host has addresses of IPv6 alone, and this one has no IPv6; with Supabase, take the connection string of \
             the session pooler",
        );
    }
    None
}

fn hint_for(code: &SqlState) -> Option<&'static str> {
    let code = code.code();
    Some(match code {
        "53100" => "the database's disk is full; free some space, and skep goes on by itself",
        "53300" => "raise max_connections, or lower `records.connections` in skep.yaml",
        "25006" => {
            "it takes no writes now, as a standby, or as one whose disk is nearly full; skep goes on by itself once it does; \
             with several hosts in the address, target_session_attrs=read-write finds the one that does"
        }
        "28P01" | "28000" => {
            "check user and password in the connection string; characters such as @ and / are written %40 and %2F"
        }
        "3D000" => "name a database that is there; skep makes its schema, not the database",
        "42501" => "the role lacks a right; docs/postgres.md has the few that skep needs",
        "57014" => "it took too long; skep tries again by itself",
        "57P01" | "57P02" | "57P03" => "the server is on its way down or up; skep tries again by itself",
        _ => return None,
    })
}
