//! The lease, the followers, and the containers that are leaving, in Postgres.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::Lease;

const READ: &str = "SELECT epoch, holder, beat FROM lease, lease_beat";

pub async fn read(t: &Tx<'_>) -> Result<Lease, Trouble> {
    of(t.query(READ, &[]).await?)
}

fn of(rows: Vec<tokio_postgres::Row>) -> Result<Lease, Trouble> {
    let row = rows.into_iter().next().ok_or_else(|| Trouble::Corrupt("table `lease` has no row".to_owned()))?;
    let (epoch, beat): (i64, i64) = (row.try_get(0)?, row.try_get(2)?);
    Ok(Lease { epoch: epoch.unsigned_abs(), holder: row.try_get(1)?, beat: beat.unsigned_abs() })
}

/// Takes the lease where it is still as it was seen. Waits until the holder has done what it is in the middle of.
pub async fn claim(t: &Tx<'_>, seen: &Lease, holder: &str) -> Result<Option<u64>, Trouble> {
    // Milliseconds since 1970 where that is more: after a restore from a backup the number of an epoch that was is not
    // given again, to whoever has been asleep with it.
    const TAKE: &str =
        "UPDATE lease SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        holder = $1 RETURNING epoch";
    let lease = of(t.query(&format!("{READ} FOR UPDATE"), &[]).await?)?;
    if lease != *seen {
        return Ok(None);
    }
    let taken = t.query(TAKE, &[(&holder, Type::TEXT)]).await?;
    let epoch: i64 = taken.first().map_or(Ok(0), |row| row.try_get(0))?;
    t.execute("UPDATE lease_beat SET beat = beat + 1", &[]).await?;
    t.execute("DELETE FROM followers WHERE daemon = $1", &[(&holder, Type::TEXT)]).await?;
    Ok(Some(epoch.unsigned_abs()))
}

pub async fn renew(t: &Tx<'_>, epoch: u64) -> Result<bool, Trouble> {
    const SQL: &str = "UPDATE lease_beat SET beat = beat + 1 WHERE EXISTS (SELECT FROM lease WHERE epoch = $1)";
    Ok(t.execute(SQL, &[(&number(epoch), Type::INT8)]).await? == 1)
}

pub async fn resign(t: &Tx<'_>, epoch: u64) -> Result<(), Trouble> {
    let given = t.execute("UPDATE lease SET holder = NULL WHERE epoch = $1", &[(&number(epoch), Type::INT8)]).await?;
    if given > 0 {
        t.execute("UPDATE lease_beat SET beat = beat + 1", &[]).await?;
    }
    Ok(())
}

/// Refuses a write of a daemon that another one has taken over from, and keeps others from taking over until the write is
/// done.
pub async fn check(t: &Tx<'_>, fence: u64) -> Result<(), Trouble> {
    let rows = t.query("SELECT FROM lease WHERE epoch = $1 FOR SHARE", &[(&number(fence), Type::INT8)]).await?;
    if rows.is_empty() { Err(Trouble::Fenced) } else { Ok(()) }
}

pub async fn follow(t: &Tx<'_>, daemon: &str) -> Result<(), Trouble> {
    const SQL: &str = "INSERT INTO followers AS f VALUES ($1, 1) ON CONFLICT (daemon) DO UPDATE SET beat = f.beat + 1";
    t.execute(SQL, &[(&daemon, Type::TEXT)]).await?;
    Ok(())
}

pub async fn followers(t: &Tx<'_>) -> Result<BTreeMap<String, u64>, Trouble> {
    let rows = t.query("SELECT daemon, beat FROM followers", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()))).collect()
}

pub async fn dismiss(t: &Tx<'_>, daemon: &str) -> Result<(), Trouble> {
    t.execute("DELETE FROM followers WHERE daemon = $1", &[(&daemon, Type::TEXT)]).await?;
    Ok(())
}

pub async fn announce(t: &Tx<'_>, container: &str) -> Result<(), Trouble> {
    t.execute("INSERT INTO leaving VALUES ($1) ON CONFLICT DO NOTHING", &[(&container, Type::TEXT)]).await?;
    Ok(())
}

pub async fn leaving(t: &Tx<'_>) -> Result<BTreeMap<String, BTreeSet<String>>, Trouble> {
    const SQL: &str = "SELECT container, daemon FROM leaving LEFT JOIN let_go USING (container)";
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in t.query(SQL, &[]).await? {
        found.entry(row.try_get(0)?).or_default().extend(row.try_get::<_, Option<String>>(1)?);
    }
    Ok(found)
}

pub async fn let_go(t: &Tx<'_>, container: &str, daemon: &str) -> Result<(), Trouble> {
    // One that has left meanwhile needs nobody to let it go.
    const SQL: &str =
        "INSERT INTO let_go SELECT container, $2 FROM leaving WHERE container = $1 ON CONFLICT DO NOTHING";
    t.execute(SQL, &[(&container, Type::TEXT), (&daemon, Type::TEXT)]).await?;
    Ok(())
}

pub async fn left(t: &Tx<'_>, container: &str) -> Result<(), Trouble> {
    t.execute("DELETE FROM leaving WHERE container = $1", &[(&container, Type::TEXT)]).await?;
    Ok(())
}

pub fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
