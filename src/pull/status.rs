//! The status of a source: what of it was placed, and what keeps it from being followed, since when.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::offers::{Offers, Refused};
use super::pick::described;
use crate::git::Commit;
use crate::settings::PullSource;

/// How far a commit's time may be ahead of this host's before somebody is told that a clock is wrong.
const AHEAD: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// How one source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Where it is.
    pub url: String,
    /// What of it is followed, in words.
    pub follows: String,
    /// What of it lies in the tree, and serves where it can.
    pub placed: Option<Placed>,
    /// When it last said what it has.
    pub asked: Option<Timestamp>,
    /// What keeps it from being followed.
    pub trouble: Option<Trouble>,
    /// Its pull requests that are open and not served, and why; none of them keeps it from being followed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refused: Vec<Refused>,
}

/// A commit that lies in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Which.
    pub commit: Commit,
    /// The branch or tag that it came by.
    pub reference: String,
    /// When it was placed.
    pub at: Timestamp,
    /// Who signed it, where somebody had to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed_by: Option<String>,
    /// What somebody should know of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

/// What keeps a source from being followed. What was placed last goes on being served, but for what hands changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Of which kind.
    pub kind: TroubleKind,
    /// What it is, in words.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// The commit that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit: Option<String>,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// The remote cannot be reached, or does not let us in.
    Unreachable,
    /// It has no such branch, or no tag that fits.
    Missing,
    /// Whoever should have signed has not.
    Unsigned,
    /// The commit is no tree that could be served.
    Broken,
    /// Another source has an API of that id.
    Conflict,
    /// Somebody has changed here what the commit changes.
    Edited,
    /// Something here is not as it should be.
    Failed,
}

impl TroubleKind {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Missing => "missing",
            Self::Unsigned => "unsigned",
            Self::Broken => "broken",
            Self::Conflict => "conflict",
            Self::Edited => "edited",
            Self::Failed => "failed",
        }
    }

    /// What serves meanwhile, in words.
    #[must_use]
    pub fn meanwhile(self) -> &'static str {
        match self {
            Self::Edited => "what hands changed is served as it lies here, and the rest as it was placed last",
            _ => "what was placed last goes on being served",
        }
    }

    /// What keeps a source from being followed, as an event tells it, without what serves meanwhile.
    #[must_use]
    pub fn without_meanwhile(told: &str) -> &str {
        let without = |kind: Self| told.strip_suffix(kind.meanwhile())?.strip_suffix("; ");
        without(Self::Edited).or_else(|| without(Self::Failed)).unwrap_or(told)
    }

    /// Whether one and the same trouble has other words each time: how a remote is away, which file there is no room for.
    #[must_use]
    pub fn is_in_any_words(self) -> bool {
        matches!(self, Self::Unreachable | Self::Failed)
    }
}

impl SourceStatus {
    /// Of a source that nothing is known of yet.
    #[must_use]
    pub fn new(source: &PullSource) -> Self {
        Self {
            source: source.name.clone(),
            url: source.url.clone(),
            follows: described(&source.follows),
            placed: None,
            asked: None,
            trouble: None,
            refused: Vec::new(),
        }
    }

    /// What is remembered of a source in a state folder: by this process, or by one before it.
    #[must_use]
    pub fn remembered(state: &Path, source: &PullSource) -> Self {
        let read = fs::read(path(state, &source.name)).ok();
        let kept =
            read.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok()).unwrap_or_else(|| Self::new(source));
        // What the settings say now.
        let refused = Offers::remembered(state, &source.name).unwrap_or_default().refused();
        Self { placed: kept.placed, asked: kept.asked, trouble: kept.trouble, refused, ..Self::new(source) }
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn remember(&self, state: &Path) -> io::Result<()> {
        let path = path(state, &self.source);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let aside = path.with_extension("new");
        fs::write(&aside, serde_json::to_vec_pretty(self)?)?;
        fs::rename(aside, path)
    }

    /// Says that something keeps it from being followed; answers whether that is news.
    pub fn fail(&mut self, kind: TroubleKind, what: &str, now: Timestamp) -> bool {
        let before = self.trouble.take();
        let is_news = before
            .as_ref()
            .is_none_or(|before| before.kind != kind || (before.what != what && !kind.is_in_any_words()));
        let since = before.filter(|before| before.kind == kind).map_or(now, |before| before.since);
        self.trouble = Some(Trouble { kind, what: what.to_owned(), since, commit: None });
        is_news
    }

    /// In a line or some, without its name.
    #[must_use]
    pub fn text(&self) -> String {
        let placed = match &self.placed {
            Some(Placed { commit, reference, .. }) => format!("{reference} at {} {}", commit.short(), commit.subject),
            None => "nothing of it is placed yet".to_owned(),
        };
        format!("{} of {}: {placed}", self.follows, self.url)
    }
}

/// What somebody should know of the time of a commit.
#[must_use]
pub fn clock_note(commit: &Commit, now: Timestamp) -> Option<String> {
    let ahead = commit.at.duration_since(now);
    (ahead > AHEAD)
        .then(|| format!("it is dated {}, and here it is {now:.0}: one of the two clocks is wrong", commit.at))
}

fn path(state: &Path, name: &str) -> PathBuf {
    state.join("pull").join(name).join("status.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn trouble_is_news_once_and_keeps_the_moment_in_which_it_began() {
        let settings = "pull: [{ name: a, url: 'https://git.example/a' }]";
        let settings = Settings::settle(Path::new("/srv"), settings.as_bytes(), |_| None).0;
        let mut status = SourceStatus::new(&settings.pull[0]);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(status.fail(TroubleKind::Unreachable, "refused", at(1)));
        assert!(!status.fail(TroubleKind::Unreachable, "timed out", at(2)));
        assert_eq!(status.trouble.as_ref().unwrap().since, at(1));
        assert_eq!(status.trouble.as_ref().unwrap().what, "timed out");
        assert!(status.fail(TroubleKind::Broken, "x", at(3)));
        assert!(status.fail(TroubleKind::Broken, "y", at(4)));
        assert!(!status.fail(TroubleKind::Broken, "y", at(5)));
        assert_eq!(status.trouble.as_ref().unwrap().since, at(3));
        let state = tempfile::tempdir().unwrap();
        status.remember(state.path()).unwrap();
        assert_eq!(SourceStatus::remembered(state.path(), &settings.pull[0]), status);
    }

    #[test]
    fn a_commit_from_the_future_says_that_a_clock_is_wrong() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let commit = |second| Commit {
            id: "a".repeat(40),
            author: String::new(),
            email: String::new(),
            at: at(second),
            subject: String::new(),
        };
        assert_eq!(clock_note(&commit(600), at(0)), None);
        assert_eq!(clock_note(&commit(0), at(1_000_000)), None);
        let note = clock_note(&commit(601), at(0)).unwrap();
        assert!(note.contains("dated 1970-01-01T00:10:01Z, and here it is 1970-01-01T00:00:00Z"), "{note}");
    }
}
