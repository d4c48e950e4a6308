//! What hands did to the folders of a source since they were placed: what is gone is put back, and what is changed is told of.

use std::collections::BTreeSet;

use super::source::{Source, lock};
use super::turn::{Ground, Stop};
use crate::git::hands::Touched;
use crate::git::place::{PlaceError, Placing};
use crate::git::store::PLACED;

/// What came of seeing to it.
#[derive(Debug, Default)]
pub(super) struct Righted {
    /// The folders that are as they were placed again.
    pub back: BTreeSet<String>,
    /// What is not as it was placed still.
    pub stop: Option<Stop>,
}

impl Source {
    /// Sees to it that what was placed last lies in the tree. Nothing of what hands changed goes, unless the settings say that it
    /// may.
    pub(super) async fn put_right(&self, ground: &Ground<'_>) -> Righted {
        let mut righted = Righted::default();
        if let Err(stop) = self.right(ground, &mut righted).await {
            righted.stop = Some(stop);
        }
        righted
    }

    async fn right(&self, ground: &Ground<'_>, righted: &mut Righted) -> Result<(), Stop> {
        let placed = if self.store.is_there() { self.store.resolve(PLACED).await? } else { None };
        let Some(placed) = placed else { return Ok(()) };
        let prefix = self.store.prefix(&self.settings.folder).await?;
        let mut known = std::mem::take(&mut *lock(&self.known));
        let touched = known.look(self.store.repository(), (&placed, &prefix), &ground.settings.apis).await;
        *lock(&self.known) = known;
        let Touched { changed, gone } = touched?;
        let overwrites = self.settings.overwrite;
        let wanted: BTreeSet<String> = gone.into_iter().chain(changed.iter().filter(|_| overwrites).cloned()).collect();
        if !wanted.is_empty() {
            let place = Placing {
                store: &self.store,
                apis: &ground.settings.apis,
                before: prefix.clone(),
                prefix,
                spared: BTreeSet::new(),
                policy: &ground.settings.policy,
            };
            let _one_at_a_time = ground.placing.lock().await;
            let lock = place.lock(false)?;
            if lock.is_none() || !(ground.leads)() {
                return Err(Stop::of_another());
            }
            if let Some(ready) = place.again(wanted, overwrites).await? {
                righted.back = place.put(ready).await?.changed;
            }
        }
        if overwrites || changed.is_empty() {
            return Ok(());
        }
        Err(PlaceError::Edited(changed.into_iter().collect()).into())
    }
}
