//! A mirror keeps a table of the system before as that system kept it, for a dashboard that reads it.
//!
//! Only `status`, `endpoint_url` and `usage_count` are written, and only in rows whose `id` is an API of ours.

use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::Mirror;

/// Brings the table up to date; how many of its rows that changed.
pub async fn write(t: &Tx<'_>, schema: &str, mirror: &Mirror) -> Result<u64, Trouble> {
    // The type of a status may be one of the team's own.
    const KIND: &str = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = to_regclass($1) AND attname = 'status' AND NOT attisdropped";
    let table = &mirror.table;
    // Whoever holds a lock there is not waited for: the next time will do. And triggers of the team's find their own names.
    let theirs = table.split_once('.').map_or("public", |(theirs, _)| theirs);
    t.batch(&format!("SET LOCAL lock_timeout = '1s'; SET LOCAL search_path = {theirs}, public, pg_temp")).await?;
    let kinds = t.query(KIND, &[(table, Type::TEXT)]).await?;
    let kind: String = match kinds.first() {
        Some(row) => row.try_get(0)?,
        None => {
            return Err(Trouble::Corrupt(format!("`records.mirror` names {table}, which is no table with a `status`")));
        }
    };
    let url = mirror.url.as_ref().map(|url| format!("{}/run/", url.trim_end_matches('/')));
    let status = format!(
        "WITH now AS (
            SELECT id, (CASE health WHEN 'stopped' THEN 'paused' WHEN 'missing' THEN 'failed' ELSE 'active' END)::{kind}
                AS status, $1 || id AS url
            FROM {schema}.apis)
        UPDATE {table} AS old SET status = now.status, endpoint_url = coalesce(now.url, old.endpoint_url)
        FROM now WHERE old.id::text = now.id AND (old.status IS DISTINCT FROM now.status
            OR (now.url IS NOT NULL AND old.endpoint_url IS DISTINCT FROM now.url))"
    );
    let changed = t.execute(&status, &[(&url, Type::TEXT)]).await?;
    // Both sides in one transaction: each request is added once, whatever number stood there; and what is not added, as where
    // the row is not there yet or its policies hide it, is added later.
    let counts = format!(
        "WITH due AS (SELECT api, requests, requests - mirrored AS more FROM {schema}.usage_totals WHERE requests <> mirrored
                ORDER BY api FOR UPDATE),
            added AS (UPDATE {table} AS old SET usage_count = coalesce(old.usage_count, 0) + due.more
                FROM due WHERE old.id::text = due.api RETURNING due.api, due.requests)
        UPDATE {schema}.usage_totals AS u SET mirrored = added.requests FROM added WHERE u.api = added.api"
    );
    Ok(changed + t.execute(&counts, &[]).await?)
}
