//! Keys as they lie in the database, and when they were last used.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use super::{changed, nul, row};
use crate::records::known::{News, Seen};
use crate::records::{Key, KeyHash};

/// Of the keys that were written since those that open something, now or later; all of these where that cannot be told.
pub async fn since(t: &Tx<'_>, seen: Option<&Seen>, now: Timestamp) -> Result<News<Arc<Key>>, Trouble> {
    let since = changed::since(t, seen, &["keys"]).await?;
    let sql = format!("SELECT {} FROM keys WHERE (revoked_at IS NULL OR revoked_at > $1)", row::KEY);
    let now = (&row::time(now) as _, Type::TIMESTAMPTZ);
    let rows = match &since.names {
        Some(names) if names.is_empty() => Vec::new(),
        Some(names) => t.query(&format!("{sql} AND id = ANY($2)"), &[now, (names, Type::TEXT_ARRAY)]).await?,
        None => t.query(&sql, &[now]).await?,
    };
    let keys = row::readable(rows.iter().map(row::key))?;
    Ok(News { since, rows: keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect() })
}

/// All keys that ever were added, in order of id.
pub async fn every(t: &Tx<'_>) -> Result<Vec<Key>, Trouble> {
    let sql = format!("SELECT {} FROM keys", row::KEY);
    let mut keys = t.query(&sql, &[]).await?.iter().map(row::key).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(keys)
}

/// Adds a key.
pub async fn add(t: &Tx<'_>, key: &Key) -> Result<(), Trouble> {
    insert(t, key, "").await?;
    Ok(())
}

/// Adds a key that an earlier try may have added. Waits for that try where it is still under way.
pub async fn add_again(t: &Tx<'_>, key: &Key) -> Result<(), Trouble> {
    if insert(t, key, " ON CONFLICT (hash) DO NOTHING").await? > 0 || is_in(t, key).await? {
        return Ok(());
    }
    add(t, key).await
}

/// Whether this very key is in.
async fn is_in(t: &Tx<'_>, key: &Key) -> Result<bool, Trouble> {
    const SQL: &str = "SELECT FROM keys WHERE id = $1 AND hash = $2 AND created_at = $3";
    let (hash, created) = (key.hash.to_string(), row::time(key.created));
    let values = [(&key.id as _, Type::TEXT), (&hash as _, Type::TEXT), (&created as _, Type::TIMESTAMPTZ)];
    Ok(!t.query(SQL, &values).await?.is_empty())
}

/// Adds those whose hashes were never added before; how many those were.
pub async fn add_missing(t: &Tx<'_>, keys: &[Key]) -> Result<usize, Trouble> {
    let mut added = 0;
    for key in keys {
        added += insert(t, key, " ON CONFLICT (hash) DO NOTHING").await?;
    }
    Ok(usize::try_from(added).unwrap_or(usize::MAX))
}

/// Inserts a key; how many rows that made.
async fn insert(t: &Tx<'_>, key: &Key, otherwise: &str) -> Result<u64, Trouble> {
    const SQL: &str = "INSERT INTO keys (id, hash, name, scope, created_at, revoked_at, terms, follows)
        VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7::text::jsonb, $8)";
    let values = [
        (&key.id as _, Type::TEXT),
        (&key.hash.to_string() as _, Type::TEXT),
        (&nul::encode(&key.name) as _, Type::TEXT),
        (&row::json(&key.scope)? as _, Type::TEXT),
        (&row::time(key.created) as _, Type::TIMESTAMPTZ),
        (&key.revoked.map(row::time) as _, Type::TIMESTAMPTZ),
        (&row::json(&key.terms)? as _, Type::TEXT),
        (&key.follows.map(|hash| hash.to_string()) as _, Type::TEXT),
    ];
    t.execute(&format!("{SQL}{otherwise}"), &values).await
}

/// Says from when on a key opens nothing; of two such words the earlier holds. `false` where there is no such key.
pub async fn revoke(t: &Tx<'_>, id: &str, at: Timestamp) -> Result<bool, Trouble> {
    const SQL: &str = "UPDATE keys SET revoked_at = $2 WHERE id = $1 AND (revoked_at IS NULL OR revoked_at > $2)";
    t.execute(SQL, &[(&id, Type::TEXT), (&row::time(at), Type::TIMESTAMPTZ)]).await?;
    Ok(!t.query("SELECT FROM keys WHERE id = $1", &[(&id, Type::TEXT)]).await?.is_empty())
}

/// Puts a key in the place of another.
pub async fn rotate(t: &Tx<'_>, old: &str, new: &Key, until: Timestamp) -> Result<bool, Trouble> {
    const SQL: &str = "UPDATE keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    let is_there = t.execute(SQL, &[(&old, Type::TEXT), (&row::time(until), Type::TIMESTAMPTZ)]).await? > 0;
    if is_there {
        add(t, new).await?;
    }
    Ok(is_there)
}

/// Puts a key in the place of another, which an earlier try may have done.
pub async fn rotate_again(t: &Tx<'_>, old: &str, new: &Key, until: Timestamp) -> Result<bool, Trouble> {
    Ok(rotate(t, old, new, until).await? || is_in(t, new).await?)
}

/// Remembers when keys were last used.
pub async fn touch(t: &Tx<'_>, used: &[(KeyHash, Timestamp)]) -> Result<(), Trouble> {
    // In order, so that two daemons that touch the same keys do not wait for each other in a circle.
    const SQL: &str = "INSERT INTO key_uses AS u (hash, used_at)
        SELECT hash, max(at) FROM unnest($1::text[], $2::timestamptz[]) AS n (hash, at) GROUP BY hash ORDER BY hash
        ON CONFLICT (hash) DO UPDATE SET used_at = excluded.used_at WHERE excluded.used_at > u.used_at";
    let hashes: Vec<String> = used.iter().map(|(hash, _)| hash.to_string()).collect();
    let times: Vec<Timestamp> = used.iter().map(|(_, at)| row::time(*at)).collect();
    t.execute(SQL, &[(&hashes, Type::TEXT_ARRAY), (&times, Type::TIMESTAMPTZ_ARRAY)]).await?;
    Ok(())
}

/// When each key was last used that ever was.
pub async fn uses(t: &Tx<'_>) -> Result<BTreeMap<KeyHash, Timestamp>, Trouble> {
    t.query("SELECT hash, used_at FROM key_uses", &[]).await?.iter().map(row::key_use).collect()
}
