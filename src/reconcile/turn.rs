//! A turn is one round for one API: observe, choose a step, perform it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{try_join, try_join_all};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, broadcast};

use super::desired::Desired;
use super::goals;
use super::readings::Readings;
use super::status::{self, Status};
use super::step::{Action, Next, Step, step};
use crate::engine::{Engine, EngineError, ImageTag};
use crate::gateway::{Routes, Upstream};
use crate::records::{Records, RecordsError};
use crate::tree::{ApiId, api::ReadError};
use crate::world::instance::ContainerId;
use crate::world::{Instance, Observed, Record, Run};

/// Everything outside that a turn touches.
pub struct World {
    /// This installation: the owner label.
    pub owner: String,
    /// Runs containers.
    pub engine: Arc<dyn Engine>,
    /// Remembers.
    pub records: Arc<dyn Records>,
    /// What the gateway serves.
    pub routes: Arc<Routes>,
    /// What probes hear.
    pub readings: Arc<dyn Readings>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The folder in which the output of each API's last install and build is kept; `None` keeps none.
    pub build_logs: Option<PathBuf>,
    /// Tells whoever listens what is going on.
    pub news: broadcast::Sender<News>,
    /// Instances that are out of the route and may still have requests in flight.
    pub(super) draining: Mutex<HashMap<ContainerId, Draining>>,
    /// Bounds how many containers start at once: each start is a second of a core.
    pub(super) starts: Semaphore,
    /// Bounds how many APIs' files are in memory at once, on their way into images.
    pub(super) builds: Semaphore,
    /// Bounds how many short calls the engine gets at once.
    pub(super) calls: Semaphore,
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// An instance that is out of the route.
#[derive(Debug, Clone)]
pub(super) struct Draining {
    pub upstream: Arc<Upstream>,
    pub since: Timestamp,
}

/// Something that is going on with one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// With which.
    pub api: ApiId,
    /// What.
    #[serde(flatten)]
    pub what: Going,
}

/// What is going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "going", rename_all = "kebab-case")]
pub enum Going {
    /// A step begins.
    Step {
        /// What is done.
        #[serde(skip)]
        action: Option<Box<Action>>,
        /// What is done, in words.
        doing: String,
        /// Why.
        reason: String,
    },
    /// A build or an install printed a line.
    Output {
        /// The line.
        line: String,
    },
    /// A revision failed; what was written down about it.
    Failed {
        /// One line.
        message: String,
        /// The last lines of output.
        output: Vec<String>,
    },
    /// There is nothing to do for now.
    Rest {
        /// How it is.
        status: Status,
    },
    /// A step could not be done for a reason outside; it is tried again.
    Trouble {
        /// What is in the way.
        message: String,
    },
}

/// What a turn came to.
#[derive(Debug)]
pub enum Outcome {
    /// A step was done: look again at once.
    Again,
    /// Nothing can be done before then, or before something changes.
    Wait(Option<Timestamp>, Status),
    /// All is as it should be.
    Settled(Status),
}

/// Why a turn came to nothing. Nothing is known to have changed; try again later.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The engine's fault.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The records' fault.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The tree moved on.
    #[error(transparent)]
    Tree(#[from] ReadError),
    /// The file is neither in the tree nor in the records any more.
    #[error("the bytes of {0} are gone: bring its folder back")]
    Lost(String),
}

