//! The log of changes as it lies in the file: which rows somebody has written since.

use std::collections::BTreeMap;

use rusqlite::Transaction;

use super::row::list;
use super::trouble::Trouble;
use crate::records::known::{self, Entries, Entry, FEW, Seen, Since};

/// Whoever writes: in a file, one after the other.
const ALL: &str = "";

/// Rows of these kinds that were written since.
pub fn since(t: &Transaction<'_>, seen: Option<&Seen>, kinds: [&str; 2]) -> Result<Since, Trouble> {
    const LAST: &str = "SELECT number, mark FROM change_log ORDER BY number DESC LIMIT 1";
    const SQL: &str = "SELECT number, mark, CASE WHEN kind IN (?2, ?3) THEN name END FROM change_log
        WHERE number >= ?1 ORDER BY number";
    let last = list(t, LAST, &[], |r| Ok((r.get(0)?, r.get(1)?)))?.pop().unwrap_or_default();
    let mut entries = Vec::new();
    if let Some(from) = seen.map(|seen| seen.get(ALL).map_or(0, |place| place.0))
        && from < last.0
        && last.0 - from <= FEW
    {
        entries = list(t, SQL, &[&from, &kinds[0], &kinds[1]], |r| {
            let name: Option<String> = r.get(2)?;
            Ok(Entry { number: r.get(0)?, mark: r.get(1)?, names: Some(name.into_iter().collect()) })
        })?;
    }
    Ok(known::since(seen, BTreeMap::from([(ALL.to_owned(), Entries { last, entries })])))
}
