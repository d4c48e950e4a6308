//! An engine and readings made of maps. The host outlives every daemon, and watches over what is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use skep::engine::{Base, Build, Engine, EngineError, Hint, ImageTag, Install, LogLine, Progress, Start, Usage};
use skep::gateway::{InFlight, Routes};
use skep::reconcile::Readings;
use skep::reconcile::turn::Clock;
use skep::tree::{ApiId, Digest, Health, Requirements, Versions};
use skep::world::instance::{ContainerId, InstanceName};
use skep::world::{Answer, Instance, Predecessor, Readiness, Run};

use super::faults::{Faults, SimClock};
use super::records::Tables;

/// How long an instance that is out of the route may go on with what it has begun; the same for every API.
pub const DRAIN: Duration = Duration::from_secs(5);

/// How long an instance may take to its first good answer; the same for every API.
pub const GRACE: Duration = Duration::from_secs(10);

/// Within so long every daemon that is awake has heard of an announced removal, and had a turn.
const HEARD: Duration = Duration::from_secs(2);

/// What an app does, read from its environment variable `BEHAVIOUR`.
pub const BEHAVIOURS: [&str; 6] = ["good", "slow", "never-ready", "crash", "out-of-memory", "bad-requirement"];

/// Whether an app with that behaviour comes to serve.
pub fn is_good(behaviour: &str) -> bool {
    matches!(behaviour, "good" | "slow")
}

/// One container.
#[derive(Debug, Clone)]
pub struct Container {
    pub job: Start,
    pub id: ContainerId,
    pub run: Run,
    pub started: Timestamp,
    /// Its own for as long as it is there.
    pub address: SocketAddr,
    pub altered: bool,
}

impl Container {
    fn behaviour(&self) -> &str {
        self.job.run.env.get("BEHAVIOUR").map_or("good", String::as_str)
    }

    /// From when on it answers its probe, if nothing happens to it.
    fn ready_at(&self) -> Option<Timestamp> {
        let boot = match self.behaviour() {
            "good" => Duration::from_millis(800),
            "slow" => Duration::from_secs(4),
            _ => return None,
        };
        matches!(self.run, Run::Running { address: Some(_), .. }).then_some(self.started + boot)
    }

    /// What a probe would hear at that moment.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.ready_at().is_some_and(|at| now >= at)
    }

    fn seen(&self) -> Instance {
        Instance {
            name: self.job.name.clone(),
            container: Arc::clone(&self.id),
            api: self.job.api.clone(),
            revision: self.job.revision.clone(),
            number: self.job.number,
            spec: None,
            run: self.run.clone(),
            altered: self.altered.then(|| "somebody changed its memory limit".to_owned()),
            beyond_repair: false,
            created: self.started,
            readiness: Readiness::Unknown,
            leaving: false,
            in_flight: 0,
            draining_since: None,
        }
    }
}

/// What had an effect on the host, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effects {
    pub installs: u32,
    pub builds: u32,
    pub starts: u32,
    pub removals: u32,
}

/// A request that a gateway has let through and that has not ended.
pub struct Request {
    pub in_flight: InFlight,
    pub opened: Timestamp,
}

/// What callers of one daemon reach.
pub struct Gateway {
    pub routes: Arc<Routes>,
    /// Not so while its process is paused: it serves nobody then.
    pub is_awake: bool,
    pub requests: Vec<Request>,
}

impl Gateway {
    fn routed(&self, id: &ApiId) -> Vec<ContainerId> {
        self.routes.upstreams(id).iter().map(|upstream| Arc::clone(&upstream.container)).collect()
    }
}

#[derive(Default)]
pub struct Host {
    pub containers: BTreeMap<InstanceName, Container>,
    pub images: BTreeSet<ImageTag>,
    pub effects: Effects,
    /// Of each daemon that is there.
    pub gateways: [Option<Gateway>; 2],
    /// Whose turn it is.
    pub current: usize,
    /// What must never happen, if it did.
    pub broken: Option<String>,
    /// What the next lists say instead of what is, and how many of them.
    pub stale: Option<(Vec<Instance>, u32)>,
    next: u16,
}

