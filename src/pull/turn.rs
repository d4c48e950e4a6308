//! A turn asks one source what it has, and puts that into the tree where it may be served.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::pick::{described, pick};
use super::source::{Source, lock};
use super::status::{Placed, TroubleKind, clock_note};
use crate::git::difference::{Difference, Place as Within};
use crate::git::export::{Folders, Refusal};
use crate::git::place::{PlaceError, Placing};
use crate::git::remote::{Follows, Reference, Remote, RemoteError, SEEN};
use crate::git::scratch::Scratch;
use crate::git::signature::SignatureError;
use crate::git::store::{PLACED, SCRATCH};
use crate::git::{Commit, GitError};
use crate::report::with_causes;
use crate::settings::Settings;
use crate::tree::folder::is_ignored;
use crate::tree::hosts::taken_beside;
use crate::tree::scan::Scanner;
use crate::tree::{Diagnostic, Tree, TreeError};

/// How many findings or folders are told of in one sentence.
const TOLD: usize = 5;

/// How many times as much as may come at once a store may hold before it is renewed.
pub(super) const MOST_KEPT: u64 = 4;

/// What all turns have in common.
pub(super) struct Ground<'a> {
    /// As they are now.
    pub settings: &'a Settings,
    /// All of them.
    pub sources: &'a [Arc<Source>],
    /// One commit at a time comes into the tree.
    pub placing: &'a Mutex<()>,
    /// Whether this daemon still reconciles.
    pub leads: &'a (dyn Fn() -> bool + Send + Sync),
}

/// What a turn has brought.
pub(super) struct News {
    pub placed: Placed,
    pub difference: Difference,
}

/// Why a turn brings nothing, though there may be something.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub kind: TroubleKind,
    pub what: String,
    /// Of which commit, where it is one.
    pub commit: Option<String>,
    /// Whether what it is about lies in the tree all the same.
    pub lies: bool,
}

impl Stop {
    /// That somebody else places something just now.
    pub(super) fn of_another() -> Self {
        stop(TroubleKind::Failed, "another process is at work on the tree".to_owned())
    }

    /// As one of that commit, where it is of none yet.
    pub(super) fn of(self, commit: &str, reference: &Reference) -> Self {
        if self.commit.is_some() {
            return self;
        }
        let what = format!("{} of {}: {}", short(commit), short_name(&reference.name), self.what);
        Self { what, commit: Some(commit.to_owned()), ..self }
    }
}

impl Source {
    /// Takes a turn. What it finds wrong changes nothing in the tree.
    pub(super) async fn turn(&self, ground: &Ground<'_>) -> Result<Option<News>, Stop> {
        let remote = Remote::of(&self.settings, &self.store)?;
        remote.clean();
        let references = remote.references().await?;
        self.set(|status| status.asked = Some(Timestamp::now()));
        let Some(reference) = pick(&self.settings.follows, &references) else {
            return Err(stop(TroubleKind::Missing, format!("it has no {}", described(&self.settings.follows))));
        };
        let placed = if self.store.is_there() { self.store.resolve(PLACED).await? } else { None };
        let is_same_folder = self.store.prefix(&self.settings.folder).await? == self.settings.folder;
        if is_same_folder && placed.as_deref() == Some(reference.peeled.as_ref().unwrap_or(&reference.object)) {
            let placed = placed.unwrap_or_default();
            if !self.recall(&placed) {
                self.note_again(&placed, reference).await?;
            }
            self.note_name(short_name(&reference.name));
            self.vouch(ground, &remote, reference, &placed).await?;
            return Ok(None);
        }
        let follows = self.fetch(ground, &remote, reference, placed.as_deref()).await?;
        let commit = self.store.resolve(SEEN).await?;
        let commit = commit.ok_or_else(|| stop(TroubleKind::Broken, format!("{} is no commit", reference.name)))?;
        let about = self.store.repository().commit(&commit).await?;
        let about = about.ok_or_else(|| stop(TroubleKind::Broken, format!("{commit} is no commit")))?;
        let judged = self.judge(ground, &remote, reference, about, follows).await;
        judged.map(Some).map_err(|stop| stop.of(&commit, reference))
    }

