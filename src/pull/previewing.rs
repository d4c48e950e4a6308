//! Previewing by pull: the pull requests that a source's webhook told of are fetched, and served where they may be.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;

use super::offers::{Offer, Offers};
use super::source::{Source, lock};
use super::status::TroubleKind;
use super::told::Told;
use super::turn::{MOST_KEPT, Stop, some, stop};
use crate::git::remote::{Reference, Remote};
use crate::git::signature::signer;
use crate::git::store::{PLACED, Store};
use crate::previews::sweep::note;
use crate::previews::{Offer as Offered, Placed, PreviewError, Previews, Whose};
use crate::records::Records;
use crate::settings::{Follows, PreviewSettings, Settings};
use crate::tree::ApiId;
use crate::tree::folder::is_ignored;

/// What came of one pull request.
enum Outcome {
    /// It is as it was.
    Same,
    /// It is served, as far as it changes anything.
    Placed { commit: String, placed: Placed, about: String },
    /// It is over, for that reason.
    Over(String),
}

/// What of a source serves, and by which name it came.
struct Serving {
    commit: String,
    reference: String,
}

impl Source {
    /// Takes in what a webhook has told of a pull request.
    ///
    /// # Errors
    /// Where it cannot be kept: whoever told it is to tell it again.
    pub fn hear(&self, told: &Told, now: Timestamp) -> io::Result<()> {
        let url = self.settings.url.as_str();
        if !told.is_of(url) {
            // An organisation's webhook tells of all that it has, and their numbers are others.
            tracing::debug!("pull request {} of {:?} is none of {url}", told.pull_request, told.repository);
            return Ok(());
        }
        let _one_at_a_time = lock(&self.offering);
        let mut offers = Offers::remembered(self.state(), self.name())?;
        let number = told.pull_request;
        match offers.hear(told, &self.settings, now) {
            Ok(()) => {}
            Err(why) => tracing::info!("pull request {number} of source {} is not served: {why}", self.name()),
        }
        offers.remember(self.state(), self.name())
    }

    /// Takes all pull requests for over, until its webhook tells of one again.
    ///
    /// # Errors
    /// Where that cannot be kept.
    pub fn end_offers(&self) -> io::Result<()> {
        let _one_at_a_time = lock(&self.offering);
        let mut offers = Offers::remembered(self.state(), self.name())?;
        if offers.open().next().is_some() {
            offers.end();
            offers.remember(self.state(), self.name())?;
        }
        Ok(())
    }

    /// Looks at all pull requests that are open, and ends what is over. What is wrong with one is its own trouble.
    pub(super) async fn preview(&self, settings: &Settings, records: &dyn Records) {
        let offers = match Offers::remembered(self.state(), self.name()) {
            Ok(offers) => offers,
            // Which are open is not known, and so none of them ends.
            Err(error) => {
                tracing::warn!("the pull requests of source {} cannot be read: {error}", self.name());
                return;
            }
        };
        if let Err(stop) = self.end_others(settings, &offers, records).await {
            tracing::warn!("previews of source {}: {}", self.name(), stop.what);
        }
        if offers.open().next().is_none() {
            self.keep_offered_small(0);
            return;
        }
        let mut after = offers.clone();
        if let Err(stop) = self.preview_all(settings, &mut after, records).await {
            // The source's own trouble says the same where it is one; what is served goes on.
            tracing::debug!("previews of source {}: {}", self.name(), stop.what);
        }
        if after != offers {
            // What was told meanwhile is not written over.
            let _one_at_a_time = lock(&self.offering);
            let kept = Offers::remembered(self.state(), self.name()).and_then(|mut now| {
                if !now.take_in(&offers, after) {
                    self.offered.notify_one();
                }
                now.remember(self.state(), self.name())
            });
            if let Err(error) = kept {
                tracing::warn!("the pull requests of source {} are not kept: {error}", self.name());
            }
        }
    }

    /// Ends what is here of pull requests that are not open.
    async fn end_others(&self, settings: &Settings, offers: &Offers, records: &dyn Records) -> Result<(), Stop> {
        let previews = Previews::of(settings);
        let is_mine = |whose: &Whose| whose.source.as_deref() == Some(self.name());
        let there = previews.list()?.into_iter().map(|(_, preview)| Whose::of(&preview)).filter(is_mine);
        let mut gone: Vec<Whose> =
            there.filter(|whose| !offers.open().any(|offer| offer.pull_request == whose.pull_request)).collect();
        gone.sort();
        gone.dedup();
        for whose in gone {
            self.end_preview(&previews, &whose, "it is closed", records).await?;
        }
        Ok(())
    }

    async fn end_preview(
        &self,
        previews: &Previews,
        whose: &Whose,
        why: &str,
        records: &dyn Records,
    ) -> Result<(), Stop> {
        for id in previews.end(whose).await? {
            note(records, &id, "preview-ended", format!("{whose}: {why}")).await;
        }
        let store = Store::of_previews(self.state(), self.name());
        if let Err(error) = Remote::forget_offer(&store, whose.pull_request).await {
            tracing::debug!("{whose}: {error}");
        }
        Ok(())
    }