impl Host {
    fn list(&self) -> impl Iterator<Item = Instance> {
        self.containers.values().map(Container::seen)
    }

    /// Apps that crash do so by the time that anybody looks.
    fn settle(&mut self, now: Timestamp) {
        for container in self.containers.values_mut() {
            let is_up = matches!(container.run, Run::Running { .. }) && now > container.started;
            match container.behaviour() {
                "crash" if is_up => container.run = Run::Exited { code: 1, out_of_memory: false },
                "out-of-memory" if is_up => container.run = Run::Exited { code: 137, out_of_memory: true },
                _ => {}
            }
        }
    }

    /// The next `count` lists say what is now.
    pub fn remember(&mut self, count: u32) {
        self.stale = Some((self.list().collect(), count));
    }

    fn find(&self, container: &str) -> Option<&Container> {
        self.containers.values().find(|c| &*c.id == container)
    }

    /// How many of the containers that a route forwards to answer.
    pub fn healthy(&self, containers: impl IntoIterator<Item = impl AsRef<str>>, now: Timestamp) -> usize {
        containers.into_iter().filter(|id| self.find(id.as_ref()).is_some_and(|c| c.is_ready(now))).count()
    }

    /// The law of service, at the moment in which a container goes.
    fn watch_over_removal(&mut self, gone: &Container, announced: Option<Timestamp>, tables: &Tables, now: Timestamp) {
        let (id, api) = (&gone.id, &gone.job.api);
        let healthy = gone.is_ready(now);
        if self.broken.is_some() || !healthy {
            return;
        }
        let is_heard = announced.is_some_and(|at| now >= at + DRAIN + HEARD);
        for (daemon, gateway) in self.gateways.iter().enumerate() {
            let Some(gateway) = gateway.as_ref().filter(|gateway| gateway.is_awake) else { continue };
            let is_own = daemon == self.current;
            if gateway.routed(api).contains(id) && (is_own || !is_heard) {
                let whose = if is_own { "its own" } else { "the other" };
                self.broken =
                    Some(format!("daemon {} removed {id} of {api}, healthy and in {whose} route", self.current));
            }
            let is_cut = gateway
                .requests
                .iter()
                .any(|request| request.in_flight.upstream().container == *id && now < request.opened + DRAIN);
            if is_cut && (is_own || !is_heard) {
                self.broken = Some(format!("daemon {} removed {id} of {api} under a request", self.current));
            }
        }
        let served = tables.rows.get(api).and_then(|row| row.served.as_ref());
        if served.is_some_and(|served| served.revision == gone.job.revision) {
            let left = |c: &&Container| c.id != *id && c.job.api == *api && c.job.revision == gone.job.revision;
            let is_last = !self.containers.values().filter(left).any(|c| c.is_ready(now));
            let mut awake = self.gateways.iter().flatten().filter(|gateway| gateway.is_awake);
            if is_last && !awake.any(|gateway| self.healthy(gateway.routed(api), now) > 0) {
                self.broken = Some(format!("{id} was the last healthy instance of what served last of {api}"));
            }
        }
    }
}

/// An engine made of maps. It outlives every daemon.
pub struct SimEngine {
    pub host: Mutex<Host>,
    pub faults: Arc<Faults>,
    pub clock: Arc<SimClock>,
    pub tables: Arc<Mutex<Tables>>,
}

impl SimEngine {
    pub fn new(faults: Arc<Faults>, clock: Arc<SimClock>, tables: Arc<Mutex<Tables>>) -> Self {
        Self { host: Mutex::default(), faults, clock, tables }
    }

    async fn call<T>(&self, effect: impl FnOnce(&mut Host) -> T) -> Result<T, EngineError> {
        self.faults.call(|| Ok(effect(&mut self.host.lock().unwrap()))).await
    }

