//! Keys as they lie in the database, and when they were last used.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::trouble::Trouble;
use super::{changed, list, list_readable, row};
use crate::records::known::{News, Seen};
use crate::records::{Key, KeyHash};

/// Of the keys that were written since those that open something, now or later; all of these where that cannot be told.
pub fn since(t: &Transaction<'_>, seen: Option<&Seen>, now: Timestamp) -> Result<News<Arc<Key>>, Trouble> {
    let since = changed::since(t, seen, ["keys", "keys"])?;
    let sql = format!("SELECT {} FROM keys WHERE (revoked_at IS NULL OR revoked_at > ?1)", row::KEY);
    let now = row::time(now);
    let mut keys = Vec::new();
    match &since.names {
        Some(names) => {
            let sql = format!("{sql} AND id = ?2");
            for name in names {
                keys.extend(list_readable(t, &sql, &[&now, name], row::key)?);
            }
        }
        None => keys = list_readable(t, &sql, &[&now], row::key)?,
    }
    Ok(News { since, rows: keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect() })
}

/// All keys, in order of id.
pub fn every(transaction: &Transaction<'_>) -> Result<Vec<Key>, Trouble> {
    let sql = format!("SELECT {} FROM keys ORDER BY id", row::KEY);
    list(transaction, &sql, &[], row::key)
}

/// Adds a key.
pub fn add(transaction: &Transaction<'_>, key: &Key) -> Result<(), Trouble> {
    insert(transaction, key, "")?;
    Ok(())
}

/// Adds those whose hashes are not there; how many those were.
pub fn add_missing(transaction: &Transaction<'_>, keys: &[Key]) -> Result<usize, Trouble> {
    keys.iter().try_fold(0, |added, key| Ok(added + insert(transaction, key, " ON CONFLICT (hash) DO NOTHING")?))
}

/// Inserts a key; how many rows that made.
fn insert(transaction: &Transaction<'_>, key: &Key, otherwise: &str) -> Result<usize, Trouble> {
    const SQL: &str = "INSERT INTO keys (id, hash, name, scope, created_at, revoked_at, terms, follows)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let values = params![
        key.id,
        key.hash.to_string(),
        key.name,
        row::json(&key.scope)?,
        row::time(key.created),
        key.revoked.map(row::time),
        row::json(&key.terms)?,
        key.follows.map(|hash| hash.to_string()),
    ];
    Ok(transaction.prepare_cached(&format!("{SQL}{otherwise}"))?.execute(values)?)
}

/// Says from when on a key opens nothing; of two such words the earlier holds. `false` where there is no such key.
pub fn revoke(transaction: &Transaction<'_>, id: &str, at: Timestamp) -> Result<bool, Trouble> {
    const SQL: &str = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND (revoked_at IS NULL OR revoked_at > ?2)";
    transaction.execute(SQL, [id, &row::time(at)])?;
    Ok(transaction.query_row("SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1)", [id], |r| r.get(0))?)
}

/// Puts a key in the place of another.
pub fn rotate(transaction: &Transaction<'_>, old: &str, new: &Key, until: Timestamp) -> Result<bool, Trouble> {
    const SQL: &str = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    let is_there = transaction.execute(SQL, [old, &row::time(until)])? > 0;
    if is_there {
        add(transaction, new)?;
    }
    Ok(is_there)
}

/// Remembers when keys were last used.
pub fn touch(transaction: &Transaction<'_>, used: &[(KeyHash, Timestamp)]) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO key_uses (hash, used_at) VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET used_at = excluded.used_at WHERE excluded.used_at > used_at";
    let mut insert = transaction.prepare_cached(SQL)?;
    for (hash, at) in used {
        insert.execute([hash.to_string(), row::time(*at)])?;
    }
    Ok(())
}

/// When each key was last used that ever was.
pub fn uses(transaction: &Transaction<'_>) -> Result<BTreeMap<KeyHash, Timestamp>, Trouble> {
    Ok(list(transaction, "SELECT hash, used_at FROM key_uses", &[], row::key_use)?.into_iter().collect())
}