    /// Removes the store of what is offered where it holds more bytes than `most`: git takes nothing out of one that was fetched in
    /// part, all of it can be fetched again, and what is previewed lies elsewhere.
    fn keep_offered_small(&self, most: u64) {
        let store = Store::of_previews(self.state(), self.name());
        if (most == 0 || store.is_large(most))
            && let Err(error) = store.remove()
        {
            tracing::warn!("the pull requests of source {}: {}", self.name(), crate::report::with_causes(&error));
        }
    }

    /// Ends those that are over whatever the remote has, and whether or not it can be asked.
    async fn end_over(&self, settings: &Settings, offers: &mut Offers, records: &dyn Records) -> Result<(), Stop> {
        let keep = settings.previews.as_ref().map(|previews| previews.keep);
        let open: Vec<Offer> = offers.open().cloned().collect();
        for offer in open {
            if let Some(why) = offer.over(&self.settings, keep, Timestamp::now()) {
                let whose = Whose { source: Some(self.name().to_owned()), pull_request: offer.pull_request };
                self.end_preview(&Previews::of(settings), &whose, &why, records).await?;
                offers.set(offer.pull_request, |offer| offer.is_over = true);
            }
        }
        Ok(())
    }

    async fn preview_all(&self, settings: &Settings, offers: &mut Offers, records: &dyn Records) -> Result<(), Stop> {
        self.end_over(settings, offers, records).await?;
        let (Some(serving), Some(limits)) = (self.serving().await?, &settings.previews) else { return Ok(()) };
        let (store, previews) = (Store::of_previews(self.state(), self.name()), Previews::of(settings));
        let remote = Remote::of(&self.settings, &store)?;
        self.keep_offered_small(self.settings.max_size.0.saturating_mul(MOST_KEPT));
        remote.clean();
        let open: Vec<Offer> = offers.open().cloned().collect();
        let names: Vec<String> = open.iter().map(|offer| offer.reference.clone()).collect();
        let heads = remote.named(&names).await?;
        let heads: BTreeMap<&str, &Reference> = heads.iter().map(|head| (head.name.as_str(), head)).collect();
        for (offer, name) in open.iter().zip(&names) {
            let number = offer.pull_request;
            let whose = Whose { source: Some(self.name().to_owned()), pull_request: number };
            let outcome = match heads.get(name.as_str()) {
                Some(head) => {
                    self.preview_one((&remote, &store), settings, limits, offer, &whose, head, &serving).await
                }
                None if offer.commit.is_some() => Ok(Outcome::Over("the remote has it no more".to_owned())),
                // Some forges tell of it before its name is there.
                None => Err(stop(TroubleKind::Missing, format!("the remote has no {name} yet"))),
            };
            match outcome {
                Ok(Outcome::Same) => {}
                Ok(Outcome::Placed { commit, placed, about }) => {
                    for id in placed.there {
                        note(records, &id, "previewed", format!("{whose}: {about}")).await;
                    }
                    for id in placed.gone {
                        note(records, &id, "preview-ended", format!("{whose}: it does not change it any more")).await;
                    }
                    offers.set(number, |offer| {
                        (offer.commit, offer.trouble, offer.is_settled) = (Some(commit), None, true);
                        offer.heard = Timestamp::now();
                    });
                }
                Ok(Outcome::Over(why)) => {
                    self.end_preview(&previews, &whose, &why, records).await?;
                    offers.set(number, |offer| offer.is_over = true);
                }
                Err(stop) => {
                    if offer.trouble.as_ref() != Some(&stop.what) {
                        tracing::warn!("{whose} is not served: {}", stop.what);
                    }
                    let head = heads.get(name.as_str()).map(|head| head.object.clone());
                    offers.set(number, |offer| {
                        offer.is_settled = stop.kind == TroubleKind::Broken;
                        (offer.commit, offer.trouble) = (head, Some(stop.what));
                    });
                }
            }
        }
        remote.tidy().await;
        Ok(())
    }

    /// That a pull request changes no API of another source, of a push, or of somebody's own hands.
    async fn be_alone_with(&self, settings: &Settings, changed: &BTreeSet<ApiId>, serving: &str) -> Result<(), Stop> {
        let prefix = self.store.prefix(&self.settings.folder).await?;
        let mine = self.folders(serving, &prefix).await?;
        let is_taken = |id: &&ApiId| !mine.contains_key(id.as_str()) && settings.apis.join(id.as_str()).exists();
        let taken: Vec<String> = changed.iter().filter(is_taken).map(ToString::to_string).collect();
        if taken.is_empty() {
            return Ok(());
        }
        let what = format!("it has {}, which are there already and not of source {}", some(&taken), self.name());
        Err(stop(TroubleKind::Conflict, what))
    }

