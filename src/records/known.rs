//! Known is what a handle has read of a table already: it reads again what has been written since, and not all of it.
//!
//! Each change stands in a log beside the tables, written by the database itself in the transaction that makes it. Nothing rests
//! on that log being there: where it has gaps, or is not the one that was read before, all is read; and so it is every now and
//! then, since whoever restores a table may do so past every trigger.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Key, RecordsError};
use crate::tree::ApiId;
use crate::world::Record;

/// After how long all is read again, whatever the log says.
const WHOLE_EVERY: Duration = Duration::from_secs(600);

/// How long a reader waits for another one, whose own question has a deadline too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Up to how many changes it pays to read rows one by one.
pub const FEW: i64 = 1000;

/// The last entry of the log that was read, of each writer: its number, and a mark that no other entry of that number has.
pub type Seen = BTreeMap<String, (i64, i64)>;

/// What the log says has been written since.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// How far it goes now.
    pub seen: Seen,
    /// The rows that were written or are gone; `None` where that cannot be told, and all must be read.
    pub names: Option<Vec<String>>,
}

/// What was read of a table.
pub struct News<V> {
    /// What the log said before it was read.
    pub since: Since,
    /// The rows that `since` names, as far as they are there; all rows where it names none.
    pub rows: Vec<(String, V)>,
}

/// The rows of a table, by their names.
#[derive(Debug)]
pub struct Known<V>(Mutex<State<V>>);

#[derive(Debug)]
struct State<V> {
    rows: BTreeMap<String, V>,
    /// What was read of the log when all was, or since; and when all was.
    seen: Option<(Seen, Instant)>,
}

impl<V> Default for Known<V> {
    fn default() -> Self {
        Self(Mutex::new(State { rows: BTreeMap::new(), seen: None }))
    }
}

impl<V> Known<V> {
    /// Brings the rows up to date by what `ask` reads, which is handed how far the log is known, and takes from them what is
    /// wanted.
    ///
    /// # Errors
    /// Those of `ask`; what was known stays known.
    pub async fn read<T>(
        &self,
        ask: impl AsyncFnOnce(Option<Seen>) -> Result<News<V>, RecordsError>,
        take: impl FnOnce(&BTreeMap<String, V>) -> T,
    ) -> Result<T, RecordsError> {
        // Held meanwhile, so that of two readers the later one does not bring back what the earlier one has read.
        let busy = |_| RecordsError::Failed {
            action: "read what is new",
            cause: "whoever is at it gets no answer".to_owned(),
        };
        let mut state = timeout(PATIENCE, self.0.lock()).await.map_err(busy)?;
        let seen = state.seen.as_ref().filter(|(_, at)| at.elapsed() < WHOLE_EVERY);
        let News { since, rows } = ask(seen.map(|(seen, _)| seen.clone())).await?;
        let whole_at = seen.map(|(_, at)| *at);
        match (since.names, whole_at) {
            (Some(names), Some(at)) => {
                for name in names {
                    state.rows.remove(&name);
                }
                state.rows.extend(rows);
                state.seen = Some((since.seen, at));
            }
            _ => {
                state.rows = rows.into_iter().collect();
                state.seen = Some((since.seen, Instant::now()));
            }
        }
        Ok(take(&state.rows))
    }
}

/// What is known of a row: itself, or why it cannot be read.
pub type Row = Result<Arc<Record>, RecordsError>;

impl Known<Row> {
    /// See [`super::Records::each`].
    ///
    /// # Errors
    /// Those of `ask`, and [`RecordsError::Corrupt`] where a row has no id of an API.
    pub async fn each(
        &self,
        ask: impl AsyncFnOnce(Option<Seen>) -> Result<News<Row>, RecordsError>,
    ) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
        let id = |name: &String| {
            ApiId::new(name).map_err(|e| RecordsError::Corrupt(format!("table `apis`, row `{name}`, column `id`: {e}")))
        };
        self.read(ask, |rows| rows.iter().map(|(name, row)| Ok((id(name)?, row.clone()))).collect()).await?
    }
}

impl Known<Arc<Key>> {
    /// See [`super::Records::keys`].
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn in_force(
        &self,
        now: Timestamp,
        ask: impl AsyncFnOnce(Option<Seen>) -> Result<News<Arc<Key>>, RecordsError>,
    ) -> Result<Vec<Arc<Key>>, RecordsError> {
        let opens = |key: &&Arc<Key>| key.revoked.is_none_or(|at| at > now) && !key.terms.is_over(now);
        self.read(ask, |keys| keys.values().filter(opens).cloned().collect()).await
    }
}

/// What one writer has done by now, and what the log says of it.
#[derive(Debug, Default)]
pub struct Entries {
    /// The last entry, as the writer's count has it.
    pub last: (i64, i64),
    /// The entries from the one on that was seen last, in order of their numbers.
    pub entries: Vec<Entry>,
}