    /// Writes down anew what lies in the tree, of which whoever placed it was ended before they could.
    async fn note_again(&self, placed: &str, reference: &Reference) -> Result<(), Stop> {
        if let Some(commit) = self.store.repository().commit(placed).await? {
            let reference = short_name(&reference.name).to_owned();
            let placed = Placed { commit, reference, at: Timestamp::now(), signed_by: None, note: None };
            self.set(|status| status.placed = Some(placed));
        }
        Ok(())
    }

    /// Fetches what is not here yet.
    pub(super) async fn fetch(
        &self,
        ground: &Ground<'_>,
        remote: &Remote<'_>,
        reference: &Reference,
        placed: Option<&str>,
    ) -> Result<Follows, Stop> {
        if let Some((_, why)) = lock(&self.refused).clone().filter(|(object, _)| *object == reference.object) {
            return Err(why);
        }
        if self.store.is_there() && self.seen().await?.as_ref() == Some(&reference.object) {
            let known = lock(&self.fetched).clone();
            return Ok(known
                .filter(|(object, _)| *object == reference.object)
                .map_or(Follows::Unknown, |known| known.1));
        }
        let follows = remote.fetch(reference, placed).await.map_err(|error| self.refuse(reference, error.into()))?;
        let before = self.store.prefix(&self.settings.folder).await?;
        let before = placed.map(|commit| Within { commit, folder: &before });
        remote.find_authors(reference, before, &self.settings.folder).await;
        // What has come in the meantime is what counts.
        if let Some(object) = self.seen().await? {
            *lock(&self.fetched) = Some((object, follows));
        }
        remote.tidy().await;
        self.keep_small(ground).await;
        Ok(follows)
    }

    /// Renews the store where it has grown too large. What goes wrong with that is no reason not to go on with what it is.
    async fn keep_small(&self, ground: &Ground<'_>) {
        let most = self.settings.max_size.0.saturating_mul(MOST_KEPT);
        if !self.store.is_large(most) {
            return;
        }
        // Whoever places reads the stores of others too.
        let _alone = ground.placing.lock().await;
        match self.store.renew(most).await {
            Ok(size) => tracing::info!("the store of source {} is renewed: {size} bytes", self.name()),
            Err(error) => {
                tracing::warn!("the store of source {} stays as large as it is: {}", self.name(), with_causes(&error));
            }
        }
    }

    /// Remembers what is no use fetching once more, with the commit that it is: each time that it is said, it is the same.
    fn refuse(&self, reference: &Reference, why: Stop) -> Stop {
        let mut why = why;
        if why.kind == TroubleKind::Broken {
            why = why.of(reference.peeled.as_ref().unwrap_or(&reference.object), reference);
            *lock(&self.refused) = Some((reference.object.clone(), why.clone()));
        }
        why
    }

