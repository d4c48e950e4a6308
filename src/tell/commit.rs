//! A commit that a forge is told of: which APIs it changes, and what became of them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line;
use crate::tree::ApiId;

/// How many commits of one repository are remembered at most. Of more, the oldest are forgotten.
const MOST: usize = 50;

/// How many APIs are named in a sentence.
const NAMED: usize = 4;

/// The most characters of a description: GitHub's limit, and the lowest.
pub const DESCRIPTION: usize = 140;

/// The most characters of why a commit was not let in.
const REFUSED: usize = 500;

/// What became of one API that a commit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is as the commit says.
    Done,
    /// It is on its way there.
    UnderWay,
    /// It is not, and why.
    Failed(String),
    /// It is left as it is, on whose word.
    Held(String),
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Some of it is still on its way.
    Pending,
    /// All of it is in force.
    Success,
    /// Some of it is not, and does not come by itself.
    Failure,
    /// A later commit has changed the same before it was in force.
    Superseded,
}

/// What a forge is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// In a word.
    pub state: State,
    /// In a line.
    pub text: String,
}

/// A deployment at a forge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number there.
    pub id: u64,
    /// What was said of it last.
    pub told: Option<State>,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Its name.
    pub id: String,
    /// The branch or tag that it came by.
    pub reference: String,
    /// Since when something is to be told of it.
    pub at: Timestamp,
    /// The APIs that it changes and that are not as it says yet.
    pub waiting: BTreeSet<ApiId>,
    /// What it changes, in a few words; empty where that is nothing.
    pub names: String,
    /// The commit that has changed some of the same, before they were in force.
    pub superseded: Option<String>,
    /// Why it was not let in.
    pub refused: Option<String>,
    /// What was told last.
    pub told: Option<Word>,
    /// Its deployment, where there is one.
    pub deployment: Option<Deployment>,
    /// It was sent that one begins, and nobody knows whether it was taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_sent: bool,
}

/// What is told of one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The commit that was seen in force last.
    pub seen: Option<String>,
    /// Those of which there may still be something to tell, the newest last.
    pub commits: Vec<Tracked>,
}

impl Tracked {
    /// What there is to tell of it now. What is done is done: how it fares from then on is not the commit's matter.
    pub fn word(&mut self, standing: impl Fn(&ApiId) -> Standing) -> Word {
        let say = |state, text: String| Word { state, text: line(&text, DESCRIPTION) };
        if let Some(why) = &self.refused {
            return say(State::Failure, format!("not deployed: {why}"));
        }
        let (mut failed, mut held, mut is_under_way) = (Vec::new(), None, false);
        self.waiting.retain(|id| {
            match standing(id) {
                Standing::Done => return false,
                Standing::UnderWay => is_under_way = true,
                Standing::Failed(why) => failed.push((id.clone(), why)),
                Standing::Held(why) => held = held.take().or(Some(why)),
            }
            true
        });
        match (failed.first(), held) {
            _ if is_under_way => say(State::Pending, format!("deploying {}", self.names)),
            (Some((id, why)), _) => {
                let more = if failed.len() > 1 { format!("{} failed; ", failed.len()) } else { String::new() };
                say(State::Failure, format!("{more}{id}: {why}"))
            }
            (None, Some(why)) => say(State::Pending, why),
            (None, None) => match (&self.superseded, &self.told) {
                // Why it failed stays to be read.
                (Some(_), Some(told)) if told.state == State::Failure => told.clone(),
                (Some(by), _) => say(State::Superseded, format!("superseded by {by} before it was in force")),
                (None, _) if self.names.is_empty() => say(State::Success, "changes no API".to_owned()),
                (None, _) => say(State::Success, format!("deployed {}", self.names)),
            },
        }
    }

    /// Whether there is anything to deploy of it.
    #[must_use]
    pub fn has_deployment(&self) -> bool {
        self.refused.is_none() && !self.names.is_empty()
    }

