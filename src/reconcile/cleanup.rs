//! Cleaning up takes away what nothing needs any more: images, build containers, and old records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use super::desired::Target;
use super::turn::{TurnError, lock};
use crate::engine::ImageTag;
use crate::records::Keep;
use crate::tree::ApiId;

/// Old records are thrown away in one of so many rounds: reading which files are still needed takes a while.
const ROUNDS: u32 = 30;

/// When a daemon cleans up first: by then the engine is done with what the one before it had asked for.
const FIRST: Duration = Duration::from_secs(3);

/// How long a file stays that nothing refers to: until its revision serves, nothing does.
const UNREFERRED: Duration = Duration::from_secs(24 * 3600);

impl Controller {
    /// Cleans up from time to time, while this daemon reconciles, until `stop`.
    ///
    /// An image goes in the second round that finds no need of it: one that is just being made is needed by the first
    /// look that knows its revision.
    pub async fn keep_clean(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        for round in 0.. {
            let pause = if round == 0 { every.min(FIRST) } else { every };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
            if !self.world.role.leads() {
                continue;
            }
            if let Err(error) = self.clean_up(round % ROUNDS == 0).await {
                tracing::warn!("cannot clean up: {error}; the next try is in {every:?}");
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// Where the engine or the records cannot be asked.
    pub async fn clean_up(&self, with_records: bool) -> Result<(), TurnError> {
        // With the tree unread it is not known what is needed.
        if self.tree().is_err() {
            return Ok(());
        }
        self.tidy().await?;
        let unneeded = self.unneeded_images().await?;
        let before = std::mem::replace(&mut *lock(&self.unneeded), unneeded.clone());
        self.world.records.check_fence().await?;
        for image in before.intersection(&unneeded) {
            match self.world.engine.remove_image(image).await {
                Ok(()) => tracing::info!(%image, "removed: nothing needs it any more"),
                // As while a container still stands on it.
                Err(error) => tracing::debug!(%image, "{error}"),
            }
        }
        if with_records {
            let (now, policy) = (self.world.clock.now(), lock(&self.policy).clone());
            let since = |span: Duration| now.checked_sub(span).unwrap_or(jiff::Timestamp::MIN);
            let keep = Keep {
                revisions: policy.keep_revisions,
                events_since: since(policy.keep_events.0),
                blobs_since: since(UNREFERRED),
            };
            let pruned = self.world.records.prune(&keep).await?;
            tracing::debug!(?pruned, "old records");
        }
        Ok(())
    }

    /// Removes what another daemon was making: it is made again, or not wanted any more.
    ///
    /// # Errors
    /// Where the engine cannot be asked, or another daemon has taken over.
    pub async fn tidy(&self) -> Result<(), TurnError> {
        // Listed before it is sure that nobody has taken over: what whoever does makes later is not on the list.
        let leftovers = self.world.engine.leftovers().await?;
        self.world.records.check_fence().await?;
        Ok(self.world.engine.tidy(&leftovers).await?)
    }

    /// Our images that neither the tree, nor what serves, nor a revision that may be rolled back to needs.
    async fn unneeded_images(&self) -> Result<BTreeSet<ImageTag>, TurnError> {
        let look = self.world.look().await?;
        let mut unneeded = look.images.clone();
        let mut need = |target: &Target| {
            unneeded.remove(&target.images.code);
            unneeded.remove(&target.images.dependencies);
        };
        let goals = self.goals(&look);
        for desired in goals.values() {
            desired.target().into_iter().chain(&desired.served).for_each(|target| need(target));
        }
        if unneeded.is_empty() {
            return Ok(unneeded);
        }
        let kept = lock(&self.policy).keep_revisions;
        let known: BTreeMap<&ApiId, _> = look.records.iter().collect();
        for id in known.keys() {
            for served in self.world.records.revisions(id).await?.iter().take(kept) {
                let target = Target::of_served(id, served, &self.world.owner);
                unneeded.remove(&target.images.code);
                unneeded.remove(&target.images.dependencies);
            }
        }
        // Made by the look above, perhaps, and of one API that has just been pushed.
        let goals = self.goals(&self.world.look().await?);
        for target in goals.values().flat_map(|desired| desired.target().into_iter().chain(&desired.served)) {
            unneeded.remove(&target.images.code);
            unneeded.remove(&target.images.dependencies);
        }
        Ok(unneeded)
    }
}