    /// What lies in the tree of this source; `None` before anything does.
    async fn serving(&self) -> Result<Option<Serving>, Stop> {
        let placed = if self.store.is_there() { self.store.resolve(PLACED).await? } else { None };
        let Some(commit) = placed else { return Ok(None) };
        let reference = match &self.settings.follows {
            Follows::Branch(branch) => format!("refs/heads/{branch}"),
            Follows::Tags(_) => match self.status().placed {
                Some(placed) => format!("refs/tags/{}", placed.reference),
                None => return Ok(None),
            },
        };
        Ok(Some(Serving { commit, reference }))
    }

    /// Whether a commit is part of what serves.
    async fn is_merged(&self, remote: &Remote<'_>, commit: &str, serving: &Serving) -> Result<bool, Stop> {
        if self.store.repository().is_part_of(commit, &serving.commit).await? {
            return Ok(true);
        }
        // The store of the source itself may have of it no more than its last commit.
        match remote.is_part_of_followed(commit, &serving.reference, &serving.commit).await {
            Ok(is_merged) => Ok(is_merged),
            Err(error) => {
                // It is asked again with the next look; what is served goes on.
                tracing::debug!("previews of source {}: {}", self.name(), crate::report::with_causes(&error));
                Ok(false)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one pull request, and all that it is looked at with")]
    async fn preview_one(
        &self,
        (remote, store): (&Remote<'_>, &Store),
        settings: &Settings,
        limits: &PreviewSettings,
        offer: &Offer,
        whose: &Whose,
        head: &Reference,
        serving: &Serving,
    ) -> Result<Outcome, Stop> {
        let previews = Previews::of(settings);
        let repository = store.repository();
        if offer.is_settled && offer.commit.as_ref() == Some(&head.object) {
            let is_merged = self.is_merged(remote, &head.object, serving).await?;
            return Ok(if is_merged { Outcome::Over("it is merged".to_owned()) } else { Outcome::Same });
        }
        let others = previews.list()?.into_iter().filter(|(_, preview)| Whose::of(preview) != *whose).count();
        if others >= usize::from(limits.max) {
            // Nothing is fetched that there would be no room for.
            return Err(PreviewError::Full { there: others, wanted: 1, most: limits.max }.into());
        }
        let base = remote.fetch_offer(whose.pull_request, head, &serving.reference, &serving.commit).await?;
        let nothing = || stop(TroubleKind::Broken, "it has nothing in common with what is followed".to_owned());
        let base = base.ok_or_else(nothing)?;
        if base == head.object {
            return Ok(Outcome::Over("it is merged".to_owned()));
        }
        if let Some(by) = &self.settings.signed_by {
            signer(store, None, &head.object, by).await?;
        }
        let prefix = &self.settings.folder;
        let changed = repository.changed(&base, &head.object, prefix).await?;
        self.be_alone_with(settings, &changed, &serving.commit).await?;
        let folders = repository.folders(&head.object, prefix).await?;
        let trees = folders.iter().filter(|(name, _)| !is_ignored(name) && changed.contains(name.as_str()));
        remote.fetch_files(head, &trees.map(|(_, tree)| tree).collect()).await?;
        let offered = Offered {
            whose,
            repository,
            commit: &head.object,
            prefix,
            changed: &changed,
            policy: &settings.policy,
            settings: limits,
        };
        let placed = previews.place(&offered).await?;
        let about = repository.commit(&head.object).await?;
        let about = about.map_or_else(
            || head.object.clone(),
            |commit| format!("{} {}, by {}", commit.short(), commit.subject, commit.author),
        );
        Ok(Outcome::Placed { commit: head.object.clone(), placed, about })
    }
}

impl From<PreviewError> for Stop {
    fn from(error: PreviewError) -> Self {
        let kind = match &error {
            PreviewError::Refused(_) | PreviewError::Reserved(_) => TroubleKind::Broken,
            PreviewError::Full { .. } | PreviewError::Taken { .. } => TroubleKind::Conflict,
            PreviewError::Git(_) | PreviewError::Io { .. } => TroubleKind::Failed,
        };
        stop(kind, crate::report::with_causes(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_what_is_offered_that_has_grown_goes_whole() {
        let state = tempfile::tempdir().unwrap();
        let text =
            "previews: {}\npull: [{ name: a, url: 'https://git.example/t/a', webhook: { env: A }, previews: {} }]";
        let (settings, _) = Settings::settle(std::path::Path::new("/srv"), text.as_bytes(), |_| None);
        let source = Source::new(settings.pull[0].clone(), state.path());
        let folder = Store::of_previews(state.path(), "a").folder().to_owned();
        std::fs::create_dir_all(folder.join("objects/pack")).unwrap();
        std::fs::write(folder.join("objects/pack/x.pack"), [0; 4096]).unwrap();
        source.keep_offered_small(1 << 20);
        assert!(folder.exists());
        source.keep_offered_small(1024);
        assert!(!folder.exists());
        source.keep_offered_small(0);
        let left = std::fs::read_dir(folder.parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "nothing lies about");
    }
}
