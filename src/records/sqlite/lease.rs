//! The lease, the followers, and the containers that are leaving, in SQLite.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::row;
use super::trouble::Trouble;
use crate::records::{Keep, Lease, Pruned};

pub fn read(t: &Transaction<'_>) -> Result<Lease, Trouble> {
    let read = |r: &rusqlite::Row<'_>| {
        let (epoch, beat): (i64, i64) = (r.get(0)?, r.get(2)?);
        Ok(Lease { epoch: epoch.unsigned_abs(), holder: r.get(1)?, beat: beat.unsigned_abs() })
    };
    let lease = t.query_row("SELECT epoch, holder, beat FROM lease", [], read).optional()?;
    lease.ok_or_else(|| Trouble::Corrupt("table `lease` has no row".to_owned()))
}

/// Takes the lease where it is still as it was seen.
pub fn claim(t: &Transaction<'_>, seen: &Lease, holder: &str) -> Result<Option<u64>, Trouble> {
    if read(t)? != *seen {
        return Ok(None);
    }
    t.execute("UPDATE lease SET epoch = epoch + 1, holder = ?1, beat = beat + 1", [holder])?;
    t.execute("DELETE FROM followers WHERE daemon = ?1", [holder])?;
    Ok(Some(seen.epoch + 1))
}

pub fn renew(t: &Transaction<'_>, epoch: u64) -> Result<bool, Trouble> {
    Ok(t.execute("UPDATE lease SET beat = beat + 1 WHERE epoch = ?1", [number(epoch)])? == 1)
}

pub fn resign(t: &Transaction<'_>, epoch: u64) -> Result<(), Trouble> {
    t.execute("UPDATE lease SET holder = NULL, beat = beat + 1 WHERE epoch = ?1", [number(epoch)])?;
    Ok(())
}

/// Refuses a write of a daemon that another one has taken over from.
pub fn check(t: &Transaction<'_>, fence: u64) -> Result<(), Trouble> {
    if fence == 0 || read(t)?.epoch == fence { Ok(()) } else { Err(Trouble::Fenced) }
}

pub fn follow(t: &Transaction<'_>, daemon: &str) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO followers (daemon, beat) VALUES (?1, 1) ON CONFLICT DO UPDATE SET beat = beat + 1";
    t.execute(SQL, [daemon])?;
    Ok(())
}

pub fn followers(t: &Transaction<'_>) -> Result<BTreeMap<String, u64>, Trouble> {
    let mut statement = t.prepare_cached("SELECT daemon, beat FROM followers")?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub fn dismiss(t: &Transaction<'_>, daemon: &str) -> Result<(), Trouble> {
    t.execute("DELETE FROM followers WHERE daemon = ?1", [daemon])?;
    Ok(())
}

pub fn announce(t: &Transaction<'_>, container: &str) -> Result<(), Trouble> {
    t.execute("INSERT OR IGNORE INTO leaving (container) VALUES (?1)", [container])?;
    Ok(())
}

pub fn leaving(t: &Transaction<'_>) -> Result<BTreeMap<String, BTreeSet<String>>, Trouble> {
    const SQL: &str = "SELECT leaving.container, let_go.daemon FROM leaving
        LEFT JOIN let_go ON let_go.container = leaving.container";
    let mut statement = t.prepare_cached(SQL)?;
    let mut rows = statement.query([])?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    while let Some(r) = rows.next()? {
        let daemons = found.entry(r.get(0)?).or_default();
        daemons.extend(r.get::<_, Option<String>>(1)?);
    }
    Ok(found)
}

pub fn let_go(t: &Transaction<'_>, container: &str, daemon: &str) -> Result<(), Trouble> {
    // One that has left meanwhile needs nobody to let it go.
    const SQL: &str = "INSERT OR IGNORE INTO let_go (container, daemon)
        SELECT container, ?2 FROM leaving WHERE container = ?1";
    t.execute(SQL, [container, daemon])?;
    Ok(())
}

pub fn left(t: &Transaction<'_>, container: &str) -> Result<(), Trouble> {
    t.execute("DELETE FROM let_go WHERE container = ?1", [container])?;
    t.execute("DELETE FROM leaving WHERE container = ?1", [container])?;
    Ok(())
}

pub fn prune(t: &Transaction<'_>, keep: &Keep) -> Result<Pruned, Trouble> {
    const REVISIONS: &str = "DELETE FROM revisions WHERE rowid IN (
        SELECT rowid FROM (
            SELECT rowid, row_number() OVER (PARTITION BY api ORDER BY since DESC, rowid DESC) AS place FROM revisions
        ) WHERE place > ?1)";
    const BLOBS: &str = "DELETE FROM blobs WHERE kept_at < ?1 AND digest NOT IN (
        SELECT file.value ->> '$.digest' FROM revisions, json_each(served, '$.files') AS file
        UNION SELECT file.value ->> '$.digest' FROM apis, json_each(served, '$.files') AS file WHERE served IS NOT NULL
        UNION SELECT file.value ->> '$.digest' FROM holds, json_each(hold, '$.serve.files') AS file)";
    let revisions = t.execute(REVISIONS, params![i64::try_from(keep.revisions).unwrap_or(i64::MAX)])?;
    // Of an API that is gone: it may come back, for as long as its events are kept.
    let gone = "DELETE FROM revisions WHERE since < ?1 AND api NOT IN (SELECT id FROM apis)";
    let revisions = revisions + t.execute(gone, [row::time(keep.events_since)])?;
    let events = t.execute("DELETE FROM events WHERE at < ?1", [row::time(keep.events_since)])?;
    let blobs = t.execute(BLOBS, [row::time(keep.blobs_since)])?;
    // Whoever has read less than that reads all.
    t.execute("DELETE FROM change_log WHERE number < (SELECT count FROM changes) - 10000", [])?;
    Ok(Pruned { revisions, events, blobs })
}

fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
