//! A turn is one round for one API: observe, choose a step, perform it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, broadcast};

pub use super::clock::{Clock, SystemClock};
use super::desired::{Basis, Desired};
use super::following::follow;
use super::found;
use super::leadership::Role;
use super::readings::Readings;
use super::stand_in::Kept;
use super::status::{self, Status};
use super::step::{Action, Next, Step, step};
use crate::engine::{Engine, EngineError, ImageTag};
use crate::gateway::{Routes, Upstream};
use crate::git::commit::Commits;
use crate::lend::lend;
use crate::metrics::Metrics;
use crate::records::{Records, RecordsError};
use crate::secrets::Keyring;
use crate::telemetry::Traces;
use crate::tree::{ApiId, api::ReadError};
use crate::world::instance::{ContainerId, InstanceName};
use crate::world::{Instance, Observed, Record};

/// A look at one API that takes longer than this lets others look.
const SLOW_CALL: Duration = Duration::from_secs(2);

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
    /// Instances that were not as they were made even after they had been put right.
    pub(super) beyond_repair: Mutex<HashSet<ContainerId>>,
    /// Instances that this process itself removed, and that are not there again yet.
    pub(super) gaps: Mutex<HashSet<InstanceName>>,
    /// The APIs whose row was there when this process last wrote or read it.
    pub(super) known: Mutex<HashSet<ApiId>>,
    /// Since when other daemons are waited for to let go of a container, of [`Clock::elapsed`].
    pub(super) waiting: Mutex<HashMap<ContainerId, Duration>>,
    /// The containers that this daemon, as a follower, has let go of.
    pub(super) let_go: Mutex<HashSet<ContainerId>>,
    /// What is kept of containers of the system before.
    pub(super) stand_ins: Mutex<Kept>,
    /// Nothing is built while less than this is free where the engine keeps its images, in bytes.
    pub min_free_disk: AtomicU64,
    /// Who is asked which commit a folder is, where somebody is.
    pub commits: Option<Commits>,
    /// What opens secrets, where this process starts instances that have some.
    pub keyring: Option<Keyring>,
    /// Which daemon this is.
    pub daemon: String,
    /// Where it is counted what is done, where anybody wants to know.
    pub metrics: OnceLock<Arc<Metrics>>,
    /// Who is told of each step, where somebody is.
    pub traces: OnceLock<Arc<Traces>>,
    /// Whether this process reconciles.
    pub role: Role,
    /// Bounds how many containers start at once: each start is a second of a core.
    pub(super) starts: Semaphore,
    /// Bounds how many APIs' files are in memory at once, on their way into images.
    pub(super) builds: Semaphore,
    /// Bounds how many short calls the engine gets at once.
    pub(super) calls: Semaphore,
}

