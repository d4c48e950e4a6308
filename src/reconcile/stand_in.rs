//! Standing in is what containers of the system before do for APIs that nothing of ours serves yet, while the settings say
//! that they may. Here it is found out which of them can, and how one is let go of before it is stopped.
//!
//! No step of ours depends on it: what should be, what is and what is done next are the same with it and without.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use super::prober::Prober;
use super::routing::route;
use super::turn::{TurnError, World, lock};
use crate::gateway::{RouteState, StandIn, Upstream};
use crate::settings::Settings;
use crate::tree::{Api, ApiId, Folder, Scanner, Tree};
use crate::world::instance::ContainerId;
use crate::world::{Predecessor, Readiness};

/// Between two looks at the containers of the system before. One costs the engine a list.
const EVERY: Duration = Duration::from_secs(1);

/// How long a first answer may take, when a daemon starts.
const FIRST: Duration = Duration::from_millis(1500);

/// Between two counts of what one has still to finish.
const BETWEEN_COUNTS: Duration = Duration::from_millis(20);

/// Within so long every other daemon has heard that ours serve.
const HEARD: Duration = Duration::from_secs(2);

/// The shortest time that an app of the system before is given to end: callers may have come to it by its own gateway.
const LEAST_GRACE: Duration = Duration::from_secs(10);

/// What this process keeps of containers of the system before.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Of each that callers were sent to: its count, and its connections.
    upstreams: HashMap<ContainerId, Arc<Upstream>>,
    /// Those that are being stopped; nobody is sent there.
    stopping: HashSet<ContainerId>,
}

/// Keeps looking which containers of the system before can stand in, and tells the gateway.
pub struct StandIns {
    controller: Arc<Controller>,
    settings: Arc<Settings>,
    /// Apart from the one that asks our instances: that one forgets whoever is not ours.
    prober: Prober,
    /// The tree as this daemon read it itself, where it does not reconcile (yet), and when.
    read: Option<(Instant, Arc<Tree>)>,
    /// Each API as its folder last said soundly.
    apis: BTreeMap<ApiId, Arc<Api>>,
    /// The APIs whose callers are at a stand-in, as far as that was told.
    told: BTreeSet<ApiId>,
}

impl StandIns {
    /// Nobody stands in yet.
    #[must_use]
    pub fn new(controller: Arc<Controller>, settings: Arc<Settings>) -> Self {
        let (apis, told) = (BTreeMap::new(), BTreeSet::new());
        Self { controller, settings, prober: Prober::new(), read: None, apis, told }
    }

    /// The first look, which waits a moment for first answers: before callers come.
    pub async fn begin(&mut self) {
        self.look().await;
        let until = Instant::now() + FIRST;
        for container in self.prober.watched() {
            if self.prober.readiness(&container) == Readiness::Unknown {
                self.prober.changed(&container, until.saturating_duration_since(Instant::now())).await;
            }
        }
        self.look().await;
    }

    /// Looks again and again, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(EVERY) => {} }
            tokio::select! { () = stop.cancelled() => return, () = self.look() => {} }
        }
    }

    async fn look(&mut self) {
        let world = Arc::clone(self.controller.world());
        self.learn().await;
        // With the engine down, whoever stands in goes on.
        match world.engine.predecessors().await {
            Ok(found) => self.offer(&world, &found),
            Err(error) => tracing::debug!("cannot look for stand-ins: {error}"),
        }
        self.tell(&world).await;
    }

    /// Takes in what the tree says. Of a folder that is broken, what it said before goes on; so it is with the whole tree.
    async fn learn(&mut self) {
        let tree = match self.controller.tree() {
            Ok(tree) => tree,
            Err(_) => match self.read_tree().await {
                Some(tree) => tree,
                None => return,
            },
        };
        self.apis.retain(|id, _| tree.folders.contains_key(id));
        for (id, folder) in &tree.folders {
            if let Folder::Sound(api) = folder {
                self.apis.insert(id.clone(), Arc::clone(api));
            }
        }
    }

    /// The tree as it is on disk: who does not reconcile is told of none.
    async fn read_tree(&mut self) -> Option<Arc<Tree>> {
        if let Some((at, tree)) = &self.read
            && at.elapsed() < self.settings.look_every.0
        {
            return Some(Arc::clone(tree));
        }
        let settings = Arc::clone(&self.settings);
        let read = tokio::task::spawn_blocking(move || Scanner::new(&settings)?.read()).await;
        match read {
            Ok(Ok(look)) => {
                self.read = Some((Instant::now(), Arc::clone(&look.tree)));
                Some(look.tree)
            }
            Ok(Err(error)) => {
                tracing::warn!("cannot look for stand-ins: {}", crate::report::with_causes(&error));
                None
            }
            Err(_) => None,
        }
    }

    /// Tells the gateway of those that answer.
    fn offer(&mut self, world: &World, found: &[Predecessor]) {
        let mut watched: HashSet<ContainerId> = self.prober.watched().into_iter().collect();
        let mut offered = HashMap::new();
        let mut kept = lock(&world.stand_ins);
        // One that was stopped and is started again begins anew.
        let is_there = |container: &ContainerId| {
            found.iter().any(|predecessor| predecessor.container == *container && predecessor.place().is_some())
        };
        kept.upstreams.retain(|container, _| is_there(container));
        for predecessor in found {
            let Some((id, address)) = predecessor.place() else { continue };
            let Some(api) = self.apis.get(id).filter(|api| !api.spec.suspend) else { continue };
            let container = &predecessor.container;
            watched.remove(container);
            self.prober.watch(Arc::clone(container), id.clone(), address, &api.spec.health);
            if self.prober.readiness(container) != Readiness::Ready || kept.stopping.contains(container) {
                continue;
            }
            let known = kept.upstreams.get(container).filter(|known| known.address == address && !known.is_sealed());
            let upstream = known.cloned().unwrap_or_else(|| Arc::new(Upstream::new(Arc::clone(container), address)));
            kept.upstreams.insert(Arc::clone(container), Arc::clone(&upstream));
            let state = RouteState::Unavailable { reason: "API is not ready yet".to_owned() };
            offered.insert(id.clone(), StandIn { route: Arc::new(route(id, &api.spec, state)), upstream });
        }
        // Under the lock, so that one that has just been told to stop is not offered again.
        world.routes.set_stand_ins(offered);
        drop(kept);
        for gone in &watched {
            self.prober.forget(gone);
        }
    }

    /// Says whose callers have come to a stand-in since the last look, and whose have come to ours.
    async fn tell(&mut self, world: &World) {
        for id in self.apis.keys() {
            let stands_in = world.answers(id) == Answers::Theirs;
            if stands_in == self.told.contains(id) {
                continue;
            }
            let (kind, message) = if stands_in {
                self.told.insert(id.clone());
                ("stand-in", "its container of the system before answers callers until ours does")
            } else {
                self.told.remove(id);
                ("stand-in", "its container of the system before does not answer callers any more")
            };
            if let Err(error) = world.write_down(id, None, kind, message).await {
                tracing::warn!(api = %id, "{error}");
            }
        }
    }
}

