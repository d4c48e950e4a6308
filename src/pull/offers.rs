//! The offers of a source are its pull requests, as its webhook told of them: which are open, and what became of each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::told::Told;
use crate::settings::{Follows, PullSource};
use crate::tree::{PullRequest, Seconds};

/// How many are remembered that are over: so that no delivery of before opens one again. Of those before them, [`Offers::until`].
const OVER: usize = 500;

/// How far the forge's clock may be ahead of ours: what it tells of a time beyond that holds up nobody for longer.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// How many may be open: anybody can open more.
const OPEN: usize = 200;

/// What has one served that was not told of in time.
const AGAIN: &str = "with the next push to it, or whatever else the forge tells of it, it is served";

/// All pull requests of a source that are known of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// By number.
    #[serde(default)]
    pub all: BTreeMap<u32, Offer>,
    /// Until when, by the forge's clock, something was told of those that were over and are forgotten. Of one that is not known,
    /// nothing from before then says that it is open still.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
}

/// One pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its number.
    pub pull_request: PullRequest,
    /// What the remote calls its last commit.
    pub reference: String,
    /// See [`Told::is_fork`].
    pub is_fork: bool,
    /// When it changed last, by the forge's clock.
    pub told: Option<Timestamp>,
    /// When it was last heard of, by ours.
    pub heard: Timestamp,
    /// Whether it is over here.
    pub is_over: bool,
    /// The last commit of it that was looked at.
    #[serde(default)]
    pub commit: Option<String>,
    /// Why that is not served.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Whether looking at it once more would change nothing about that.
    #[serde(default)]
    pub is_settled: bool,
}

/// A pull request that is not served, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its number.
    pub pull_request: PullRequest,
    /// In words.
    pub why: String,
}

impl Offers {
    /// As a state folder remembers them.
    ///
    /// # Errors
    /// Where the file cannot be read, which says nothing of what is open. One that is damaged is as if it were not there.
    pub fn remembered(state: &Path, source: &str) -> io::Result<Self> {
        match fs::read(path(state, source)) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Remembers them.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn remember(&self, state: &Path, source: &str) -> io::Result<()> {
        let path = path(state, source);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let aside = path.with_extension("new");
        fs::write(&aside, serde_json::to_vec_pretty(self)?)?;
        fs::rename(aside, path)
    }

    /// Takes in what was told of one.
    ///
    /// # Errors
    /// Why it is not to be served, where it is open.
    pub fn hear(&mut self, told: &Told, source: &PullSource, now: Timestamp) -> Result<(), String> {
        let number = told.pull_request;
        let key = key(number);
        let before = self.all.get(&key);
        if let Some(before) = before
            && let (Some(at), Some(last)) = (told.at, before.told)
            && (at < last || at == last && before.is_over)
        {
            return Err("something later was told of it".to_owned());
        }
        if before.is_none() && told.is_open && told.at.zip(self.until).is_some_and(|(at, until)| at <= until) {
            return Err(format!("so much was closed since that nobody knows whether it was, too; {AGAIN}"));
        }
        let refused = if told.is_open { refusal(told.is_fork, Some(&told.into), source) } else { None };
        let is_open = told.is_open && refused.is_none();
        let is_known_open = before.is_some_and(|before| !before.is_over);
        if is_open && !is_known_open && self.open().count() >= OPEN {
            return Err(format!("{OPEN} of this source are open already"));
        }
        let kept = before.filter(|_| is_open && is_known_open).cloned();
        let offer = Offer {
            pull_request: number,
            reference: told.reference(),
            is_fork: told.is_fork,
            told: told.at,
            heard: now,
            is_over: !is_open,
            commit: kept.as_ref().and_then(|kept| kept.commit.clone()),
            trouble: kept.as_ref().and_then(|kept| kept.trouble.clone()),
            is_settled: kept.is_some_and(|kept| kept.is_settled),
        };
        // Of one that was never open here nothing is to be remembered: a delivery of it again is refused again.
        if is_open || before.is_some() || !told.is_open {
            self.all.insert(key, offer);
        }
        self.forget();
        refused.map_or(Ok(()), Err)
    }

    /// Takes all of them for over, whatever was told of them.
    pub fn end(&mut self) {
        self.all.values_mut().for_each(|offer| offer.is_over = true);
    }

    /// Takes in what became of them, by how they were `before`. Of one of which something was told meanwhile that counts, and the
    /// answer is `false`.
    pub fn take_in(&mut self, before: &Self, after: Self) -> bool {
        let mut is_all = true;
        for (number, offer) in after.all {
            // Whole: forges tell the time by the second, in which one may be pushed to and closed.
            if before.all.get(&number) == self.all.get(&number) {
                self.all.insert(number, offer);
            } else {
                is_all = false;
            }
        }
        is_all
    }

    /// Those that are open.
    pub fn open(&self) -> impl Iterator<Item = &Offer> {
        self.all.values().filter(|offer| !offer.is_over)
    }

    /// Those that are not served.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        let why = |offer: &Offer| Some(Refused { pull_request: offer.pull_request, why: offer.trouble.clone()? });
        self.open().filter_map(why).collect()
    }