    async fn work(&self, effect: impl FnOnce(&mut Host) -> Result<(), EngineError>) -> Result<(), EngineError> {
        self.faults.call(|| effect(&mut self.host.lock().unwrap())).await
    }

    fn is_ready(&self, container: &str) -> bool {
        self.host.lock().unwrap().healthy([container], self.clock.now()) > 0
    }

    fn ready_at(&self, container: &str) -> Option<Timestamp> {
        self.host.lock().unwrap().find(container)?.ready_at()
    }
}

fn refused(action: &'static str, cause: &str) -> EngineError {
    EngineError::Refused { action, cause: cause.to_owned() }
}

#[async_trait]
impl Engine for SimEngine {
    async fn base(&self, _: &Progress) -> Result<Base, EngineError> {
        Ok(base())
    }

    async fn instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError> {
        let is_wanted = |instance: &Instance| api.is_none_or(|api| instance.api == *api);
        self.call(|host| {
            if let Some((list, count)) = &mut host.stale {
                *count -= 1;
                let list = list.iter().filter(|instance| is_wanted(instance)).cloned().collect();
                host.stale.take_if(|(_, count)| *count == 0);
                return list;
            }
            host.settle(self.clock.now());
            host.list().filter(is_wanted).collect()
        })
        .await
    }

    async fn images(&self) -> Result<BTreeSet<ImageTag>, EngineError> {
        self.call(|host| host.images.clone()).await
    }

    async fn has_image(&self, tag: &ImageTag) -> Result<bool, EngineError> {
        self.call(|host| host.images.contains(tag)).await
    }

    async fn install(&self, job: &Install, _: &Progress) -> Result<(), EngineError> {
        self.work(|host| {
            if job.requirements.0.iter().any(|requirement| requirement.0 == "bad-requirement") {
                let output = vec!["not found".to_owned()];
                return Err(EngineError::Failed { message: "bad-requirement: not found".to_owned(), output });
            }
            host.effects.installs += u32::from(host.images.insert(job.tag.clone()));
            Ok(())
        })
        .await
    }

    async fn resolve(&self, _: &Requirements) -> Result<Versions, EngineError> {
        Err(EngineError::Unsupported("there is no index here".to_owned()))
    }

    async fn installed(&self, _: &ImageTag) -> Result<Versions, EngineError> {
        Err(EngineError::Unsupported("there is nothing in images here".to_owned()))
    }

    async fn build(&self, job: &Build, _: &Progress) -> Result<(), EngineError> {
        self.work(|host| {
            if !host.images.contains(&job.dependencies) {
                return Err(refused("build", "no such image"));
            }
            host.effects.builds += u32::from(host.images.insert(job.tag.clone()));
            Ok(())
        })
        .await
    }

    async fn start(&self, job: &Start) -> Result<(), EngineError> {
        self.work(|host| {
            if !host.images.contains(&job.image) {
                return Err(refused("create", "no such image"));
            }
            if host.containers.contains_key(&job.name) {
                return Ok(());
            }
            host.next += 1;
            host.effects.starts += 1;
            let started = self.clock.now();
            let address = SocketAddr::from(([10, 0, 0, 1], host.next));
            let run = Run::Running { address: Some(address), since: started };
            let id = format!("c{}", host.next).into();
            let container = Container { job: job.clone(), id, run, started, address, altered: false };
            host.containers.insert(job.name.clone(), container);
            Ok(())
        })
        .await
    }

    async fn repair(&self, container: &ContainerId) -> Result<bool, EngineError> {
        self.call(|host| {
            let Some(found) = host.containers.values_mut().find(|c| c.id == *container) else { return true };
            found.altered = false;
            if matches!(found.run, Run::Paused | Run::Running { address: None, .. }) {
                found.run = Run::Running { address: Some(found.address), since: found.started };
            }
            true
        })
        .await
    }

