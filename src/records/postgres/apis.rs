//! The rows of APIs, their revisions, and the files that these hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::changed;
use super::nul;
use super::row;
use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::known::{News, Row, Seen};
use crate::tree::{ApiId, Digest};
use crate::world::{Record, Served};

/// How many bytes of files go in one statement.
const AT_ONCE: usize = 4 * 1024 * 1024;

/// What is tried where all rows are read.
pub const EACH: &str = "read the rows of all APIs";

pub async fn find(t: &Tx<'_>, id: &ApiId) -> Result<Option<Record>, Trouble> {
    let sql = format!("SELECT {} FROM apis WHERE id = $1", row::RECORD);
    let rows = t.query(&sql, &[(&id.as_str(), Type::TEXT)]).await?;
    rows.first().map(row::record).transpose()
}

/// The rows that were written since, each for itself; all of them where that cannot be told.
pub async fn since(t: &Tx<'_>, seen: Option<&Seen>) -> Result<News<Row>, Trouble> {
    let since = changed::since(t, seen, &["apis", "holds"]).await?;
    let columns = row::RECORD;
    let rows = match &since.names {
        Some(names) if names.is_empty() => Vec::new(),
        Some(names) => {
            let sql = format!("SELECT {columns} FROM apis WHERE id = ANY($1)");
            t.query(&sql, &[(names, Type::TEXT_ARRAY)]).await?
        }
        None => t.query(&format!("SELECT {columns} FROM apis"), &[]).await?,
    };
    let read = |r| row::record(r).map(Arc::new).map_err(|trouble| trouble.while_trying(EACH));
    let rows = rows.iter().map(|r| Ok((r.try_get(0)?, read(r)))).collect::<Result<_, Trouble>>()?;
    Ok(News { since, rows })
}

pub async fn put(t: &Tx<'_>, record: &Record) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO apis
            (id, name, sync, health, message, served, failures, created_at, updated_at, written)
        VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, jsonb_build_object('name', $2,
            'sync', $3, 'health', $4, 'message', $5, 'served', $6::text::jsonb, 'failures', $7::text::jsonb,
            'created_at', extract(epoch FROM $8)::text))
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, sync = excluded.sync, health = excluded.health,
            message = excluded.message, served = excluded.served, failures = excluded.failures,
            created_at = excluded.created_at, updated_at = excluded.updated_at, written = excluded.written";
    // An equal row stays: no new time, no new version, no write at all. One that cannot be read is no equal.
    let (created, updated) = (row::time(record.created), row::time(record.updated));
    if let Ok(Some(there)) = find(t, &record.id).await
        && *record
            == (Record { created: record.created, updated: record.updated, hold: record.hold.clone(), ..there.clone() })
        && created == there.created
    {
        return Ok(());
    }
    let served = record.served.as_ref().map(row::json).transpose()?;
    t.execute(
        SQL,
        &[
            (&record.id.as_str(), Type::TEXT),
            (&nul::encode(&record.status.name), Type::TEXT),
            (&row::word(&record.status.sync)?, Type::TEXT),
            (&row::word(&record.status.health)?, Type::TEXT),
            (&nul::encode(&record.status.message), Type::TEXT),
            (&served, Type::TEXT),
            (&row::json(&record.failures)?, Type::TEXT),
            (&created, Type::TIMESTAMPTZ),
            (&updated, Type::TIMESTAMPTZ),
        ],
    )
    .await?;
    Ok(())
}

pub async fn forget(t: &Tx<'_>, id: &ApiId) -> Result<(), Trouble> {
    for table in ["apis WHERE id", "removals WHERE api", "holds WHERE api"] {
        t.execute(&format!("DELETE FROM {table} = $1"), &[(&id.as_str(), Type::TEXT)]).await?;
    }
    Ok(())
}

pub async fn put_revision(t: &Tx<'_>, id: &ApiId, served: &Served) -> Result<(), Trouble> {
    // One row for each revision; one that serves again, as after a rollback, is the latest again.
    const SQL: &str = "INSERT INTO revisions AS r (api, revision, since, served) VALUES ($1, $2, $3, $4::text::jsonb)
        ON CONFLICT (api, revision) DO UPDATE SET since = excluded.since, served = excluded.served
        WHERE excluded.since >= r.since AND excluded.served <> r.served";
    let (id, revision) = (id.as_str(), served.revision.as_str());
    let values = [
        (&id as _, Type::TEXT),
        (&revision as _, Type::TEXT),
        (&row::time(served.since) as _, Type::TIMESTAMPTZ),
        (&row::json(served)? as _, Type::TEXT),
    ];
    t.execute(SQL, &values).await?;
    Ok(())
}

pub async fn revisions(t: &Tx<'_>, id: &ApiId) -> Result<Vec<Served>, Trouble> {
    const SQL: &str =
        "SELECT api, revision, served::text FROM revisions WHERE api = $1 ORDER BY since DESC, number DESC";
    let rows = t.query(SQL, &[(&id.as_str(), Type::TEXT)]).await?;
    rows.iter().map(row::served).collect()
}

pub async fn put_blobs(t: &Tx<'_>, blobs: &[(Digest, Arc<[u8]>)]) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO blobs (digest, bytes, kept_at)
        SELECT DISTINCT ON (digest) digest, bytes, now() FROM unnest($1::text[], $2::bytea[]) AS b (digest, bytes)
        ORDER BY digest ON CONFLICT (digest) DO UPDATE SET kept_at = excluded.kept_at";
    let mut rest = blobs;
    while !rest.is_empty() {
        let mut size = 0;
        let fits = rest.iter().take_while(|(_, bytes)| {
            let is_first = size == 0;
            size += bytes.len().max(1);
            is_first || size <= AT_ONCE
        });
        let (now, later) = rest.split_at(fits.count());
        let digests: Vec<String> = now.iter().map(|(digest, _)| digest.to_string()).collect();
        let bytes: Vec<&[u8]> = now.iter().map(|(_, bytes)| &bytes[..]).collect();
        t.execute(SQL, &[(&digests, Type::TEXT_ARRAY), (&bytes, Type::BYTEA_ARRAY)]).await?;
        rest = later;
    }
    Ok(())
}

pub async fn missing_blobs(t: &Tx<'_>, digests: &[Digest]) -> Result<BTreeSet<Digest>, Trouble> {
    let names: Vec<String> = digests.iter().map(ToString::to_string).collect();
    let sql = "SELECT digest FROM blobs WHERE digest = ANY($1)";
    let rows = t.query(sql, &[(&names, Type::TEXT_ARRAY)]).await?;
    let kept: BTreeSet<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(digests.iter().filter(|digest| !kept.contains(&digest.to_string())).copied().collect())
}

pub async fn blob(t: &Tx<'_>, digest: &Digest) -> Result<Option<Arc<[u8]>>, Trouble> {
    let name = digest.to_string();
    let rows = t.query("SELECT bytes FROM blobs WHERE digest = $1", &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let bytes: &[u8] = row.try_get(0)?;
    if Digest::of(bytes) != *digest {
        return Err(Trouble::Corrupt(format!("table `blobs`, row `{name}`, column `bytes`: not what was kept")));
    }
    Ok(Some(Arc::from(bytes)))
}
