//! What came of asking a source: for somebody who has asked, and waits for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::hands::Righted;
use super::status::SourceStatus;
use super::turn::{News, Stop};

/// What came of asking a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// In a word.
    pub outcome: Outcome,
    /// The folders that were placed.
    pub changed: Vec<String>,
    /// The folders that went.
    pub gone: Vec<String>,
    /// How the source is now.
    #[serde(flatten)]
    pub status: SourceStatus,
}

/// What came of it in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It had something new, which lies in the tree.
    Placed,
    /// What it has lies in the tree already.
    Unchanged,
    /// What it has does not lie in the tree, or nobody who counts has signed what does; its status says why.
    Trouble,
}

impl Asked {
    /// Of a turn, after which the source is like that.
    pub(super) fn of(turned: &Result<Option<News>, Stop>, righted: &Righted, status: SourceStatus) -> Self {
        let (outcome, difference) = match turned {
            Ok(news) if righted.stop.is_some() => (Outcome::Trouble, news.as_ref().map(|news| &news.difference)),
            Ok(Some(news)) => (Outcome::Placed, Some(&news.difference)),
            Ok(None) if !righted.back.is_empty() => (Outcome::Placed, None),
            Ok(None) => (Outcome::Unchanged, None),
            Err(_) => (Outcome::Trouble, None),
        };
        let changed = difference.iter().flat_map(|difference| &difference.changed).chain(&righted.back);
        let changed = changed.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let gone = difference.iter().flat_map(|difference| &difference.gone).cloned().collect();
        Self { outcome, changed, gone, status }
    }
}
