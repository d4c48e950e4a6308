//! What was told, and what waits to be, as the records keep it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::commit::Report;
use super::letter::Letter;
use super::news::News;

/// Of what is written; another one is not read.
const VERSION: u32 = 1;

/// How many letters wait at most. Of more, the oldest are thrown away.
const MOST: usize = 200;

/// What was told, and what waits to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    version: u32,
    /// To forges, by repository.
    #[serde(default)]
    pub reports: BTreeMap<String, Report>,
    /// To people.
    #[serde(default)]
    pub news: News,
    /// What is on its way to them.
    #[serde(default)]
    pub letters: Vec<Letter>,
    /// Who cannot be told, and why.
    #[serde(default)]
    pub troubles: BTreeMap<String, Trouble>,
}

/// Why somebody cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// In words.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            version: VERSION,
            reports: BTreeMap::new(),
            news: News::default(),
            letters: Vec::new(),
            troubles: BTreeMap::new(),
        }
    }
}

impl Told {
    /// What the records have; nothing where that is of another version, or damaged: then it is told anew what is so now.
    #[must_use]
    pub fn read(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::default() };
        match serde_json::from_str::<Self>(text) {
            Ok(told) if told.version == VERSION => told,
            Ok(told) => {
                tracing::warn!("what was told others is of form {}, and is passed over", told.version);
                Self::default()
            }
            Err(error) => {
                tracing::warn!("what was told others cannot be read, and is passed over: {error}");
                Self::default()
            }
        }
    }

    /// As the records keep it.
    #[must_use]
    pub fn text(&self) -> String {
        // Of maps with text for keys, and of nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Puts letters behind those that wait, and answers how many of the oldest were thrown away.
    pub fn send(&mut self, letters: Vec<Letter>) -> usize {
        self.letters.extend(letters);
        let surplus = self.letters.len().saturating_sub(MOST);
        self.letters.drain(..surplus).count()
    }

    /// Notes that somebody cannot be told; answers whether that is news.
    pub fn fail(&mut self, whom: &str, what: String, now: Timestamp) -> bool {
        match self.troubles.get_mut(whom) {
            Some(trouble) if trouble.what == what => false,
            Some(trouble) => {
                trouble.what = what;
                true
            }
            None => self.troubles.insert(whom.to_owned(), Trouble { what, since: now }).is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_outlives_a_restart_and_nothing_damaged_is_believed() {
        let mut told = Told::default();
        told.reports.insert("source team".into(), Report { seen: Some("a".into()), commits: Vec::new() });
        assert!(told.fail("notification ops", "it answers 500".into(), Timestamp::UNIX_EPOCH));
        assert!(!told.fail("notification ops", "it answers 500".into(), Timestamp::MAX));
        assert!(told.fail("notification ops", "it answers 404".into(), Timestamp::MAX));
        assert_eq!(told.troubles["notification ops"].since, Timestamp::UNIX_EPOCH);
        assert_eq!(Told::read(Some(&told.text())), told);
        for text in ["", "{}", "{\"version\":2}", "[]"] {
            assert_eq!(Told::read(Some(text)), Told::default());
        }
    }
}