    async fn remove(&self, container: &ContainerId, _: Duration) -> Result<(), EngineError> {
        self.call(|host| {
            let Some(gone) = host.find(container).cloned() else { return };
            let tables = self.tables.lock().unwrap();
            let announced = tables.announced.get(&**container).copied();
            host.watch_over_removal(&gone, announced, &tables, self.clock.now());
            host.containers.remove(&gone.job.name);
            host.effects.removals += 1;
        })
        .await
    }

    async fn remove_image(&self, tag: &ImageTag) -> Result<(), EngineError> {
        self.work(|host| {
            if host.containers.values().any(|container| container.job.image == *tag) {
                return Err(refused("remove an image", "a container stands on it"));
            }
            host.images.remove(tag);
            Ok(())
        })
        .await
    }

    async fn leftovers(&self) -> Result<Vec<ContainerId>, EngineError> {
        self.call(|_| Vec::new()).await
    }

    async fn tidy(&self, _: &[ContainerId]) -> Result<(), EngineError> {
        self.call(|_| ()).await
    }

    async fn free_disk(&self) -> Result<Option<u64>, EngineError> {
        self.call(|_| None).await
    }

    async fn make_room(&self) -> Result<(), EngineError> {
        self.call(|_| ()).await
    }

    async fn usage(&self, _: &ContainerId) -> Result<Usage, EngineError> {
        self.call(|_| Usage::default()).await
    }

    async fn logs(
        &self,
        _: &ContainerId,
        _: usize,
        _: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.call(|_| stream::empty().boxed()).await
    }

    async fn predecessors(&self) -> Result<Vec<Predecessor>, EngineError> {
        self.call(|_| Vec::new()).await
    }

    async fn stop_predecessor(&self, _: &ContainerId, _: Duration) -> Result<(), EngineError> {
        unreachable!("nobody says so")
    }

    fn events(&self) -> BoxStream<'static, Hint> {
        stream::pending().boxed()
    }
}

/// The base image that all stands on.
pub fn base() -> Base {
    Base { digest: Digest::of(b"base"), name: "base".to_owned() }
}

/// Readings of a perfect prober. They die with the daemon, as real ones do.
pub struct SimReadings {
    engine: Arc<SimEngine>,
    clock: Arc<SimClock>,
    watched: Mutex<BTreeMap<ContainerId, Timestamp>>,
}

impl SimReadings {
    pub fn new(engine: Arc<SimEngine>, clock: Arc<SimClock>) -> Self {
        Self { engine, clock, watched: Mutex::default() }
    }
}

#[async_trait]
impl Readings for SimReadings {
    fn watch(&self, container: &ContainerId, _: &ApiId, _: SocketAddr, _: &Health) {
        self.watched.lock().unwrap().entry(Arc::clone(container)).or_insert_with(|| self.clock.now());
    }

    fn forget(&self, container: &ContainerId) {
        self.watched.lock().unwrap().remove(container);
    }

    fn watched(&self) -> Vec<ContainerId> {
        self.watched.lock().unwrap().keys().cloned().collect()
    }

    fn readiness(&self, container: &ContainerId) -> Readiness {
        match self.watched.lock().unwrap().get(container) {
            Some(_) if self.engine.is_ready(container) => Readiness::Ready,
            Some(since) => Readiness::Failing { last: "connection refused".to_owned(), since: *since },
            None => Readiness::Unknown,
        }
    }

    async fn ready_within(&self, container: &ContainerId, limit: Duration) -> Readiness {
        // Longer than asked, so that waiting for what never gets ready takes few turns.
        let now = self.clock.now();
        let early = || self.engine.ready_at(container).filter(|at| *at > now);
        self.clock.wait(limit * 8, early).await;
        self.readiness(container)
    }
}

/// What a route says, without the engine's own ids.
pub fn describe(answer: Option<Answer>) -> String {
    match answer {
        Some(Answer::Forward { revision, containers }) => format!("{revision} ×{}", containers.len()),
        Some(answer) => format!("{answer:?}"),
        None => "no route".to_owned(),
    }
}
