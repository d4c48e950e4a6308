//! What was placed of one repository: which commit lies in the tree, and what it has otherwise than the one before.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::git::GitError;
use crate::git::difference::Place as Within;
use crate::git::store::{PLACED, Store};
use crate::pull::status::TroubleKind;
use crate::pull::{Pulls, Source};
use crate::settings::{ReportSettings, Settings};
use crate::tree::ApiId;
use crate::tree::folder::is_ignored;

/// How many commits are looked through for the last that is known: more than are remembered of one repository.
const MOST: usize = 60;

/// A repository that somebody is told of.
#[derive(Debug, Clone)]
pub struct Place {
    /// What the records call it.
    pub name: String,
    /// Where it is told.
    pub report: ReportSettings,
    store: Store,
    prefix: String,
    from: From,
}

/// How commits come into it.
#[derive(Debug, Clone)]
enum From {
    /// They are pulled.
    Source(Arc<Source>),
    /// They are pushed, to a branch of that name.
    Pushes(String),
}

impl Place {
    /// Each that the settings say somebody is told of.
    #[must_use]
    pub fn all(settings: &Settings, pulls: Option<&Pulls>) -> Vec<Self> {
        let pulled = settings.pull.iter().filter_map(|source| {
            Some(Self {
                name: format!("forge of source {}", source.name),
                report: source.report.clone()?,
                store: Store::of_source(&settings.state, &source.name),
                prefix: source.folder.clone(),
                from: From::Source(Arc::clone(pulls?.source(&source.name)?)),
            })
        });
        let pushed = settings.push.as_ref().and_then(|push| {
            Some(Self {
                name: "forge of pushes".to_owned(),
                report: push.report.clone()?,
                store: Store::of(&settings.state),
                prefix: settings.apis_name(),
                from: From::Pushes(push.branch.clone()),
            })
        });
        pulled.chain(pushed).collect()
    }

    /// The commits that were placed after that one, the oldest first, and the branch or tag that each came by. The one that
    /// lies in the tree alone, where none is known, or what was placed since is not.
    ///
    /// # Errors
    /// Where git does not answer.
    pub async fn placed_since(&self, seen: Option<&str>) -> Result<Vec<(String, String)>, GitError> {
        if !self.store.is_there() {
            return Ok(Vec::new());
        }
        let Some(now) = self.store.resolve(PLACED).await? else { return Ok(Vec::new()) };
        if seen == Some(now.as_str()) {
            return Ok(Vec::new());
        }
        let placed = match seen {
            Some(seen) => since(self.store.placed(MOST).await?, &now, seen),
            None => vec![now],
        };
        let reference = |commit: &String| match &self.from {
            From::Source(source) => source.reference_of(commit),
            From::Pushes(branch) => branch.clone(),
        };
        Ok(placed.into_iter().map(|commit| (reference(&commit), commit)).map(|(by, commit)| (commit, by)).collect())
    }

    /// Whether commits come into it by tags.
    #[must_use]
    pub fn follows_tags(&self) -> bool {
        matches!(&self.from, From::Source(source) if source.follows_tags())
    }

    /// The commit that was not let in, and why.
    #[must_use]
    pub fn refused(&self) -> Option<(String, String)> {
        let From::Source(source) = &self.from else { return None };
        let trouble = source.status().trouble?;
        let is_its_own = matches!(
            trouble.kind,
            TroubleKind::Broken | TroubleKind::Conflict | TroubleKind::Unsigned | TroubleKind::Edited
        );
        Some((trouble.commit.filter(|_| is_its_own)?, trouble.what))
    }

    /// The APIs that a commit has otherwise than the one before, and those that it has no more. All of them are otherwise where
    /// none was before, or it is not here any more.
    ///
    /// # Errors
    /// Where git does not answer.
    pub async fn difference(
        &self,
        before: Option<&str>,
        now: &str,
    ) -> Result<(BTreeSet<ApiId>, BTreeSet<ApiId>), GitError> {
        let prefix = self.store.prefix(&self.prefix).await?;
        let at = |commit| Within { commit, folder: &prefix };
        let before = match before {
            Some(before) if self.store.resolve(before).await?.is_some() => Some(at(before)),
            _ => None,
        };
        let found = self.store.repository().difference(before, at(now)).await?;
        let ids = |names: BTreeSet<String>| -> BTreeSet<ApiId> {
            names.iter().filter(|name| !is_ignored(name)).filter_map(|name| ApiId::new(name).ok()).collect()
        };
        Ok((ids(found.changed), ids(found.gone)))
    }
}

/// What of the commits that were placed, the newest first, came behind `seen` up to `now`, the oldest first; each once, where
/// it was placed last. `now` alone where `seen` is not among them.
fn since(placed: Vec<String>, now: &str, seen: &str) -> Vec<String> {
    // What was placed in this very moment is for the next look.
    let mut placed: Vec<String> = placed.into_iter().skip_while(|commit| commit != now).collect();
    let Some(end) = placed.iter().position(|commit| commit == seen) else { return vec![now.to_owned()] };
    placed.truncate(end);
    let mut known = BTreeSet::new();
    placed.retain(|commit| known.insert(commit.clone()));
    placed.reverse();
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_that_was_placed_is_told_of_in_the_order_in_which_they_were() {
        let placed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |all: &[&str], now: &str, seen: &str| since(placed(all), now, seen);
        assert_eq!(of(&["c", "b", "a2", "a1"], "c", "a1"), ["a2", "b", "c"]);
        assert_eq!(of(&["c", "b", "a"], "c", "b"), ["c"]);
        assert_eq!(of(&["d", "c", "b", "a"], "c", "a"), ["b", "c"], "one more has come meanwhile");
        assert_eq!(of(&["b", "c", "b", "a"], "b", "a"), ["c", "b"]);
        assert_eq!(of(&["c", "b"], "c", "a"), ["c"], "a store that is new");
        assert_eq!(of(&[], "c", "a"), ["c"]);
    }
}
