//! History is how far back the commits of a remote are known here: a fetch brings few, and more where more has to be known.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::difference::Place;
use super::remote::{Follows, Reference, Remote, RemoteError, SEEN};
use super::store::{REMOTE, WITHIN};
use super::{GitError, Repository};
use crate::tree::folder::is_ignored;

/// By how many commits history is deepened, time after time, where it is cut off at a merge: one shows what was merged.
const BEHIND_MERGES: [u16; 3] = [1, 20, 100];

/// By how many it is deepened to find who last changed a folder.
const TO_AUTHORS: [u16; 2] = [200, 2000];

/// A commit behind which nothing is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// How many there are behind it in truth.
    parents: usize,
    /// When it was made, in seconds since 1970, as who made it says.
    date: i64,
}

impl Remote<'_> {
    /// Where what was fetched stands to a commit that is not behind it as far as is known here. A remote that is asked for what
    /// is younger cuts off at each merge of something older, and with that also what is behind it otherwise.
    pub(super) async fn stands_behind_merges(&self, reference: &Reference, commit: &str, date: i64) -> Follows {
        for more in BEHIND_MERGES {
            match self.store.repository().ends(SEEN).await {
                Ok(ends) if ends.iter().any(|end| end.parents > 1 && end.date >= date) => {}
                Ok(_) => return Follows::No,
                Err(_) => return Follows::Unknown,
            }
            if let Err(error) = self.deepen(reference, more).await {
                tracing::debug!("what was merged is not known: {error}");
                return Follows::Unknown;
            }
            if self.is_behind(commit).await.unwrap_or(false) {
                return Follows::Yes;
            }
        }
        Follows::Unknown
    }

    /// Fetches as much history as it takes to know who last changed each of the folders that what was fetched has otherwise than
    /// what was placed: so much and no more, and only where no files come with it. Nothing fails by that.
    pub async fn find_authors(&self, reference: &Reference, placed: Option<Place<'_>>, folder: &str) {
        for more in TO_AUTHORS {
            let are_known = self.store.repository().knows_authors(placed, Place { commit: SEEN, folder }).await;
            if !matches!(are_known, Ok(false)) || !self.filters.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.deepen(reference, more).await {
                tracing::debug!("who changed what is not known: {error}");
                return;
            }
        }
    }

    async fn deepen(&self, reference: &Reference, more: u16) -> Result<(), RemoteError> {
        let filter = if self.whole().exists() { "--no-filter" } else { "--filter=blob:none" };
        let (more, to) = (format!("--deepen={more}"), format!("+{}:{SEEN}", reference.name));
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &more, filter, REMOTE, &to];
        self.fetched(&fetch, "").await
    }
}

impl Repository {
    /// Whether history ends with a commit here, and not in truth.
    pub(super) async fn is_cut_at(&self, commit: &str) -> Result<bool, GitError> {
        let printed = self.ask(&["cat-file", "commit", commit], WITHIN).await?;
        let text = String::from_utf8_lossy(&printed);
        Ok(text.lines().take_while(|line| !line.is_empty()).any(|line| line.starts_with("parent ")))
    }

    /// The commits behind which nothing is known here of those that a name stands for.
    async fn ends(&self, name: &str) -> Result<Vec<End>, GitError> {
        // As they were made, and not as they are here.
        let asked = ["log", "--max-parents=0", "--no-show-signature", "--format=raw", "--end-of-options", name, "--"];
        Ok(read_ends(&String::from_utf8_lossy(&self.ask(&asked, WITHIN).await?)))
    }

    /// Whether for each folder that is new a commit is known that touched it.
    async fn knows_authors(&self, before: Option<Place<'_>>, now: Place<'_>) -> Result<bool, GitError> {
        if self.ends(now.commit).await?.iter().all(|end| end.parents == 0) {
            return Ok(true);
        }
        let mut changed = self.difference(before, now).await?.changed;
        changed.retain(|name| !is_ignored(name));
        let below = format!("{}/", now.folder);
        // The last commits that are here seem to have made all that there is.
        let fixed = ["-c", "log.showRoot=false", "--literal-pathspecs", "log", "--no-merges", "--no-show-signature"];
        let wanted = ["--format=", "--name-only", "--no-renames", "-z", "--end-of-options", now.commit, "--", &below];
        let printed = self.ask(&[&fixed[..], &wanted].concat(), WITHIN).await?;
        let printed = String::from_utf8_lossy(&printed);
        let name =
            |path: &'_ str| Some(path.trim_start_matches('\n').strip_prefix(&below)?.split('/').next()?.to_owned());
        let touched: BTreeSet<String> = printed.split('\0').filter_map(name).collect();
        Ok(changed.is_subset(&touched))
    }
}

fn read_ends(text: &str) -> Vec<End> {
    let mut ends: Vec<End> = Vec::new();
    for line in text.lines() {
        match (line.split_once(' '), ends.last_mut()) {
            (Some(("commit", _)), _) => ends.push(End { parents: 0, date: 0 }),
            (Some(("parent", _)), Some(end)) => end.parents += 1,
            (Some(("committer", who)), Some(end)) => {
                end.date = who.rsplit(' ').nth(1).and_then(|date| date.parse().ok()).unwrap_or_default();
            }
            _ => {}
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_they_were_made() {
        let text = "commit a\ntree t\nparent b\nparent c\nauthor A <a@e> 5 +0000\ncommitter A <a@e> 7 +0200\n\n    parent x\n\n\
                    commit d\ntree t\nauthor A <a@e> 1 +0000\ncommitter A <a@e> 2 +0000\n\n    commit y\n";
        assert_eq!(read_ends(text), [End { parents: 2, date: 7 }, End { parents: 0, date: 2 }]);
    }
}