/// An entry of the log.
#[derive(Debug)]
pub struct Entry {
    /// Counts up by one, for each writer.
    pub number: i64,
    /// No other entry of that number has it.
    pub mark: i64,
    /// The rows that it names; `None` where it names none.
    pub names: Option<Vec<String>>,
}

/// Puts together what the log says, where it can be relied on.
#[must_use]
pub fn since(seen: Option<&Seen>, now: BTreeMap<String, Entries>) -> Since {
    let names = seen.and_then(|seen| {
        // A writer that is gone took its count with it.
        seen.keys().all(|writer| now.contains_key(writer)).then_some(())?;
        let mut names = Vec::new();
        for (writer, Entries { last, entries }) in &now {
            names.extend(written(seen.get(writer).copied(), *last, entries)?);
        }
        names.sort();
        names.dedup();
        Some(names)
    });
    Since { seen: now.into_iter().map(|(writer, Entries { last, .. })| (writer, last)).collect(), names }
}

/// What one writer has touched since; `None` where entries are missing, or are not those that went before.
fn written(seen: Option<(i64, i64)>, last: (i64, i64), entries: &[Entry]) -> Option<Vec<String>> {
    if seen == Some(last) {
        return Some(Vec::new());
    }
    let mut expected = match seen {
        Some(seen) => {
            let same = entries.iter().any(|entry| (entry.number, entry.mark) == seen);
            (same && seen.0 < last.0).then_some(seen.0 + 1)?
        }
        None => 1,
    };
    let mut names = Vec::new();
    for entry in entries.iter().filter(|entry| seen.is_none_or(|seen| entry.number > seen.0)) {
        // One that came after the count was read is read again the next time.
        (entry.number == expected || entry.number > last.0).then_some(())?;
        expected = entry.number + 1;
        names.extend(entry.names.clone()?);
    }
    (expected > last.0).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64, mark: i64, names: &[&str]) -> Entry {
        Entry { number, mark, names: Some(names.iter().map(ToString::to_string).collect()) }
    }

    fn of(last: (i64, i64), entries: Vec<Entry>) -> BTreeMap<String, Entries> {
        BTreeMap::from([("w".to_owned(), Entries { last, entries })])
    }

    fn names(seen: Option<(i64, i64)>, now: BTreeMap<String, Entries>) -> Option<Vec<String>> {
        let seen = seen.map(|place| Seen::from([("w".to_owned(), place)])).unwrap_or_default();
        since(Some(&seen), now).names
    }

    #[test]
    fn a_log_that_goes_on_from_what_was_seen_names_what_was_written() {
        let goes_on = || vec![entry(4, 40, &["old"]), entry(5, 50, &["b"]), entry(6, 60, &["a", "b"])];
        assert_eq!(names(Some((4, 40)), of((6, 60), goes_on())), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(names(Some((6, 60)), of((6, 60), Vec::new())), Some(Vec::new()));
        // The entry of one that wrote while this was read.
        assert!(names(Some((4, 40)), of((5, 50), goes_on())).is_some());
        assert_eq!(names(None, of((1, 10), vec![entry(1, 10, &["a"])])), Some(vec!["a".to_owned()]));
        assert_eq!(since(None, of((6, 60), goes_on())).names, None, "nothing is known yet");
    }

    #[test]
    fn a_log_with_gaps_or_of_another_past_is_not_relied_on() {
        let later = || vec![entry(5, 50, &["b"]), entry(6, 60, &["a"])];
        let with = |first| std::iter::once(first).chain(later()).collect::<Vec<_>>();
        for (seen, last, entries, why) in [
            ((4, 40), (6, 60), later(), "the entry that was seen is thrown away"),
            ((4, 40), (6, 60), with(entry(4, 41, &[])), "it is another one"),
            ((4, 40), (3, 30), Vec::new(), "a restore went back behind it"),
            ((4, 40), (4, 41), Vec::new(), "a restore went back, and as many came after it"),
            ((4, 40), (7, 70), with(entry(4, 40, &[])), "the last one is not there"),
            ((4, 40), (6, 60), vec![entry(4, 40, &[]), entry(6, 60, &["a"])], "one between is missing"),
        ] {
            assert_eq!(names(Some(seen), of(last, entries)), None, "{why}");
        }
        let too_many = Entry { number: 5, mark: 50, names: None };
        assert_eq!(names(Some((4, 40)), of((5, 50), vec![entry(4, 40, &[]), too_many])), None);
        assert_eq!(names(None, of((2, 20), vec![entry(2, 20, &["a"])])), None, "a new writer's first is missing");
        let seen = Seen::from([("gone".to_owned(), (1, 1))]);
        assert_eq!(since(Some(&seen), of((1, 10), vec![entry(1, 10, &[])])).names, None);
    }
}