    /// What was fetched last, a commit or a tag.
    async fn seen(&self) -> Result<Option<String>, GitError> {
        match self.store.repository().ask(&["rev-parse", "--verify", "--quiet", SEEN], crate::git::store::WITHIN).await
        {
            Ok(printed) => Ok(Some(String::from_utf8_lossy(&printed).trim().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether a commit may be served, and places it where it may: all of it or nothing, as with a push.
    async fn judge(
        &self,
        ground: &Ground<'_>,
        remote: &Remote<'_>,
        reference: &Reference,
        commit: Commit,
        follows: Follows,
    ) -> Result<News, Stop> {
        let signed_by = self.signer(reference, &commit.id).await?;
        let prefix = self.settings.folder.clone();
        let mut place = Placing {
            store: &self.store,
            apis: &ground.settings.apis,
            before: self.store.prefix(&prefix).await?,
            prefix,
            spared: BTreeSet::new(),
            policy: &ground.settings.policy,
        };
        let after = self.folders(&commit.id, &place.prefix).await?;
        if after.is_empty() {
            let what = format!("there is no folder {}/ in it, or nothing is in that", self.settings.folder);
            return Err(stop(TroubleKind::Broken, what));
        }
        let difference = place.difference(self.store.repository(), &commit.id).await?;
        let trees = difference.changed.iter().filter_map(|name| after.get(name)).collect();
        remote.fetch_files(reference, &trees).await.map_err(|error| self.refuse(reference, error.into()))?;
        let tree = self.check(ground.settings, &commit.id, &difference.changed).await?;

        let _one_at_a_time = ground.placing.lock().await;
        place.spared = self.be_alone(ground, &after).await?;
        self.get_on(ground.settings, tree, &difference, &place.spared).await?;
        let before = self.store.resolve(PLACED).await?;
        let lock = place.lock(false)?;
        if lock.is_none() || !(ground.leads)() {
            return Err(Stop::of_another());
        }
        if before.is_none() {
            // Later it would be a disk that is not there, and no folder that was never made.
            let made = std::fs::create_dir_all(place.apis);
            made.map_err(|error| stop(TroubleKind::Failed, format!("cannot make {}: {error}", place.apis.display())))?;
        }
        let ready = place.ready(&commit.id, self.settings.overwrite).await?;
        let difference = place.put(ready).await?;
        self.store.remember_prefix(&commit.id, &place.prefix)?;
        let rewritten = before
            .filter(|_| follows == Follows::No)
            .map(|before| format!("history was rewritten, or went back: it does not follow from {}", short(&before)));
        let note = rewritten.or_else(|| clock_note(&commit, Timestamp::now()));
        let reference = short_name(&reference.name).to_owned();
        let placed = Placed { commit, reference, at: Timestamp::now(), signed_by, note };
        Ok(News { placed, difference })
    }

    /// The API folders of a commit of it, below a folder of that.
    pub(super) async fn folders(&self, commit: &str, prefix: &str) -> Result<Folders, GitError> {
        let mut folders = self.store.repository().folders(commit, prefix).await?;
        folders.retain(|name, _| !is_ignored(name));
        Ok(folders)
    }

    /// Checks the folders that a commit changes, as `skep check` would.
    async fn check(&self, settings: &Settings, commit: &str, changed: &BTreeSet<String>) -> Result<Arc<Tree>, Stop> {
        let scratch = Scratch::new(&settings.state, SCRATCH).map_err(|error| failed(&error))?;
        let (root, prefix) = (scratch.path().to_owned(), &self.settings.folder);
        let looked_at = Settings { apis: root.join(settings.apis_name()), root, ..settings.clone() };
        let repository = self.store.repository();
        let refused = repository.export_whole(commit, prefix, changed, &settings.policy, &looked_at.apis).await?;
        if !refused.is_empty() {
            return Err(stop(TroubleKind::Broken, refusals(&refused)));
        }
        let read = tokio::task::spawn_blocking(move || Ok::<_, TreeError>(Scanner::new(&looked_at)?.read()?.tree));
        let tree = read.await.map_err(|error| failed(&error))?.map_err(|error| failed(&with_causes(&error)))?;
        self.sound(settings, tree.all_findings())?;
        Ok(tree)
    }

    /// Sees to it that what comes claims no host of a folder that stays as it is, whoever has brought that.
    async fn get_on(
        &self,
        settings: &Settings,
        coming: Arc<Tree>,
        difference: &Difference,
        spared: &BTreeSet<String>,
    ) -> Result<(), Stop> {
        let goes = difference.gone.iter().filter(|name| !spared.contains(*name));
        let replaced: BTreeSet<String> = difference.changed.iter().chain(goes).cloned().collect();
        let here = settings.clone();
        let taken = tokio::task::spawn_blocking(move || taken_beside(&coming, &here, &replaced)).await;
        let taken = taken.map_err(|error| failed(&error))?.map_err(|error| failed(&with_causes(&error)))?;
        self.sound(settings, taken.iter())
    }

    /// Says what is wrong in the words of the remote, in which the folder of API folders may be another.
    fn sound<'a>(&self, settings: &Settings, findings: impl Iterator<Item = &'a Diagnostic>) -> Result<(), Stop> {
        let (here, prefix) = (format!("{}/", settings.apis_name()), &self.settings.folder);
        let errors = findings.filter(|finding| finding.is_error()).map(|finding| {
            let path = finding
                .path
                .strip_prefix(&here)
                .map_or_else(|| finding.path.clone(), |rest| format!("{prefix}/{rest}"));
            match finding.span {
                Some(span) => format!("{path}:{}:{}: {}", span.line, span.column, finding.message),
                None => format!("{path}: {}", finding.message),
            }
        });
        let errors: Vec<String> = errors.collect();
        if errors.is_empty() { Ok(()) } else { Err(stop(TroubleKind::Broken, some(&errors))) }
    }

    /// Sees to it that no other source has brought an API of the same id. Whoever came first keeps it. Answers with all that
    /// others have brought: what this one gives up, another may have brought since, while this one was not among the settings.
    async fn be_alone(&self, ground: &Ground<'_>, after: &Folders) -> Result<BTreeSet<String>, Stop> {
        let mut all = BTreeSet::new();
        for other in ground.sources.iter().filter(|other| other.name() != self.name() && other.store.is_there()) {
            let Some(placed) = other.store.resolve(PLACED).await? else { continue };
            let theirs = other.folders(&placed, &other.store.prefix(&other.settings.folder).await?).await?;
            let both: Vec<String> = after.keys().filter(|name| theirs.contains_key(*name)).cloned().collect();
            if !both.is_empty() {
                let what = format!(
                    "source {} has brought {} already, and source {} has it too: take it out of one of the two, or give it another id",
                    other.name(),
                    some(&both),
                    self.name()
                );
                return Err(stop(TroubleKind::Conflict, what));
            }
            all.extend(theirs.into_keys());
        }
        Ok(all)
    }
}

pub(super) fn stop(kind: TroubleKind, what: String) -> Stop {
    Stop { kind, what, commit: None, lies: false }
}

/// Something here is not as it should be.
fn failed(error: &dyn std::fmt::Display) -> Stop {
    stop(TroubleKind::Failed, error.to_string())
}

fn refusals(refused: &[Refusal]) -> String {
    some(&refused.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// The first of a list, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    let shown = all.get(..TOLD.min(all.len())).unwrap_or_default().join(", ");
    let plain: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match all.len().saturating_sub(TOLD) {
        0 => plain,
        more => format!("{plain} and {more} more"),
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// A branch or tag without what all of them begin with.
fn short_name(reference: &str) -> &str {
    reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/")).unwrap_or(reference)
}

impl From<RemoteError> for Stop {
    fn from(error: RemoteError) -> Self {
        let kind = match &error {
            RemoteError::Git(GitError::Slow { .. }) | RemoteError::Away(_) => TroubleKind::Unreachable,
            RemoteError::TooLarge(_) | RemoteError::Bad(_) => TroubleKind::Broken,
            RemoteError::Secret(_) | RemoteError::Git(_) => TroubleKind::Failed,
        };
        stop(kind, with_causes(&error))
    }
}

impl From<GitError> for Stop {
    fn from(error: GitError) -> Self {
        stop(TroubleKind::Failed, with_causes(&error))
    }
}

impl From<SignatureError> for Stop {
    fn from(error: SignatureError) -> Self {
        let kind = match &error {
            SignatureError::None | SignatureError::Bad(_) => TroubleKind::Unsigned,
            SignatureError::Unready(_) | SignatureError::Git(_) => TroubleKind::Failed,
        };
        stop(kind, with_causes(&error))
    }
}

impl From<PlaceError> for Stop {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::Edited(names) => {
                let what = format!(
                    "somebody has changed {} here by hand: put it back, or let the source `overwrite` it",
                    some(&names)
                );
                stop(TroubleKind::Edited, what)
            }
            PlaceError::Refused(refused) => stop(TroubleKind::Broken, refusals(&refused)),
            error @ (PlaceError::Git(_) | PlaceError::Io { .. }) => stop(TroubleKind::Failed, with_causes(&error)),
        }
    }
}
