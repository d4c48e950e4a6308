//! What was told, and what waits to be, as the records keep it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::commit::Report;
use super::letter::Letter;
use super::line;
use super::news::News;

/// Of what is written; another one is not read.
const VERSION: u32 = 1;

/// How many letters to one of them wait at most, and of how many bytes. Of more, the oldest are thrown away.
const MOST: (usize, usize) = (200, 256 * 1024);

/// How many bytes wait for all of them. Of more, the oldest are thrown away of whom most wait for.
const MOST_OF_ALL: usize = 1024 * 1024;

/// The most characters of why somebody cannot be told.
const WORDS: usize = 500;

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
        let before = self.letters.len();
        let (mut of, mut all) = (BTreeMap::<String, (usize, usize)>::new(), 0);
        for letter in &self.letters {
            let (count, bytes) = of.entry(letter.to.clone()).or_default();
            *count += 1;
            *bytes += letter.body.len();
            all += letter.body.len();
        }
        loop {
            let largest = of.iter().max_by_key(|(_, (_, bytes))| *bytes).filter(|_| all > MOST_OF_ALL);
            let over = of.iter().find(|(_, (count, bytes))| *count > MOST.0 || *bytes > MOST.1).or(largest);
            let Some(whom) = over.map(|(whom, _)| whom.clone()) else { break };
            let Some(place) = self.letters.iter().position(|letter| letter.to == whom) else { break };
            let size = self.letters.remove(place).body.len();
            all -= size;
            if let Some((count, bytes)) = of.get_mut(&whom) {
                (*count, *bytes) = (*count - 1, *bytes - size);
            }
        }
        before - self.letters.len()
    }

    /// Notes that somebody cannot be told; answers whether that is news.
    pub fn fail(&mut self, whom: &str, what: &str, now: Timestamp) -> bool {
        let what = line(what, WORDS);
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
        assert!(told.fail("notification ops", "it answers 500", Timestamp::UNIX_EPOCH));
        assert!(!told.fail("notification ops", "it answers 500", Timestamp::MAX));
        assert!(told.fail("notification ops", "it answers 404", Timestamp::MAX));
        assert_eq!(told.troubles["notification ops"].since, Timestamp::UNIX_EPOCH);
        assert_eq!(Told::read(Some(&told.text())), told);
        for text in ["", "{}", "{\"version\":2}", "[]"] {
            assert_eq!(Told::read(Some(text)), Told::default());
        }
    }
    fn letters(to: &str, count: usize, size: usize) -> Vec<Letter> {
        let letter = |number| Letter {
            id: format!("{to}-{number}"),
            to: to.to_owned(),
            at: Timestamp::UNIX_EPOCH,
            body: "x".repeat(size),
        };
        (0..count).map(letter).collect()
    }

    #[test]
    fn whoever_is_away_costs_so_many_bytes_and_nobody_else_a_letter() {
        let mut told = Told::default();
        assert_eq!(told.send(letters("alive", 3, 10)), 0);
        assert_eq!(told.send(letters("dead", 100, 20 * 1024)), 88);
        assert_eq!(told.letters.iter().filter(|letter| letter.to == "alive").count(), 3);
        assert_eq!(told.letters.iter().filter(|letter| letter.to == "dead").count(), 12);
        assert_eq!(told.letters.last().unwrap().id, "dead-99", "the oldest go");
        assert_eq!(told.send(letters("small", 300, 10)), 100);
        for to in ["b", "c", "d", "e", "f"] {
            told.send(letters(to, 12, 20 * 1024));
        }
        assert!(told.text().len() < 1_200_000, "{}", told.text().len());
        assert_eq!(told.letters.iter().filter(|letter| letter.to == "alive").count(), 3);
        assert!(told.letters.iter().filter(|letter| letter.to == "f").count() >= 8);
    }
}