/// An instance that is out of the route.
#[derive(Debug, Clone)]
pub(super) struct Draining {
    pub upstream: Arc<Upstream>,
    /// Of [`Clock::elapsed`].
    pub since: Duration,
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
            beyond_repair: Mutex::default(),
            gaps: Mutex::default(),
            known: Mutex::default(),
            waiting: Mutex::default(),
            let_go: Mutex::default(),
            stand_ins: Mutex::default(),
            commits: None,
            keyring: None,
            daemon: uuid::Uuid::now_v7().to_string(),
            metrics: OnceLock::new(),
            traces: OnceLock::new(),
            role: Role::default(),
            min_free_disk: AtomicU64::new(0),
            starts: Semaphore::new(4),
            builds: Semaphore::new(2),
            calls: Semaphore::new(16),
        }
    }

    /// One round for one API. `desired` is asked for after the records were read, since it depends on them, and again
    /// during long work whenever somebody is `woken`.
    ///
    /// # Errors
    /// Where the world could not be observed, or the step could not be done for a reason outside the API.
    pub async fn turn(
        &self,
        id: &ApiId,
        desired: impl Fn(Option<&Record>) -> Desired,
        woken: &Notify,
    ) -> Result<Outcome, TurnError> {
        let record = self.records.get(id).await?;
        if self.role.leads() {
            self.notice_loss(id, record.as_ref()).await?;
        }
        let wanted = desired(record.as_ref());
        let observed = self.observe(&wanted, record.clone()).await?;
        let (newer, desired) = (desired, wanted);
        let next = self.next(&desired, &observed);
        let status = status::status(&desired, &observed, &next);
        match next {
            Next::Settled => Ok(Outcome::Settled(status)),
            Next::Wait { until, .. } => Ok(Outcome::Wait(until, status)),
            Next::Act(step) => {
                self.tell(id, &step);
                self.note_drift(&desired, &observed, &step).await?;
                let Some(image) = long_work(&step.action) else {
                    self.perform(&desired, &observed, &step).await?;
                    return Ok(Outcome::Again);
                };
                // A newer change supersedes the one in flight, as soon as the work is for nothing that is still wanted.
                let superseded = async {
                    loop {
                        woken.notified().await;
                        let now = newer(record.as_ref());
                        if !Self::useful_images(&now).contains(image) {
                            return;
                        }
                        if let Err(error) = self.go_on_beside(&now).await {
                            tracing::debug!(api = %id, "beside an install or a build: {error}");
                        }
                    }
                };
                tokio::select! {
                    biased;
                    done = Box::pin(self.perform(&desired, &observed, &step)) => done?,
                    () = superseded => tracing::info!(api = %id, "given up for a newer change: {}", step.reason),
                }
                Ok(Outcome::Again)
            }
        }
    }

    /// The next step: towards the tree where this process reconciles, else after what the records say is in force.
    #[must_use]
    pub fn next(&self, desired: &Desired, observed: &Observed) -> Next {
        match (&desired.basis, self.role.leads()) {
            // Even where a term has begun meanwhile: the tree has had no say in this.
            (Basis::Following, _) => {
                let let_go = lock(&self.let_go);
                follow(desired, observed, |instance| let_go.contains(&instance.container))
            }
            (_, true) => step(desired, observed),
            (_, false) => Next::Settled,
        }
    }

    /// Forgets what is only so while nobody else reconciles.
    pub(super) fn forget(&self) {
        lock(&self.known).clear();
        lock(&self.gaps).clear();
        lock(&self.waiting).clear();
    }

    /// Writes down that somebody deleted the API's row: nobody else but this process writes it.
    async fn notice_loss(&self, id: &ApiId, now: Option<&Record>) -> Result<(), TurnError> {
        let was_known = lock(&self.known).contains(id);
        match now {
            Some(_) => drop(lock(&self.known).insert(id.clone())),
            None => drop(lock(&self.known).remove(id)),
        }
        if was_known && now.is_none() {
            self.write_down(id, None, found::FOUND, found::ROW_GONE).await?;
        }
        Ok(())
    }

    /// Writes down what a step is about to put right.
    pub(super) async fn note_drift(
        &self,
        desired: &Desired,
        observed: &Observed,
        step: &Step,
    ) -> Result<(), TurnError> {
        let is_expected = match &step.action {
            Action::Start { revision, number } => {
                let name = InstanceName::new(&desired.id, revision, *number);
                lock(&self.gaps).remove(&name)
            }
            _ => false,
        };
        if let Some(what) = found::found(step, desired, observed, is_expected) {
            let revision = desired.target().map(|target| &target.revision);
            self.write_down(&desired.id, revision, found::FOUND, &what).await?;
        }
        Ok(())
    }

    pub(super) fn tell(&self, id: &ApiId, step: &Step) {
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
    pub(super) async fn observe(&self, desired: &Desired, record: Option<Record>) -> Result<Observed, TurnError> {
        let instances = self.engine.instances(Some(&desired.id));
        let images = try_join_all(Self::useful_images(desired).into_iter().map(|tag| async move {
            let is_there = self.engine.has_image(&tag).await?;
            Ok::<_, EngineError>(is_there.then_some(tag))
        }));
        let (instances, images) = lend(&self.calls, SLOW_CALL, try_join(instances, images)).await?;
        let images = images.into_iter().flatten().collect();
        let leaving = self.records.leaving().await?.into_keys().collect();
        Ok(self.complete(desired, instances, images, record, &leaving))
    }

    /// The tags that a step for this API may ask about.
    pub(super) fn useful_images(desired: &Desired) -> BTreeSet<ImageTag> {
        let targets = desired.target().into_iter().chain(&desired.served);
        targets.flat_map(|target| [target.images.code.clone(), target.images.dependencies.clone()]).collect()
    }

    /// Adds what only this process knows: readings, requests in flight, the route.
    pub(super) fn complete(
        &self,
        desired: &Desired,
        mut instances: Vec<Instance>,
        images: BTreeSet<ImageTag>,
        record: Option<Record>,
        leaving: &BTreeSet<String>,
    ) -> Observed {
        let (draining, beyond_repair) = (lock(&self.draining), lock(&self.beyond_repair));
        for instance in &mut instances {
            if let Some(address) = instance.address()
                && let Some(target) = desired.target_of(&instance.revision).or(desired.target())
            {
                self.readings.watch(&instance.container, &desired.id, address, &target.spec.health);
            }
            instance.readiness = self.readings.readiness(&instance.container);
            instance.leaving = leaving.contains(&*instance.container);
            instance.beyond_repair = beyond_repair.contains(&instance.container);
            if let Some(Draining { upstream, since }) = draining.get(&instance.container) {
                instance.in_flight = upstream.in_flight();
                instance.draining_since =
                    self.clock.now().checked_sub(self.clock.elapsed().saturating_sub(*since)).ok();
            } else if let Some(upstream) = self.routes.upstream(&desired.id, &instance.container) {
                instance.in_flight = upstream.in_flight();
            }
        }
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Observed { at: self.clock.now(), images, instances, record, route: self.routes.seen(&desired.id) }
    }
}

/// The image of an action that may take minutes.
pub(super) fn long_work(action: &Action) -> Option<&ImageTag> {
    match action {
        Action::Install { image } | Action::Build { image } => Some(image),
        _ => None,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks panics halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
