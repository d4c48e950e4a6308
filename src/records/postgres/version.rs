//! The version says whether another has changed something that a daemon must hear of.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;

/// What the table `changes` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Changes {
    /// How many changes others have made.
    others: i64,
    /// When the last of them was, in microseconds since 1970.
    last: i64,
    /// How many this handle has made.
    own: i64,
}

/// How far this handle's own changes have come, and how often they were gone again.
#[derive(Debug, Default)]
pub struct Own(Mutex<(i64, u64)>);

impl Own {
    /// The version; see [`crate::records::Records::version`].
    pub fn version(&self, changes: Changes) -> u64 {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody takes changes of ours away but a restore from a backup, which goes through no trigger.
        if changes.own < own.0 {
            own.1 += 1;
        }
        own.0 = changes.own;
        let mut hasher = DefaultHasher::new();
        // After a restore somebody may have brought the sum to where it was: the time tells.
        (changes.others, changes.last, own.1).hash(&mut hasher);
        hasher.finish()
    }
}

pub async fn changes(t: &Tx<'_>, writer: &str) -> Result<Changes, Trouble> {
    const SQL: &str = "SELECT coalesce(sum(count) FILTER (WHERE writer <> $1), 0)::bigint,
        coalesce(extract(epoch FROM max(at) FILTER (WHERE writer <> $1)) * 1000000, 0)::bigint,
        coalesce(sum(count) FILTER (WHERE writer = $1), 0)::bigint FROM changes";
    let rows = t.query(SQL, &[(&writer, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(|| Trouble::Corrupt("table `changes` gives no sum".to_owned()))?;
    Ok(Changes { others: row.try_get(0)?, last: row.try_get(1)?, own: row.try_get(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_a_change_and_what_we_write_ourselves_is_none() {
        let own = Own::default();
        let at = |others, last, own| Changes { others, last, own };
        let version = own.version(at(5, 7, 0));
        assert_eq!(own.version(at(5, 7, 3)), version);
        let restored = own.version(at(5, 7, 1));
        assert_ne!(restored, version, "what we wrote is gone");
        assert_eq!(own.version(at(5, 7, 2)), restored);
        assert_ne!(own.version(at(5, 8, 2)), restored, "another change has taken the place of one that is gone");
    }
}