impl World {
    /// A world in which nothing has happened yet.
    #[must_use]
    pub fn new(
        owner: String,
        engine: Arc<dyn Engine>,
        records: Arc<dyn Records>,
        routes: Arc<Routes>,
        readings: Arc<dyn Readings>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            owner,
            engine,
            records,
            routes,
            readings,
            clock,
            build_logs: None,
            news: broadcast::channel(4096).0,
            draining: Mutex::default(),
            starts: Semaphore::new(4),
            builds: Semaphore::new(2),
            calls: Semaphore::new(16),
        }
    }

    /// One round for one API. `desired` is asked for after the records were read, since it depends on them.
    ///
    /// # Errors
    /// Where the world could not be observed, or the step could not be done for a reason outside the API.
    pub async fn turn(
        &self,
        id: &ApiId,
        desired: impl FnOnce(Option<&Record>) -> Desired,
    ) -> Result<Outcome, TurnError> {
        let record = self.records.get(id).await?;
        let desired = desired(record.as_ref());
        let observed = self.observe(&desired, record).await?;
        let next = step(&desired, &observed);
        let status = status::status(&desired, &observed, &next);
        match next {
            Next::Settled => Ok(Outcome::Settled(status)),
            Next::Wait { until, .. } => Ok(Outcome::Wait(until, status)),
            Next::Act(step) => {
                self.tell(id, &step);
                self.perform(&desired, &observed, &step).await?;
                Ok(Outcome::Again)
            }
        }
    }

    fn tell(&self, id: &ApiId, step: &Step) {
        tracing::debug!(api = %id, action = ?step.action, reason = %step.reason, "step");
        let doing = status::doing(&step.action).to_owned();
        let what = Going::Step { action: Some(Box::new(step.action.clone())), doing, reason: step.reason.clone() };
        self.say(id, what);
    }

    /// Tells whoever listens; nobody has to.
    pub(super) fn say(&self, api: &ApiId, what: Going) {
        let _ = self.news.send(News { api: api.clone(), what });
    }

    /// All that one look says about one API.
    async fn observe(&self, desired: &Desired, record: Option<Record>) -> Result<Observed, TurnError> {
        // Never closed, so a permit always comes.
        let _permit = self.calls.acquire().await;
        let instances = self.engine.instances(Some(&desired.id));
        let images = try_join_all(Self::useful_images(desired).into_iter().map(|tag| async move {
            let is_there = self.engine.has_image(&tag).await?;
            Ok::<_, EngineError>(is_there.then_some(tag))
        }));
        let (instances, images) = try_join(instances, images).await?;
        let images = images.into_iter().flatten().collect();
        Ok(self.complete(desired, instances, images, record))
    }

    /// The tags that a step for this API may ask about.
    fn useful_images(desired: &Desired) -> BTreeSet<ImageTag> {
        let targets = desired.target().into_iter().chain(&desired.served);
        targets.flat_map(|target| [target.images.code.clone(), target.images.dependencies.clone()]).collect()
    }

    /// Adds what only this process knows: readings, requests in flight, the route.
    fn complete(
        &self,
        desired: &Desired,
        mut instances: Vec<Instance>,
        images: BTreeSet<ImageTag>,
        record: Option<Record>,
    ) -> Observed {
        let draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        for instance in &mut instances {
            if let Some(address) = instance.address()
                && let Some(target) = desired.target_of(&instance.revision).or(desired.target())
            {
                self.readings.watch(&instance.container, &desired.id, address, &target.spec.health);
            }
            instance.readiness = self.readings.readiness(&instance.container);
            if let Some(Draining { upstream, since }) = draining.get(&instance.container) {
                instance.in_flight = upstream.in_flight();
                instance.draining_since = Some(*since);
            } else if let Some(upstream) = self.routes.upstream(&desired.id, &instance.container) {
                instance.in_flight = upstream.in_flight();
            }
        }
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Observed { at: self.clock.now(), images, instances, record, route: self.routes.seen(&desired.id) }
    }

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
        let recent = self.recently_removed().await?;
        let images = self.engine.images().await?;
        // Taken before the list: what is probed then and is not on the list is gone, and not just on its way.
        let watched = self.readings.watched();
        let list = self.engine.instances(None).await?;
        self.let_go(&watched, &list);
        let mut instances: BTreeMap<ApiId, Vec<Instance>> = BTreeMap::new();
        for instance in list {
            instances.entry(instance.api.clone()).or_default().push(instance);
        }
        Ok(Look { records, confirmed, recent, images, instances })
    }

    /// The APIs that went within [`goals::RECENT`], as the events have it: a restart must not make room for more.
    async fn recently_removed(&self) -> Result<BTreeSet<ApiId>, TurnError> {
        /// More events than a mass removal that is not held can make.
        const EVENTS: usize = 500;
        let now = self.clock.now();
        let events = self.records.last_events(None, EVENTS).await?;
        let events = events.into_iter().map(|event| event.event).filter(|event| event.kind == goals::REMOVED);
        let recent = events.filter(|event| now.duration_since(event.at).unsigned_abs() < goals::RECENT);
        Ok(recent.filter_map(|event| event.api).collect())
    }

    /// Forgets what only this process keeps of containers that somebody else removed.
    fn let_go(&self, watched: &[ContainerId], list: &[Instance]) {
        let there: BTreeSet<&ContainerId> = list.iter().map(|instance| &instance.container).collect();
        let mut draining = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in watched.iter().filter(|container| !there.contains(container)) {
            self.readings.forget(gone);
            draining.remove(gone);
        }
    }

    /// What a look says about one API.
    #[must_use]
    pub fn observed(&self, look: &Look, desired: &Desired) -> Observed {
        let useful = Self::useful_images(desired);
        let images = look.images.intersection(&useful).cloned().collect();
        let instances = look.instances.get(&desired.id).cloned().unwrap_or_default();
        self.complete(desired, instances, images, look.records.get(&desired.id).cloned())
    }
}

/// One look at everything.
#[derive(Debug)]
pub struct Look {
    /// Every row.
    pub records: BTreeMap<ApiId, Record>,
    /// APIs that may go although many go at once.
    pub confirmed: BTreeSet<ApiId>,
    /// APIs that went a short while ago without being confirmed.
    pub recent: BTreeSet<ApiId>,
    /// Every image of ours.
    pub images: BTreeSet<ImageTag>,
    /// Every instance of ours.
    pub instances: BTreeMap<ApiId, Vec<Instance>>,
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
