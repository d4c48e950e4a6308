//! Throwing away what is old, and nothing that something needs.

use tokio_postgres::types::Type;

use super::row;
use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::{Keep, Pruned};

pub async fn prune(t: &Tx<'_>, keep: &Keep) -> Result<Pruned, Trouble> {
    const REVISIONS: &str = "DELETE FROM revisions WHERE number IN (
        SELECT number FROM (
            SELECT number, row_number() OVER (PARTITION BY api ORDER BY since DESC, number DESC) AS place FROM revisions
        ) AS r WHERE place > $1)";
    // Of an API that is gone: it may come back, for as long as its events are kept.
    const GONE: &str =
        "DELETE FROM revisions AS r WHERE since < $1 AND NOT EXISTS (SELECT FROM apis WHERE apis.id = r.api)";
    const BLOBS: &str = "DELETE FROM blobs AS b WHERE kept_at < $1 AND NOT EXISTS (
        SELECT FROM (
            SELECT served FROM revisions UNION ALL SELECT served FROM apis WHERE served IS NOT NULL
            UNION ALL SELECT hold -> 'serve' FROM holds WHERE jsonb_typeof(hold -> 'serve') = 'object'
        ) AS s, jsonb_each(s.served -> 'files') AS file WHERE file.value ->> 'digest' = b.digest)";
    // Of writers that have ended: their count goes to those who have no name, so that the sum and the last time stay.
    const WRITERS: &str = "WITH gone AS (DELETE FROM changes WHERE writer <> '' AND at < now() - interval '2 days'
            RETURNING count, at)
        INSERT INTO changes AS c SELECT '', sum(count), max(at) FROM gone HAVING count(*) > 0
        ON CONFLICT (writer) DO UPDATE SET count = c.count + excluded.count, at = greatest(c.at, excluded.at)";
    // The last one of each writer stays: whoever has read that far reads on from there.
    const LOG: &str = "DELETE FROM change_log AS l WHERE at < now() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM changes AS c WHERE c.writer = l.writer AND c.count = l.number)";
    let count = |touched: u64| usize::try_from(touched).unwrap_or(usize::MAX);
    let kept = i64::try_from(keep.revisions).unwrap_or(i64::MAX);
    let events_since = row::time(keep.events_since);
    let revisions = t.execute(REVISIONS, &[(&kept, Type::INT8)]).await?;
    let gone = t.execute(GONE, &[(&events_since, Type::TIMESTAMPTZ)]).await?;
    let events = t.execute("DELETE FROM events WHERE at < $1", &[(&events_since, Type::TIMESTAMPTZ)]).await?;
    let blobs_since = row::time(keep.blobs_since);
    let blobs = t.execute(BLOBS, &[(&blobs_since, Type::TIMESTAMPTZ)]).await?;
    t.execute(WRITERS, &[]).await?;
    t.execute(LOG, &[]).await?;
    Ok(Pruned { revisions: count(revisions + gone), events: count(events), blobs: count(blobs) })
}
