//! News is what people want to know of what happens: deployed, failed, healed, held. Few words for much that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line;
use crate::git::Commit;
use crate::pull::status::TroubleKind;
use crate::records::Event;
use crate::settings::NewsKind;
use crate::tree::ApiId;

/// What the case of a source is called, with its name behind it. No API can be called that.
pub const SOURCE: &str = "source ";

/// What the case of the installation as a whole is called.
pub const INSTALLATION: &str = "the installation";

/// How long news waits for company.
const GATHER: Duration = Duration::from_secs(2);

/// How long what is deployed waits at most for the rest that is being deployed.
const LONGEST: Duration = Duration::from_secs(600);

/// How long something must be well before it counts as healed, at first and at the longest: twice as long with each time that it
/// went wrong within an hour of the last.
const CALM: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// How long at most lies between the moment in which a revision is written down as what serves, and the one in which it is routed.
const ROUTED_WITHIN: Duration = Duration::from_secs(600);

/// How old an event may be that is still news.
const NEWS_FOR: Duration = Duration::from_secs(86_400);

/// The most characters of what is said of one.
const WORDS: usize = 500;

/// How many bytes of words of items wait at most.
const MOST: usize = 512 * 1024;

/// What is known of what happens, and waits to be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// The last event that was heard of; `None` where nobody has listened yet.
    pub heard: Option<u64>,
    /// What something has happened to that is not over.
    cases: BTreeMap<String, Case>,
    /// APIs whose removal is held, which was said.
    removals: BTreeSet<ApiId>,
    /// What is to be told.
    items: Vec<Item>,
    /// How many of each kind are not among those, since too many waited.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<NewsKind, usize>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Of which kind.
    pub kind: NewsKind,
    /// Where [`NewsKind::Deployed`] says too little: nothing new serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<How>,
    /// To which API; `None` for the installation, or a source of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiId>,
    /// What people call it, where that is not its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The revision that serves; that which failed, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// In a line. Not to be trusted: apps and commits have a say in it.
    pub what: String,
    /// The commit that it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// When it was seen.
    pub at: Timestamp,
}

/// What became of an API that serves nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is removed.
    Removed,
    /// It is suspended, as its folder says.
    Suspended,
}

/// What has happened to one API, or to something else that an event names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Case {
    /// What was found of it that somebody, or bad luck, had changed.
    found: Option<String>,
    /// When it was first routed since.
    routed: Option<Timestamp>,
    /// Since when that serves whose deployment was told.
    deployed: Option<Timestamp>,
    /// The revision whose failure was told.
    failed: Option<String>,
    /// How many times it went wrong, each within an hour of the last.
    spells: u32,
    /// When something was last wrong.
    wrong: Option<Timestamp>,
    /// Since when it is well.
    well: Option<Timestamp>,
}

/// How an API is.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What people call it, where that is not its id.
    pub name: Option<String>,
    /// It is as the tree says, and serves or is suspended.
    pub is_well: bool,
    /// It is suspended.
    pub is_suspended: bool,
    /// There is no such thing any more.
    pub is_gone: bool,
    /// It does not, for now.
    pub failed: Option<Failing>,
    /// What serves.
    pub revision: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// The commit that it came by.
    pub commit: Option<Commit>,
    /// What it came by, in words, where that is no commit.
    pub because: Option<&'static str>,
}

/// What has failed, which is not what serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Failing {
    /// By what it is known from other failures.
    pub key: String,
    /// Why, in words.
    pub why: String,
    /// Which revision, where it has come that far.
    pub revision: Option<String>,
    /// The commit that it came by, where that is known.
    pub commit: Option<Commit>,
}

impl How {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Suspended => "suspended",
        }
    }
}

impl Item {
    /// How many bytes it takes, about.
    fn size(&self) -> usize {
        let commit = self.commit.as_ref();
        let words = commit.map_or(0, |commit| commit.subject.len() + commit.author.len() + commit.email.len());
        200 + self.what.len() + words
    }
}

impl Case {
    fn goes_wrong(&mut self, at: Timestamp) {
        if self.found.is_none() && self.failed.is_none() {
            self.spells = if self.is_recent(at) { self.spells.saturating_add(1) } else { 1 };
        }
        self.wrong = Some(at);
    }

    fn is_calm(&self, now: Timestamp) -> bool {
        let calm = CALM.0.saturating_mul(1 << self.spells.saturating_sub(1).min(10)).min(CALM.1);
        [self.wrong, self.well].into_iter().flatten().all(|since| age(since, now) >= calm)
    }

    fn end(&mut self) {
        (self.found, self.failed, self.routed) = (None, None, None);
    }