    /// Changes what is known of one.
    pub fn set(&mut self, number: PullRequest, change: impl FnOnce(&mut Offer)) {
        if let Some(offer) = self.all.get_mut(&key(number)) {
            change(offer);
        }
    }

    fn forget(&mut self) {
        let mut over: Vec<(Timestamp, u32)> =
            self.all.iter().filter(|(_, offer)| offer.is_over).map(|(key, offer)| (offer.heard, *key)).collect();
        over.sort_unstable();
        for (_, key) in over.iter().take(over.len().saturating_sub(OVER)) {
            let gone = self.all.remove(key);
            let told = gone.and_then(|gone| Some(gone.told?.min(gone.heard.saturating_add(AHEAD).ok()?)));
            self.until = self.until.max(told);
        }
    }
}

impl Offer {
    /// Why it is over now, whatever its commit is.
    #[must_use]
    pub fn over(&self, source: &PullSource, keep: Option<Seconds>, now: Timestamp) -> Option<String> {
        let Some(keep) = keep else { return Some("skep.yaml has no `previews` any more".to_owned()) };
        if now.duration_since(self.heard).as_secs_f64() > keep.0.as_secs_f64() {
            return Some(format!("it was not heard of for {keep} (previews.keep)"));
        }
        refusal(self.is_fork, None, source)
    }
}

/// Why pull requests of that kind are not served.
fn refusal(is_fork: bool, into: Option<&str>, source: &PullSource) -> Option<String> {
    let Some(previews) = &source.previews else { return Some("the source has no `previews`".to_owned()) };
    if is_fork && !previews.forks {
        return Some("it comes from another repository, and the source's `previews` has no `forks: true`".to_owned());
    }
    match (&source.follows, into) {
        (Follows::Branch(branch), Some(into)) if branch != into => {
            Some(format!("it is to be merged into {into:?}, and {branch} is followed"))
        }
        _ => None,
    }
}

/// As it is in JSON, whose keys are text.
fn key(number: PullRequest) -> u32 {
    number.get()
}

