//! A look takes in the world of all APIs at once, with as many calls for ten thousand as for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::desired::Desired;
use super::goals;
use super::turn::{TurnError, World, lock};
use crate::engine::ImageTag;
use crate::records::{Records, RecordsError};
use crate::tree::ApiId;
use crate::world::instance::ContainerId;
use crate::world::{Instance, Observed, Record, Run};

/// One look at everything.
#[derive(Debug)]
pub struct Look {
    /// Every row.
    pub records: BTreeMap<ApiId, Arc<Record>>,
    /// APIs that may go although many go at once.
    pub confirmed: BTreeSet<ApiId>,
    /// APIs that went a short while ago without being confirmed.
    pub recent: BTreeSet<ApiId>,
    /// Every image of ours.
    pub images: BTreeSet<ImageTag>,
    /// Every instance of ours.
    pub instances: BTreeMap<ApiId, Vec<Instance>>,
    /// Containers that are about to be removed.
    pub leaving: BTreeSet<String>,
}

impl Look {
    /// Every API that has an instance.
    #[must_use]
    pub fn running(&self) -> BTreeSet<ApiId> {
        self.instances.keys().cloned().collect()
    }

    /// How many instances run.
    #[must_use]
    pub fn running_instances(&self) -> usize {
        self.instances.values().flatten().filter(|instance| matches!(instance.run, Run::Running { .. })).count()
    }
}

impl World {
    /// One look at everything, with three calls however many APIs there are.
    ///
    /// # Errors
    /// Where the engine or the records cannot be asked.
    pub async fn look(&self) -> Result<Look, TurnError> {
        let mut records = BTreeMap::new();
        for (id, record) in self.records.each().await? {
            match record {
                Ok(record) => drop(records.insert(id, record)),
                // Its own turns fail with the same error, loudly; the others must not.
                Err(error) => tracing::warn!(api = %id, "{error}"),
            }
        }
        let confirmed = self.records.confirmed_removals().await?.into_iter().collect();
        let recent = recently_removed(&*self.records, self.clock.now()).await?;
        let images = self.engine.images().await?;
        // Taken before the list: what is probed then and is not on the list is gone, and not just on its way.
        let watched = self.readings.watched();
        let list = self.engine.instances(None).await?;
        self.let_go(&watched, &list);
        let mut instances: BTreeMap<ApiId, Vec<Instance>> = BTreeMap::new();
        for instance in list {
            instances.entry(instance.api.clone()).or_default().push(instance);
        }
        let leaving = self.records.leaving().await?.into_keys().collect();
        self.forget_the_gone(&leaving, &instances).await?;
        Ok(Look { records, confirmed, recent, images, instances, leaving })
    }

    /// Forgets that a container was about to be removed once it is gone, by whatever hand.
    async fn forget_the_gone(
        &self,
        leaving: &BTreeSet<String>,
        instances: &BTreeMap<ApiId, Vec<Instance>>,
    ) -> Result<(), TurnError> {
        let is_there = |container: &str| instances.values().flatten().any(|instance| &*instance.container == container);
        for gone in leaving.iter().filter(|container| self.role.leads() && !is_there(container)) {
            self.records.left(gone).await?;
        }
        Ok(())
    }

    /// Forgets what only this process keeps of containers that somebody else removed.
    fn let_go(&self, watched: &[ContainerId], list: &[Instance]) {
        let there: BTreeSet<&ContainerId> = list.iter().map(|instance| &instance.container).collect();
        let (mut draining, mut beyond_repair) = (lock(&self.draining), lock(&self.beyond_repair));
        lock(&self.waiting).retain(|container, _| there.contains(container));
        lock(&self.let_go).retain(|container| there.contains(container));
        for gone in watched.iter().filter(|container| !there.contains(container)) {
            self.readings.forget(gone);
            draining.remove(gone);
            beyond_repair.remove(gone);
        }
    }

    /// What a look says about one API.
    #[must_use]
    pub fn observed(&self, look: &Look, desired: &Desired) -> Observed {
        let useful = Self::useful_images(desired);
        let images = look.images.intersection(&useful).cloned().collect();
        let instances = look.instances.get(&desired.id).cloned().unwrap_or_default();
        self.complete(
            desired,
            instances,
            images,
            look.records.get(&desired.id).map(|record| Record::clone(record)),
            &look.leaving,
        )
    }
}

/// The APIs that went within [`goals::RECENT`], as the events have it: a restart must not make room for more.
///
/// # Errors
/// Where the records cannot be asked.
pub async fn recently_removed(records: &dyn Records, now: Timestamp) -> Result<BTreeSet<ApiId>, RecordsError> {
    /// More events than a mass removal that is not held can make.
    const EVENTS: usize = 500;
    let is_recent = |at| now.duration_since(at).unsigned_abs() < goals::RECENT;
    let mut most = EVENTS;
    // What previews make many of must not push out of sight what the others do.
    let events = loop {
        let events = records.last_events(None, most).await?;
        let is_preview = |api: &Option<ApiId>| api.as_ref().is_some_and(ApiId::is_preview);
        let others = events.iter().filter(|event| !is_preview(&event.event.api)).count();
        let is_all = events.len() < most || events.first().is_none_or(|first| !is_recent(first.event.at));
        if is_all || others >= EVENTS || most > EVENTS * 64 {
            break events;
        }
        most *= 2;
    };
    let events = events.into_iter().map(|event| event.event).filter(|event| event.kind == goals::REMOVED);
    let recent = events.filter(|event| is_recent(event.at));
    Ok(recent.filter_map(|event| event.api).collect())
}