    /// Whether nothing is to be told of it any more.
    fn is_over(&self) -> bool {
        self.found.is_none() && self.failed.is_none() && self.routed.is_none()
    }

    /// Whether it counts for how often something has gone wrong.
    fn is_recent(&self, now: Timestamp) -> bool {
        self.wrong.is_some_and(|wrong| age(wrong, now) < CALM.1)
    }

    /// Whether what serves could be taken for new once more.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.deployed.is_some_and(|since| age(since, now) < ROUTED_WITHIN * 2)
    }
}

impl News {
    /// Takes in an event.
    pub fn hear(&mut self, event: &Event, now: Timestamp) {
        self.heard = Some(event.number);
        let event = &event.event;
        // What becomes of a preview is its pull request's business.
        if age(event.at, now) > NEWS_FOR || event.api.as_ref().is_some_and(ApiId::is_preview) {
            return;
        }
        let (at, what) = (event.at, event.message.as_str());
        let (name, rest) = what.split_once(": ").unwrap_or(("", what));
        let (key, what) = match (&event.api, event.kind.as_str()) {
            (Some(api), _) => (api.to_string(), what),
            (None, "pull-trouble") => (format!("{SOURCE}{name}"), rest),
            (None, "found") => (INSTALLATION.to_owned(), what),
            (None, _) => return,
        };
        match (event.kind.as_str(), &event.api) {
            // How it is then says whether it has failed: one that is started again at once has not.
            ("found" | "failed" | "pull-trouble", _) => {
                let case = self.cases.entry(key).or_default();
                case.goes_wrong(at);
                if event.kind == "pull-trouble" {
                    // The last is what is over then, whatever was before it.
                    case.found = Some(line(TroubleKind::without_meanwhile(what), WORDS));
                } else {
                    case.found.get_or_insert_with(|| line(what, WORDS));
                }
            }
            ("serving" | "suspended", _) => drop(self.cases.entry(key).or_default().routed.get_or_insert(at)),
            ("held" | "stopped", Some(api)) => self.add(NewsKind::Held, api, what, at),
            ("removed" | "removed-as-confirmed", Some(api)) => {
                self.cases.remove(&key);
                let what = line(&format!("removed: {what}"), WORDS);
                self.push(Item { how: Some(How::Removed), ..item(NewsKind::Deployed, api, what, at) });
            }
            _ => {}
        }
    }

    /// Forgets what was heard: nobody wants to know.
    pub fn forget(&mut self) {
        *self = Self { heard: self.heard, ..Self::default() };
    }

    /// Of what it is to be known how it is: ids of APIs, [`INSTALLATION`], and names of sources behind [`SOURCE`].
    #[must_use]
    pub fn open(&self) -> Vec<String> {
        self.cases.iter().filter(|(_, case)| !case.is_over()).map(|(key, _)| key.clone()).collect()
    }

    /// Whether anything is to be told that is known from the rows of APIs alone.
    #[must_use]
    pub fn needs_rows(&self) -> bool {
        !self.removals.is_empty() || self.cases.values().any(|case| !case.is_over())
    }

    /// Whether that is a failure which was not told yet.
    #[must_use]
    pub fn is_new_failure(&self, key: &str, failing: &Failing) -> bool {
        self.cases.get(key).is_some_and(|case| case.failed.as_ref() != Some(&failing.key))
    }

    /// Takes in how those are. Of one of which that is not known now, nothing is said.
    pub fn judge(&mut self, now: Timestamp, view: impl Fn(&str) -> Option<View>) {
        for key in self.open() {
            let Some(view) = view(&key) else { continue };
            let Some(case) = self.cases.get_mut(&key) else { continue };
            let mut told = None;
            case.well = case.well.or(Some(now)).filter(|_| view.is_well);
            if view.is_gone {
                case.end();
            } else if let Some(failing) = &view.failed {
                if case.failed.as_ref() != Some(&failing.key) {
                    case.goes_wrong(now);
                    case.failed = Some(failing.key.clone());
                    told = Some((NewsKind::Failed, failing.why.clone()));
                }
            } else if view.is_well {
                let is_new = case.routed.is_some_and(|at| age(view.since, at) <= ROUTED_WITHIN)
                    && case.deployed != Some(view.since);
                let is_wrong = case.found.is_some() || case.failed.is_some();
                if is_new {
                    let subject = view.commit.as_ref().map(|commit| commit.subject.clone());
                    let subject = view.because.map(str::to_owned).or(subject);
                    let what = match (view.is_suspended, subject) {
                        (true, Some(subject)) => format!("suspended: {subject}"),
                        (true, None) => "suspended".to_owned(),
                        (false, subject) => subject.unwrap_or_else(|| "serves".to_owned()),
                    };
                    told = Some((NewsKind::Deployed, what));
                    case.deployed = Some(view.since);
                    case.end();
                } else if is_wrong && case.is_calm(now) {
                    let what = case.found.take().unwrap_or_else(|| "it was not as it should be".to_owned());
                    told = Some((NewsKind::Healed, healed(&key, &what)));
                    case.end();
                } else if !is_wrong {
                    case.end();
                }
            }
            if let Some((kind, what)) = told {
                let View { name, revision, commit, failed, is_suspended, .. } = view;
                let how = (kind == NewsKind::Deployed && is_suspended).then_some(How::Suspended);
                // What serves has not failed, and whoever wrote that has nothing to do with it.
                let (revision, commit) = match failed {
                    Some(failing) if kind == NewsKind::Failed => (failing.revision, failing.commit),
                    _ => (revision, commit),
                };
                let commit = commit.map(short);
                let api = ApiId::new(&key).ok();
                let what = if api.is_some() || key == INSTALLATION { what } else { format!("{key}: {what}") };
                self.push(Item { kind, how, api, name, revision, what: line(&what, WORDS), commit, at: now });
            }
        }
        self.cases.retain(|_, case| !case.is_over() || case.is_recent(now) || case.is_fresh(now));
    }

