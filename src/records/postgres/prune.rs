//! Throwing away what is old, and nothing that something needs.
//!
//! In small pieces: what waits behind a large one is a deploy.

use std::collections::{BTreeSet, HashSet};

use tokio_postgres::types::Type;

use super::row;
use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::Keep;

/// How many rows one statement looks at.
const AT_ONCE: i64 = 2000;

/// How many files are removed at once.
pub const FEW: usize = 1000;

/// Of the log of changes, and of writers that have ended.
pub async fn changes(t: &Tx<'_>) -> Result<(), Trouble> {
    // The last one of each writer stays: whoever has read that far reads on from there.
    const LOG: &str = "DELETE FROM change_log AS l WHERE at < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM changes AS c WHERE c.writer = l.writer AND c.count = l.number)";
    // Their count goes to those who have no name, so that the sum and the last time stay.
    const WRITERS: &str = "WITH gone AS (DELETE FROM changes WHERE writer <> '' AND at < now() - interval '2 days'
            RETURNING count, at)
        INSERT INTO changes AS c SELECT '', sum(count), max(at) FROM gone HAVING count(*) > 0
        ON CONFLICT (writer) DO UPDATE SET count = c.count + excluded.count, at = greatest(c.at, excluded.at)";
    t.execute(LOG, &[]).await?;
    t.execute(WRITERS, &[]).await?;
    Ok(())
}

/// Of revisions and events; how many of each.
pub async fn history(t: &Tx<'_>, keep: &Keep) -> Result<(usize, usize), Trouble> {
    const REVISIONS: &str = "DELETE FROM revisions WHERE number IN (
        SELECT number FROM (
            SELECT number, row_number() OVER (PARTITION BY api ORDER BY since DESC, number DESC) AS place FROM revisions
        ) AS r WHERE place > $1)";
    // Of an API that is gone: it may come back, for as long as its events are kept.
    const GONE: &str =
        "DELETE FROM revisions AS r WHERE since < $1 AND NOT EXISTS (SELECT FROM apis WHERE apis.id = r.api)";
    let kept = i64::try_from(keep.revisions).unwrap_or(i64::MAX);
    let since = row::time(keep.events_since);
    let revisions = t.execute(REVISIONS, &[(&kept, Type::INT8)]).await?;
    let gone = t.execute(GONE, &[(&since, Type::TIMESTAMPTZ)]).await?;
    let events = t.execute("DELETE FROM events WHERE at < $1", &[(&since, Type::TIMESTAMPTZ)]).await?;
    Ok((count(revisions + gone), count(events)))
}

/// The files that nothing refers to, and that nobody has asked for since: with them, nothing that is about to serve is lost.
pub async fn unused(t: &Tx<'_>, keep: &Keep) -> Result<Vec<String>, Trouble> {
    const DIGESTS: &str = "jsonb_path_query_array(served, '$.files.*.digest')::text";
    let mut used = HashSet::new();
    let mut last = (String::new(), String::new());
    loop {
        let sql = format!(
            "SELECT {DIGESTS}, api, revision FROM revisions WHERE (api, revision) > ($1, $2)
            ORDER BY api, revision LIMIT {AT_ONCE}"
        );
        let rows = t.query(&sql, &[(&last.0, Type::TEXT), (&last.1, Type::TEXT)]).await?;
        let Some(end) = rows.last() else { break };
        last = (end.try_get(1)?, end.try_get(2)?);
        take(&rows, &mut used)?;
    }
    let sql = format!(
        "SELECT {DIGESTS} FROM apis WHERE served IS NOT NULL
        UNION ALL SELECT jsonb_path_query_array(hold, '$.serve.files.*.digest')::text FROM holds"
    );
    take(&t.query(&sql, &[]).await?, &mut used)?;
    let sql = format!("SELECT digest FROM blobs WHERE kept_at < $1 AND digest > $2 ORDER BY digest LIMIT {AT_ONCE}");
    let since = row::time(keep.blobs_since);
    let (mut unused, mut last) = (Vec::new(), String::new());
    loop {
        let rows = t.query(&sql, &[(&since, Type::TIMESTAMPTZ), (&last, Type::TEXT)]).await?;
        let found = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>()?;
        let Some(end) = found.last() else { return Ok(unused) };
        last.clone_from(end);
        unused.extend(found.into_iter().filter(|digest| !used.contains(digest)));
    }
}

/// Removes files, unless somebody has asked for them meanwhile; how many those were.
pub async fn blobs(t: &Tx<'_>, keep: &Keep, digests: &[String]) -> Result<usize, Trouble> {
    const SQL: &str = "DELETE FROM blobs WHERE digest = ANY($1) AND kept_at < $2";
    let since = row::time(keep.blobs_since);
    Ok(count(t.execute(SQL, &[(&digests, Type::TEXT_ARRAY), (&since, Type::TIMESTAMPTZ)]).await?))
}

fn take(rows: &[tokio_postgres::Row], used: &mut HashSet<String>) -> Result<(), Trouble> {
    for row in rows {
        let digests: String = row.try_get(0)?;
        // What is no list of digests names none: somebody has edited it, and what they wrote holds no file.
        used.extend(serde_json::from_str::<BTreeSet<String>>(&digests).unwrap_or_default());
    }
    Ok(())
}

fn count(touched: u64) -> usize {
    usize::try_from(touched).unwrap_or(usize::MAX)
}