    /// Whether all is told that there is to tell of it. One that was not let in may be let in yet.
    #[must_use]
    pub fn is_done(&self, word: &Word, has_deployments: bool) -> bool {
        let is_deployment_told = !has_deployments
            || !self.has_deployment()
            || self.deployment.as_ref().is_some_and(|deployment| deployment.told == Some(word.state));
        let is_final = self.is_over() && word.state != State::Pending && self.refused.is_none();
        is_final && self.told.as_ref() == Some(word) && is_deployment_told
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Report {
    /// Takes in that a commit is placed now, which changes some APIs and removes others.
    pub fn place(
        &mut self,
        (id, reference): (&str, &str),
        changed: &BTreeSet<ApiId>,
        gone: &BTreeSet<ApiId>,
        at: Timestamp,
    ) {
        let before = self.take(id);
        let short = id.get(..10).unwrap_or(id);
        for older in &mut self.commits {
            let count = older.waiting.len();
            older.waiting.retain(|api| !changed.contains(api) && !gone.contains(api));
            if older.waiting.len() < count {
                older.superseded.get_or_insert_with(|| short.to_owned());
            }
        }
        let removals = gone.iter().map(|api| format!("removal of {api}"));
        let names: Vec<String> = changed.iter().map(ToString::to_string).chain(removals).collect();
        self.push(Tracked {
            id: id.to_owned(),
            reference: reference.to_owned(),
            at,
            waiting: changed.union(gone).cloned().collect(),
            names: some(&names),
            superseded: None,
            refused: None,
            told: before.as_ref().and_then(|before| before.told.clone()),
            has_sent: before.as_ref().is_some_and(|before| before.has_sent),
            deployment: before.and_then(|before| before.deployment),
        });
        self.seen = Some(id.to_owned());
    }

    /// Takes in that a commit was not let in, and why; one of which that is known already stays as it is. Answers whether it
    /// was not.
    pub fn refuse(&mut self, id: &str, why: &str, at: Timestamp) -> bool {
        if self.seen.as_deref() == Some(id)
            || self.commits.iter().any(|known| known.id == id && known.refused.is_some())
        {
            return false;
        }
        let told = self.take(id).and_then(|before| before.told);
        self.push(Tracked {
            id: id.to_owned(),
            reference: String::new(),
            at,
            waiting: BTreeSet::new(),
            names: String::new(),
            superseded: None,
            refused: Some(line(why, REFUSED)),
            told,
            deployment: None,
            has_sent: false,
        });
        true
    }

    fn take(&mut self, id: &str) -> Option<Tracked> {
        let place = self.commits.iter().position(|known| known.id == id)?;
        Some(self.commits.remove(place))
    }

    fn push(&mut self, commit: Tracked) {
        self.commits.push(commit);
        let surplus = self.commits.len().saturating_sub(MOST);
        self.commits.drain(..surplus);
    }
}

/// The first of a list, and how many more there are.
fn some(names: &[String]) -> String {
    let shown = names.get(..NAMED.min(names.len())).unwrap_or_default().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> BTreeSet<ApiId> {
        names.iter().map(|name| ApiId::new(name).unwrap()).collect()
    }

    fn placed(changed: &[&str], gone: &[&str]) -> Report {
        let mut report = Report::default();
        report.place(("a".repeat(40).as_str(), "main"), &ids(changed), &ids(gone), Timestamp::UNIX_EPOCH);
        report
    }

    #[test]
    fn a_commit_is_in_force_once_all_is_that_it_changes() {
        let mut report = placed(&["one", "two"], &["old"]);
        let commit = &mut report.commits[0];
        let word = commit.word(|id| if id.as_str() == "one" { Standing::Done } else { Standing::UnderWay });
        assert_eq!((word.state, word.text.as_str()), (State::Pending, "deploying one, two, removal of old"));
        assert_eq!(commit.waiting, ids(&["old", "two"]));
        // What is done is not asked again: that it fails later is nothing of this commit.
        let word = commit.word(|id| if id.as_str() == "one" { Standing::Failed("x".into()) } else { Standing::Done });
        assert_eq!((word.state, word.text.as_str()), (State::Success, "deployed one, two, removal of old"));
        assert!(commit.is_over());
    }

    #[test]
    fn a_failure_is_told_once_nothing_is_under_way_and_in_its_own_words() {
        let mut report = placed(&["one", "two", "three"], &[]);
        let commit = &mut report.commits[0];
        let standing = |id: &ApiId| match id.as_str() {
            "one" => Standing::UnderWay,
            "two" => Standing::Failed("it ended\nwith 1".into()),
            _ => Standing::Failed("no such package".into()),
        };
        assert_eq!(commit.word(standing).state, State::Pending);
        let word = commit.word(|id| if id.as_str() == "one" { Standing::Done } else { standing(id) });
        assert_eq!((word.state, word.text.as_str()), (State::Failure, "2 failed; three: no such package"));
        let word = commit.word(|id| if id.as_str() == "two" { standing(id) } else { Standing::Done });
        assert_eq!((word.state, word.text.as_str()), (State::Failure, "two: it ended with 1"));
        let word = commit.word(|_| Standing::Failed("x".repeat(1000)));
        assert_eq!(word.text.chars().count(), DESCRIPTION);
        let word = commit.word(|_| Standing::Held("held by Ada".into()));
        assert_eq!((word.state, word.text.as_str()), (State::Pending, "held by Ada"));
    }

    #[test]
    fn a_later_commit_supersedes_what_it_changes_too_and_nothing_else() {
        let mut report = placed(&["one", "two"], &[]);
        report.place(("b".repeat(40).as_str(), "main"), &ids(&["two"]), &ids(&[]), Timestamp::UNIX_EPOCH);
        assert_eq!(report.commits[0].word(|_| Standing::UnderWay).state, State::Pending);
        let word = report.commits[0].word(|_| Standing::Done);
        assert_eq!(
            (word.state, word.text.as_str()),
            (State::Superseded, "superseded by bbbbbbbbbb before it was in force")
        );
        assert_eq!(report.commits[1].word(|_| Standing::Done).state, State::Success);
        let failed = Word { state: State::Failure, text: "two: no".into() };
        report.commits[0].told = Some(failed.clone());
        assert_eq!(report.commits[0].word(|_| Standing::Done), failed, "why it failed stays to be read");
        // One that comes back is the newest again, and what was told of it is known.
        report.commits[0].told = Some(word.clone());
        report.place(("a".repeat(40).as_str(), "main"), &ids(&["one"]), &ids(&[]), Timestamp::UNIX_EPOCH);
        assert_eq!((report.commits.len(), report.commits[1].told.clone()), (2, Some(word)));
    }

    #[test]
    fn one_that_was_not_let_in_is_a_failure_until_it_is() {
        let mut report = placed(&[], &[]);
        assert_eq!(report.commits[0].word(|_| Standing::Done).text, "changes no API");
        let other = "c".repeat(40);
        report.refuse(&other, "apis/x/main.py:1:7: invalid", Timestamp::UNIX_EPOCH);
        report.refuse(&other, "in other words", Timestamp::UNIX_EPOCH);
        report.refuse(&"a".repeat(40), "it lies in the tree", Timestamp::UNIX_EPOCH);
        assert_eq!(report.commits.len(), 2);
        let word = report.commits[1].word(|_| Standing::Done);
        assert_eq!((word.state, word.text.as_str()), (State::Failure, "not deployed: apis/x/main.py:1:7: invalid"));
        report.place((&other, "main"), &ids(&["x"]), &ids(&[]), Timestamp::UNIX_EPOCH);
        assert_eq!(report.commits[1].word(|_| Standing::UnderWay).state, State::Pending);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut report = Report::default();
        for number in 0..200 {
            report.place((&format!("{number:040}"), "main"), &ids(&["a"]), &ids(&[]), Timestamp::UNIX_EPOCH);
        }
        assert_eq!((report.commits.len(), report.commits[0].id.clone()), (MOST, format!("{:040}", 150)));
    }
}