/// Who answers the callers of one API at this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// An instance of ours.
    Ours,
    /// A container of the system before.
    Theirs,
    /// Nobody.
    Nobody,
}

/// What came of the wish to stop a container of the system before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Let {
    /// It is stopped.
    Stopped,
    /// It goes on: while it finished what it was doing, ours ceased to serve.
    GoesOn,
}

impl World {
    /// Who answers the callers of one API now.
    #[must_use]
    pub fn answers(&self, id: &ApiId) -> Answers {
        match self.routes.for_caller(id.as_str()).as_deref().map(|route| &route.state) {
            Some(RouteState::Serving { .. }) => Answers::Ours,
            Some(RouteState::Unavailable { .. }) if self.routes.stand_in(id.as_str()).is_some() => Answers::Theirs,
            _ => Answers::Nobody,
        }
    }

    /// How many requests the gateway has open to a container of the system before.
    #[must_use]
    pub fn in_flight_at(&self, predecessor: &Predecessor) -> u64 {
        lock(&self.stand_ins).upstreams.get(&predecessor.container).map_or(0, |upstream| upstream.in_flight())
    }

    /// Lets a container of the system before finish what callers asked of it, for `drain` at the longest, and stops it, all
    /// that only while ours serves `id`.
    ///
    /// # Errors
    /// Where the engine or the records cannot be asked.
    pub async fn stop_predecessor(
        &self,
        id: &ApiId,
        predecessor: &Predecessor,
        drain: Duration,
    ) -> Result<Let, TurnError> {
        let container = &predecessor.container;
        let upstream = {
            let mut kept = lock(&self.stand_ins);
            kept.stopping.insert(Arc::clone(container));
            self.routes.dismiss_stand_in(id);
            kept.upstreams.get(container).cloned()
        };
        let done = self.let_end(id, predecessor, upstream, drain).await;
        let mut kept = lock(&self.stand_ins);
        kept.stopping.remove(container);
        kept.upstreams.remove(container);
        done
    }

    async fn let_end(
        &self,
        id: &ApiId,
        predecessor: &Predecessor,
        upstream: Option<Arc<Upstream>>,
        drain: Duration,
    ) -> Result<Let, TurnError> {
        let begun = self.clock.elapsed();
        let has = |span: Duration| self.clock.elapsed() >= begun + span;
        while upstream.as_ref().is_some_and(|upstream| !upstream.try_seal()) && !has(drain) {
            self.clock.sleep(BETWEEN_COUNTS).await;
        }
        while !self.records.followers().await?.is_empty() && !has(HEARD) {
            self.clock.sleep(BETWEEN_COUNTS).await;
        }
        if self.answers(id) != Answers::Ours {
            return Ok(Let::GoesOn);
        }
        if let Some(upstream) = upstream {
            upstream.close();
        }
        self.engine.stop_predecessor(&predecessor.container, drain.max(LEAST_GRACE)).await?;
        let name = &predecessor.name;
        let message =
            format!("the container {name} of the system before is stopped; `docker start {name}` starts it again");
        self.write_down(id, None, "adopted", &message).await?;
        Ok(Let::Stopped)
    }
}
