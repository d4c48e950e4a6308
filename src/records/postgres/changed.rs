//! The log of changes as it lies in the database: which rows somebody has written since.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::trouble::Trouble;
use super::worker::Tx;
use crate::records::known::{self, Entries, Entry, FEW, Seen, Since};

/// Rows of these kinds that were written since.
pub async fn since(t: &Tx<'_>, seen: Option<&Seen>, kinds: &[&str]) -> Result<Since, Trouble> {
    // Before the log and the rows, so that what is written meanwhile is read again the next time.
    let counts = t.query("SELECT writer, count, at FROM changes", &[]).await?;
    let mut now = BTreeMap::new();
    for row in &counts {
        let at: Timestamp = row.try_get(2)?;
        let last = (row.try_get(1)?, at.as_microsecond());
        now.insert(row.try_get::<_, String>(0)?, Entries { last, entries: Vec::new() });
    }
    if let Some(seen) = seen {
        read(t, seen, &mut now, kinds).await?;
    }
    Ok(known::since(seen, now))
}

/// Reads the entries of writers who have written since, where they are few.
async fn read(t: &Tx<'_>, seen: &Seen, now: &mut BTreeMap<String, Entries>, kinds: &[&str]) -> Result<(), Trouble> {
    const SQL: &str = "SELECT l.writer, l.number, l.at, CASE WHEN l.kind = ANY($3) THEN l.names ELSE '{}' END
        FROM unnest($1::text[], $2::bigint[]) AS s (writer, number)
        JOIN change_log AS l ON l.writer = s.writer AND l.number >= s.number ORDER BY l.writer, l.number";
    let from = |writer: &String| seen.get(writer).map_or(0, |place| place.0);
    let busy = now.iter().filter(|(writer, entries)| seen.get(*writer) != Some(&entries.last));
    let (writers, numbers): (Vec<String>, Vec<i64>) = busy.map(|(writer, _)| (writer.clone(), from(writer))).unzip();
    let many: i64 = writers.iter().filter_map(|writer| Some(now.get(writer)?.last.0 - from(writer))).sum();
    if writers.is_empty() || many > FEW {
        return Ok(());
    }
    let kinds: Vec<&str> = kinds.to_vec();
    let values =
        [(&writers as _, Type::TEXT_ARRAY), (&numbers as _, Type::INT8_ARRAY), (&kinds as _, Type::TEXT_ARRAY)];
    for row in t.query(SQL, &values).await? {
        let at: Timestamp = row.try_get(2)?;
        let entry = Entry { number: row.try_get(1)?, mark: at.as_microsecond(), names: row.try_get(3)? };
        if let Some(of_writer) = now.get_mut(row.try_get::<_, &str>(0)?) {
            of_writer.entries.push(entry);
        }
    }
    Ok(())
}
