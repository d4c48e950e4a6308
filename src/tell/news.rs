//! News is what people want to know of what happens: deployed, failed, healed, held. Few words for much that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line;
use crate::git::Commit;
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

/// How many items wait at most.
const MOST: usize = 10_000;

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
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Of which kind.
    pub kind: NewsKind,
    /// To which API; `None` for the installation, or a source of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiId>,
    /// What people call it, where that is not its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The revision that serves.
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
    /// It is as the tree says, and serves.
    pub is_well: bool,
    /// There is no such thing any more.
    pub is_gone: bool,
    /// It does not, for now: of which revision, and why.
    pub failed: Option<(String, String)>,
    /// What serves.
    pub revision: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// The commit that it came by.
    pub commit: Option<Commit>,
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
        if age(event.at, now) > NEWS_FOR {
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
                case.found.get_or_insert_with(|| line(what, WORDS));
            }
            ("serving" | "suspended", _) => drop(self.cases.entry(key).or_default().routed.get_or_insert(at)),
            ("held" | "stopped", Some(api)) => self.add(NewsKind::Held, api, what, at),
            ("removed" | "removed-as-confirmed", Some(api)) => {
                self.cases.remove(&key);
                self.add(NewsKind::Deployed, api, &format!("removed: {what}"), at);
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

    /// Takes in how those are.
    pub fn judge(&mut self, now: Timestamp, view: impl Fn(&str) -> View) {
        for key in self.open() {
            let view = view(&key);
            let Some(case) = self.cases.get_mut(&key) else { continue };
            let mut told = None;
            case.well = case.well.or(Some(now)).filter(|_| view.is_well);
            if view.is_gone {
                case.end();
            } else if let Some((revision, why)) = &view.failed {
                if case.failed.as_ref() != Some(revision) {
                    case.goes_wrong(now);
                    case.failed = Some(revision.clone());
                    told = Some((NewsKind::Failed, why.clone()));
                }
            } else if view.is_well {
                let is_new = case.routed.is_some_and(|at| age(view.since, at) <= ROUTED_WITHIN)
                    && case.deployed != Some(view.since);
                let is_wrong = case.found.is_some() || case.failed.is_some();
                if is_new {
                    let what =
                        view.commit.as_ref().map_or_else(|| "serves".to_owned(), |commit| commit.subject.clone());
                    told = Some((NewsKind::Deployed, what));
                    case.deployed = Some(view.since);
                    case.end();
                } else if is_wrong && case.is_calm(now) {
                    let what = case.found.take().unwrap_or_else(|| "it was not as it should be".to_owned());
                    told = Some((NewsKind::Healed, format!("{what}; it is as it should be again")));
                    case.end();
                } else if !is_wrong {
                    case.end();
                }
            }
            if let Some((kind, what)) = told {
                let View { name, revision, commit, .. } = view;
                let api = ApiId::new(&key).ok();
                let what = if api.is_some() || key == INSTALLATION { what } else { format!("{key}: {what}") };
                self.push(Item { kind, api, name, revision, what: line(&what, WORDS), commit, at: now });
            }
        }
        self.cases.retain(|_, case| !case.is_over() || case.is_recent(now) || case.is_fresh(now));
    }

    /// Takes in which removals are held, and why.
    pub fn hold_removals(&mut self, held: &BTreeMap<ApiId, String>, now: Timestamp) {
        for (id, why) in held.iter().filter(|(id, _)| !self.removals.contains(*id)).collect::<Vec<_>>() {
            self.add(NewsKind::Held, id, why, now);
        }
        self.removals = held.keys().cloned().collect();
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

    fn add(&mut self, kind: NewsKind, api: &ApiId, what: &str, at: Timestamp) {
        let what = line(what, WORDS);
        self.push(Item { kind, api: Some(api.clone()), name: None, revision: None, what, commit: None, at });
    }

    fn push(&mut self, item: Item) {
        if self.items.len() < MOST {
            self.items.push(item);
        }
    }
}

fn age(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewEvent;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn event(second: i64, api: &str, kind: &str, message: &str) -> Event {
        let (api, kind, message) = (ApiId::new(api).ok(), kind.to_owned(), message.to_owned());
        Event { number: 1, event: NewEvent { at: at(second), api, revision: None, kind, message } }
    }

    fn well(since: i64) -> View {
        let commit = None;
        View { name: None, is_well: true, is_gone: false, failed: None, revision: None, since: at(since), commit }
    }

    fn failing(revision: &str) -> View {
        View { is_well: false, failed: Some((revision.to_owned(), "it ended".to_owned())), ..well(0) }
    }

    /// What is told at that second, quiet as it is, with an API as `view` says.
    fn told(news: &mut News, second: i64, view: &View) -> Vec<(NewsKind, String)> {
        news.judge(at(second), |_| view.clone());
        news.take(at(second + 3), false).into_iter().map(|item| (item.kind, item.what)).collect()
    }

    #[test]
    fn what_comes_to_serve_anew_is_deployed_and_what_is_routed_again_is_not() {
        let mut news = News::default();
        // It is written down as what serves, and then routed.
        news.hear(&event(3, "a", "serving", "first"), at(3));
        assert_eq!(told(&mut news, 4, &well(2)), [(NewsKind::Deployed, "serves".to_owned())]);
        news.hear(&event(10, "a", "serving", "routed again"), at(10));
        assert_eq!(told(&mut news, 11, &well(2)), []);
        assert!(news.open().is_empty());
        // Two instances of a new revision join one after the other.
        news.hear(&event(20, "a", "serving", "1 of 2"), at(20));
        assert_eq!(told(&mut news, 20, &View { is_well: false, ..well(2) }), []);
        news.hear(&event(22, "a", "serving", "2 of 2"), at(22));
        assert_eq!(told(&mut news, 23, &well(19)).len(), 1);
        // Long after that it is old, and nothing of it needs to be remembered.
        assert_eq!(told(&mut news, 5000, &well(19)), []);
        assert!(news.cases.is_empty());
        news.hear(&event(5001, "a", "serving", "routed again"), at(5001));
        assert_eq!(told(&mut news, 5002, &well(19)), []);
    }

    #[test]
    fn a_revision_fails_once_however_often_it_is_tried() {
        let mut news = News::default();
        for second in [1, 10, 30, 70] {
            news.hear(&event(second, "a", "failed", "it ended"), at(second));
            let expected = if second == 1 { vec![(NewsKind::Failed, "it ended".to_owned())] } else { vec![] };
            assert_eq!(told(&mut news, second, &failing("r1")), expected, "{second}");
        }
        news.hear(&event(90, "a", "failed", "it ended"), at(90));
        assert_eq!(told(&mut news, 90, &failing("r2")).len(), 1, "another revision is another failure");
        news.hear(&event(95, "a", "serving", "mended"), at(95));
        assert_eq!(told(&mut news, 96, &well(94)), [(NewsKind::Deployed, "serves".to_owned())]);
    }

    #[test]
    fn what_went_wrong_is_healed_once_it_stays_so_and_one_that_flaps_is_told_of_ever_less() {
        let mut news = News::default();
        news.hear(&event(0, "a", "found", "an instance is gone"), at(0));
        assert_eq!(told(&mut news, 1, &View { is_well: false, ..well(-100) }), [], "it is not there yet");
        assert_eq!(told(&mut news, 5, &well(-100)), [], "it may go again");
        assert_eq!(told(&mut news, 14, &well(-100)), []);
        let healed = told(&mut news, 15, &well(-100));
        assert_eq!(healed, [(NewsKind::Healed, "an instance is gone; it is as it should be again".to_owned())]);
        // Each second of an hour, and well in between.
        let mut count = 0;
        for second in 16..3616 {
            if second % 15 == 0 {
                news.hear(&event(second, "a", "failed", "it ended"), at(second));
            }
            count += told(&mut news, second, &well(-100)).len();
        }
        assert!(count <= 2, "{count} messages of one API that goes wrong every quarter of a minute");
    }

    #[test]
    fn a_commit_that_changes_much_is_one_message_and_a_failure_waits_for_nothing() {
        let mut news = News::default();
        for number in 0..200 {
            news.hear(&event(number / 10, &format!("a{number}"), "serving", "first"), at(number / 10));
        }
        news.judge(at(20), |_| well(20));
        assert_eq!(news.take(at(30), true).len(), 0, "the rest of it is on its way");
        news.hear(&event(30, "b", "held", "held by Ada"), at(30));
        let urgent: Vec<NewsKind> = news.take(at(33), true).iter().map(|item| item.kind).collect();
        assert_eq!(urgent, [NewsKind::Held]);
        assert_eq!(news.take(at(33), false).len(), 200);
    }

    #[test]
    fn sources_removals_and_the_installation_are_told_of_too() {
        let mut news = News::default();
        news.hear(&event(0, "-", "pull-trouble", "team: broken: a: b"), at(0));
        assert_eq!(news.open(), ["source team"]);
        let told_of = told(&mut news, 0, &failing("broken"));
        assert_eq!(told_of, [(NewsKind::Failed, "source team: it ended".to_owned())]);
        assert_eq!(told(&mut news, 20, &well(0)), []);
        assert_eq!(told(&mut news, 30, &well(0))[0].0, NewsKind::Healed);
        news.hear(&event(30, "-", "found", "the firewall's rules"), at(30));
        assert_eq!(told(&mut news, 31, &well(0)), []);
        assert!(told(&mut news, 45, &well(0))[0].1.starts_with("the firewall's rules; "));
        let held = BTreeMap::from([(ApiId::new("a").unwrap(), "too many".to_owned())]);
        news.hold_removals(&held, at(50));
        news.hold_removals(&held, at(51));
        assert_eq!(told(&mut news, 52, &well(0)), [(NewsKind::Held, "too many".to_owned())]);
        let gone = View { is_gone: true, is_well: false, ..well(0) };
        news.hear(&event(60, "a", "found", "x"), at(60));
        assert_eq!(told(&mut news, 100, &gone), []);
        assert!(news.open().is_empty());
        news.hear(&event(-90_000, "a", "held", "long ago"), at(100));
        assert_eq!(told(&mut news, 100, &well(0)), []);
    }
}
