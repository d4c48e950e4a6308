//! A standing is what jobs on the database have met of late: whether reads, writes and counts come through, for people.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_postgres::error::SqlState;

use super::trouble::{Trouble, explain};
use super::worker::Access;
use crate::records::Away;

/// For how long a failure counts that nobody has had again: whatever waits is tried again sooner.
const COUNTS_FOR: Duration = Duration::from_secs(100);

/// Classes of errors that say something of the database, and not of what was asked (PostgreSQL, appendix A): connections,
/// transactions that may not be, who may enter, names and rights, resources, operators' doings, the system, its own faults.
const ITS_OWN: [&str; 9] = ["08", "25", "28", "3D", "3F", "42", "53", "57", "58"];

/// What jobs have met of late.
#[derive(Debug, Default)]
pub struct Standing(Mutex<BTreeMap<Access, Failing>>);

#[derive(Debug)]
struct Failing {
    since: Timestamp,
    last: Instant,
    cause: String,
}

impl Standing {
    /// Takes in what came of a job.
    pub fn note<T>(&self, access: Access, outcome: &Result<T, Trouble>) {
        // What a person asks for is not tried again by itself, so that its end says nothing of what waits; and a table of
        // somebody else's may have troubles of its own.
        if matches!(access, Access::Word | Access::Aside) {
            return;
        }
        let mut failing = self.failing();
        let Some(cause) = outcome.as_ref().err().and_then(cause) else {
            failing.remove(&access);
            return;
        };
        let new = Failing { since: Timestamp::now(), last: Instant::now(), cause };
        let since = failing.get(&access).filter(|old| old.last.elapsed() < COUNTS_FOR).map(|old| old.since);
        failing.insert(access, Failing { since: since.unwrap_or(new.since), ..new });
    }

    /// What cannot be done now.
    pub fn away(&self) -> Option<Away> {
        let failing = self.failing();
        let of = |access: Access| failing.get(&access).filter(|failing| failing.last.elapsed() < COUNTS_FOR);
        let (reads, usage) = (of(Access::Read), of(Access::Count));
        let rows = [of(Access::Write), of(Access::Beat)];
        let all = [reads, usage].into_iter().chain(rows).flatten();
        let since = all.clone().map(|failing| failing.since).min()?;
        // The last word, since what a database goes through has several: going down, down, coming up.
        let cause = all.max_by_key(|failing| failing.last)?.cause.clone();
        let (reads, rows, usage) = (reads.is_some(), rows.iter().any(Option::is_some), usage.is_some());
        Some(Away { since, cause, reads, rows, usage })
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<Access, Failing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in the way of all that is asked like this, where something is.
fn cause(trouble: &Trouble) -> Option<String> {
    match trouble {
        Trouble::Sql(error) => {
            let is_its_own = |code: &SqlState| ITS_OWN.iter().any(|class| code.code().starts_with(class));
            error.code().is_none_or(is_its_own).then(|| explain(error))
        }
        Trouble::Unsure(cause) | Trouble::Unreachable(cause) => Some(cause.clone()),
        Trouble::Schema(error) => Some(error.to_string()),
        Trouble::Fenced | Trouble::Corrupt(_) => None,
    }
}