    /// Takes in which removals are held, and why. One that was told is not told again before it is over: `is_due` says of an
    /// API that it has no folder, and is not gone yet.
    pub fn hold_removals(&mut self, held: &BTreeMap<ApiId, String>, is_due: impl Fn(&ApiId) -> bool, now: Timestamp) {
        for (id, why) in held.iter().filter(|(id, _)| !self.removals.contains(*id)).collect::<Vec<_>>() {
            self.add(NewsKind::Held, id, why, now);
        }
        self.removals.retain(is_due);
        self.removals.extend(held.keys().cloned());
    }

    /// What is to be told now. What is deployed waits until nothing is under way, so that one commit is one message.
    pub fn take(&mut self, now: Timestamp, is_busy: bool) -> Vec<Item> {
        let oldest = |wanted: fn(NewsKind) -> bool| {
            self.items.iter().filter(|item| wanted(item.kind)).map(|item| age(item.at, now)).max()
        };
        let deployed = oldest(|kind| kind == NewsKind::Deployed);
        let others = oldest(|kind| kind != NewsKind::Deployed);
        let is_deployed = deployed.is_some_and(|age| age >= LONGEST || (age >= GATHER && !is_busy));
        let are_others = others.is_some_and(|age| age >= GATHER);
        let is_due = |item: &Item| if item.kind == NewsKind::Deployed { is_deployed } else { are_others };
        let (due, rest) = std::mem::take(&mut self.items).into_iter().partition(is_due);
        self.items = rest;
        due
    }

    /// How many more there were than those that are to be told now: of the kinds of these, and of those of which none wait.
    pub fn take_left_out(&mut self, due: &[Item]) -> BTreeMap<NewsKind, usize> {
        let waits = |kind: NewsKind| self.items.iter().any(|item| item.kind == kind);
        let is_due = |kind: &NewsKind| due.iter().any(|item| item.kind == *kind) || !waits(*kind);
        let (due, rest) = std::mem::take(&mut self.left_out).into_iter().partition(|(kind, _)| is_due(kind));
        self.left_out = rest;
        due
    }

    fn add(&mut self, kind: NewsKind, api: &ApiId, what: &str, at: Timestamp) {
        self.push(item(kind, api, line(what, WORDS), at));
    }

    fn push(&mut self, item: Item) {
        if self.items.iter().map(Item::size).sum::<usize>() + item.size() <= MOST {
            self.items.push(item);
        } else {
            let count = self.left_out.entry(item.kind).or_default();
            *count = count.saturating_add(1);
        }
    }
}

/// What is said of what is well again.
fn healed(key: &str, what: &str) -> String {
    if key.starts_with(SOURCE) {
        format!("followed again; it was {what}")
    } else {
        format!("{what}; it is as it should be again")
    }
}

/// What is said of an API, and nothing else is known of.
fn item(kind: NewsKind, api: &ApiId, what: String, at: Timestamp) -> Item {
    Item { kind, how: None, api: Some(api.clone()), name: None, revision: None, what, commit: None, at }
}

/// A commit in words that do not go on and on.
fn short(commit: Commit) -> Commit {
    let cut = |text: &str| line(text, WORDS);
    Commit { author: cut(&commit.author), email: cut(&commit.email), subject: cut(&commit.subject), ..commit }
}

/// How long ago that was; not at all where a clock says that it is still to come.
pub(super) fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