fn path(state: &Path, source: &str) -> PathBuf {
    state.join("pull").join(source).join("offers.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn source(previews: &str) -> PullSource {
        let text = format!(
            "previews: {{}}\npull: [{{ name: a, url: 'https://git.example/a', webhook: {{ env: A }}, previews: {previews} }}]"
        );
        Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None).0.pull[0].clone()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(number: u64, is_open: bool, second: i64) -> Told {
        Told {
            pull_request: PullRequest::new(number).unwrap(),
            is_merge_request: false,
            repository: "team/a".to_owned(),
            is_open,
            is_fork: false,
            into: "main".to_owned(),
            at: Some(at(second)),
        }
    }

    fn open(offers: &Offers) -> Vec<u32> {
        offers.open().map(|offer| offer.pull_request.get()).collect()
    }

    #[test]
    fn what_was_told_before_opens_nothing_again() {
        let (source, mut offers) = (source("{}"), Offers::default());
        offers.hear(&told(1, true, 10), &source, at(0)).unwrap();
        offers.hear(&told(2, true, 10), &source, at(0)).unwrap();
        assert_eq!(open(&offers), [1, 2]);
        offers.hear(&told(1, false, 20), &source, at(1)).unwrap();
        for earlier in [10, 19, 20] {
            offers.hear(&told(1, true, earlier), &source, at(2)).unwrap_err();
        }
        assert_eq!(open(&offers), [2]);
        offers.hear(&told(1, true, 21), &source, at(3)).unwrap();
        assert_eq!(open(&offers), [1, 2], "opened again");
        let state = tempfile::tempdir().unwrap();
        offers.remember(state.path(), "a").unwrap();
        assert_eq!(Offers::remembered(state.path(), "a").unwrap(), offers);
        // One that closes before anybody has heard that it was open stays so.
        offers.hear(&told(3, false, 30), &source, at(4)).unwrap();
        offers.hear(&told(3, true, 29), &source, at(5)).unwrap_err();
        assert_eq!(open(&offers), [1, 2]);
    }

    #[test]
    fn what_was_told_before_opens_nothing_again_however_many_were_closed_since() {
        let (source, mut offers) = (source("{}"), Offers::default());
        // One that stays open all the time.
        offers.hear(&told(9999, true, 5), &source, at(5)).unwrap();
        let opened = |number: u64| told(number, true, 10 * i64::try_from(number).unwrap());
        let closed = |number: u64| Told {
            at: opened(number).at.map(|at| at + SignedDuration::from_secs(1)),
            ..told(number, false, 0)
        };
        let heard = |told: &Told| told.at.unwrap();
        for number in 1..=1200 {
            for told in [opened(number), closed(number)] {
                offers.hear(&told, &source, heard(&told)).unwrap();
            }
        }
        assert_eq!(offers.all.len(), OVER + 1);
        let state = tempfile::tempdir().unwrap();
        offers.remember(state.path(), "a").unwrap();
        let mut offers = Offers::remembered(state.path(), "a").unwrap();
        for number in 1..=1200 {
            offers.hear(&opened(number), &source, at(20_000)).unwrap_err();
        }
        assert_eq!(open(&offers), [9999]);
        // One of which nothing was heard until now, opened while the last of them were: the delivery only came late.
        offers.hear(&Told { at: opened(1100).at, ..told(2000, true, 0) }, &source, at(20_000)).unwrap();
        // From before then, it may be over as well; until something new is told of it, or of one that was closed.
        let late = Told { at: opened(300).at, ..told(2001, true, 0) };
        assert!(offers.hear(&late, &source, at(20_000)).unwrap_err().contains("with the next push"));
        for number in [2001, 7] {
            offers.hear(&told(number, true, 20_001), &source, at(20_001)).unwrap();
        }
        offers.hear(&told(9999, true, 20_001), &source, at(20_001)).unwrap();
        assert_eq!(open(&offers), [7, 2000, 2001, 9999]);
    }

    #[test]
    fn a_forge_whose_clock_was_far_ahead_holds_up_nobody_for_ever() {
        let (source, mut offers) = (source("{}"), Offers::default());
        for number in 1..1000 {
            offers.hear(&told(number, false, 4_000_000_000), &source, at(0)).unwrap();
        }
        let day = 24 * 60 * 60;
        offers.hear(&told(5000, true, day), &source, at(day)).unwrap_err();
        offers.hear(&told(5000, true, day + 1), &source, at(day)).unwrap();
        assert_eq!(open(&offers), [5000]);
    }

    #[test]
    fn what_is_told_while_one_is_looked_at_counts_also_in_the_same_second() {
        let (source, mut now) = (source("{}"), Offers::default());
        now.hear(&told(1, true, 10), &source, at(0)).unwrap();
        now.hear(&told(2, true, 10), &source, at(0)).unwrap();
        let (before, mut after) = (now.clone(), now.clone());
        for number in [1, 2] {
            after.set(PullRequest::new(number).unwrap(), |offer| offer.is_settled = true);
        }
        now.hear(&told(1, false, 10), &source, at(0)).unwrap();
        assert!(!now.take_in(&before, after.clone()), "it is to be looked at once more");
        assert_eq!(open(&now), [2], "the first is closed");
        assert!(now.open().all(|offer| offer.is_settled), "and of the second all is as it became");
        let before = now.clone();
        assert!(now.take_in(&before, before.clone()));
        now.end();
        assert!(open(&now).is_empty());
    }

    #[test]
    fn only_what_the_settings_let_in_is_open_and_not_for_ever() {
        let mut offers = Offers::default();
        let fork = Told { is_fork: true, ..told(1, true, 1) };
        assert!(offers.hear(&fork, &source("{}"), at(0)).unwrap_err().contains("forks: true"));
        let other = Told { into: "next".to_owned(), ..told(2, true, 1) };
        assert!(offers.hear(&other, &source("{ forks: true }"), at(0)).unwrap_err().contains("\"next\""));
        assert!(offers.all.is_empty(), "strangers fill no memory");
        offers.hear(&fork, &source("{ forks: true }"), at(0)).unwrap();
        // One that turns elsewhere ends.
        offers.hear(&told(3, true, 1), &source("{}"), at(0)).unwrap();
        offers.hear(&Told { into: "next".to_owned(), ..told(3, true, 2) }, &source("{}"), at(0)).unwrap_err();
        assert_eq!(open(&offers), [1]);
        let offer = offers.open().next().unwrap().clone();
        assert!(offer.over(&source("{}"), Some(Seconds::new(10)), at(5)).unwrap().contains("forks: true"));
        assert_eq!(offer.over(&source("{ forks: true }"), Some(Seconds::new(10)), at(10)), None);
        assert!(offer.over(&source("{ forks: true }"), Some(Seconds::new(10)), at(11)).is_some());
        assert!(offer.over(&source("{ forks: true }"), None, at(5)).is_some());
        for number in 0..2000 {
            let _ = offers.hear(&told(10 + number, true, 1), &source("{}"), at(0));
        }
        assert_eq!(open(&offers).len(), OPEN);
        for number in 0..2000 {
            offers.hear(&told(10 + number, false, 2), &source("{}"), at(1)).unwrap();
        }
        assert_eq!(offers.all.len(), OVER + 1);
    }
}
