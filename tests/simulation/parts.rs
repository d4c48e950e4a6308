//! An engine, records, readings and a clock made of maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use skep::engine::{Base, Build, Engine, EngineError, Hint, ImageTag, Install, LogLine, Progress, Start};
use skep::gateway::Routes;
use skep::reconcile::Readings;
use skep::reconcile::turn::Clock;
use skep::tree::{ApiId, Digest, Health};
use skep::world::instance::{ContainerId, InstanceName};
use skep::world::{Answer, Instance, Readiness, Run};

/// What an app does, read from its environment variable `BEHAVIOUR`.
pub const BEHAVIOURS: [&str; 6] = ["good", "slow", "never-ready", "crash", "out-of-memory", "bad-requirement"];

/// Whether an app with that behaviour comes to serve.
pub fn is_good(behaviour: &str) -> bool {
    matches!(behaviour, "good" | "slow")
}

/// The clock of a simulation, in milliseconds.
pub struct SimClock(AtomicI64);

impl SimClock {
    pub fn new() -> Self {
        Self(AtomicI64::new(1_700_000_000_000))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn advance_to(&self, at: Timestamp) {
        self.0.fetch_max(at.as_millisecond() + 1, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// When calls fail: before or after their effect.
pub struct Faults {
    random: Mutex<SmallRng>,
    /// Of a thousand calls.
    per_mille: Mutex<u32>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { random: Mutex::new(SmallRng::seed_from_u64(seed ^ 0xfa17)), per_mille: Mutex::new(0) }
    }

    pub fn set(&self, per_mille: u32) {
        *self.per_mille.lock().unwrap() = per_mille;
    }

    fn strikes(&self) -> bool {
        self.random.lock().unwrap().random_range(0..1000) < *self.per_mille.lock().unwrap()
    }

    /// Does `effect`, unless a fault comes before it; says nothing of it where one comes after.
    pub async fn call<T>(&self, effect: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let lost = || EngineError::Timeout(Duration::from_secs(1), "answer");
        if self.strikes() {
            return Err(lost());
        }
        let done = effect();
        if self.strikes() { Err(lost()) } else { done }
    }
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

    /// What a probe would hear at that moment.
    fn is_ready(&self, now: Timestamp) -> bool {
        let boot = match self.behaviour() {
            "good" => Duration::from_millis(800),
            "slow" => Duration::from_secs(8),
            _ => return false,
        };
        matches!(self.run, Run::Running { address: Some(_), .. }) && now >= self.started + boot
    }
}

#[derive(Default)]
pub struct Host {
    pub containers: BTreeMap<InstanceName, Container>,
    pub images: BTreeSet<ImageTag>,
    /// Starts, builds, installs and removals that had an effect.
    pub effects: u64,
    /// What must never happen, if it did.
    pub broken: Option<String>,
    next: u64,
}

/// An engine made of maps. It outlives every daemon.
pub struct SimEngine {
    pub host: Mutex<Host>,
    pub faults: Arc<Faults>,
    pub clock: Arc<SimClock>,
    /// What the gateway serves now, to notice that a routed healthy instance is removed.
    pub routes: Mutex<Arc<Routes>>,
}

impl SimEngine {
    pub fn new(faults: Arc<Faults>, clock: Arc<SimClock>) -> Self {
        Self { host: Mutex::default(), faults, clock, routes: Mutex::default() }
    }

    /// Apps that crash do so by the time that anybody looks.
    fn settle(&self, host: &mut Host) {
        let now = self.clock.now();
        for container in host.containers.values_mut() {
            let is_up = matches!(container.run, Run::Running { .. }) && now > container.started;
            match container.behaviour() {
                "crash" if is_up => container.run = Run::Exited { code: 1, out_of_memory: false },
                "out-of-memory" if is_up => container.run = Run::Exited { code: 137, out_of_memory: true },
                _ => {}
            }
        }
    }

    pub fn is_ready(&self, container: &str) -> bool {
        let now = self.clock.now();
        self.host.lock().unwrap().containers.values().any(|c| &*c.id == container && c.is_ready(now))
    }

    /// The healthy instances that the route of an API has.
    pub fn healthy_routed(&self, id: &ApiId) -> usize {
        match self.routes.lock().unwrap().seen(id).map(|route| route.answer) {
            Some(Answer::Forward { containers, .. }) => containers.keys().filter(|c| self.is_ready(c)).count(),
            _ => 0,
        }
    }
}

#[async_trait]
impl Engine for SimEngine {
    async fn base(&self, _: &Progress) -> Result<Base, EngineError> {
        Ok(Base { digest: Digest::of(b"base"), name: "base".to_owned() })
    }

    async fn instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError> {
        self.faults
            .call(|| {
                let mut host = self.host.lock().unwrap();
                self.settle(&mut host);
                let wanted = host.containers.values().filter(|c| api.is_none_or(|api| c.job.api == *api));
                Ok(wanted
                    .map(|container| Instance {
                        name: container.job.name.clone(),
                        container: Arc::clone(&container.id),
                        api: container.job.api.clone(),
                        revision: container.job.revision.clone(),
                        number: container.job.number,
                        spec: None,
                        run: container.run.clone(),
                        altered: container.altered.then(|| "somebody changed its memory limit".to_owned()),
                        beyond_repair: false,
                        created: container.started,
                        readiness: Readiness::Unknown,
                        leaving: false,
                        in_flight: 0,
                        draining_since: None,
                    })
                    .collect())
            })
            .await
    }

    async fn images(&self) -> Result<BTreeSet<ImageTag>, EngineError> {
        self.faults.call(|| Ok(self.host.lock().unwrap().images.clone())).await
    }

    async fn has_image(&self, tag: &ImageTag) -> Result<bool, EngineError> {
        self.faults.call(|| Ok(self.host.lock().unwrap().images.contains(tag))).await
    }

    async fn install(&self, job: &Install, _: &Progress) -> Result<(), EngineError> {
        self.faults
            .call(|| {
                if job.requirements.0.iter().any(|requirement| requirement.0 == "bad-requirement") {
                    let output = vec!["not found".to_owned()];
                    return Err(EngineError::Failed { message: "bad-requirement: not found".to_owned(), output });
                }
                let mut host = self.host.lock().unwrap();
                host.effects += u64::from(host.images.insert(job.tag.clone()));
                Ok(())
            })
            .await
    }

    async fn build(&self, job: &Build, _: &Progress) -> Result<(), EngineError> {
        self.faults
            .call(|| {
                let mut host = self.host.lock().unwrap();
                if !host.images.contains(&job.dependencies) {
                    return Err(EngineError::Refused { action: "build", cause: "no such image".to_owned() });
                }
                host.effects += u64::from(host.images.insert(job.tag.clone()));
                Ok(())
            })
            .await
    }

    async fn start(&self, job: &Start) -> Result<(), EngineError> {
        self.faults
            .call(|| {
                let mut host = self.host.lock().unwrap();
                if !host.images.contains(&job.image) {
                    return Err(EngineError::Refused { action: "create", cause: "no such image".to_owned() });
                }
                if host.containers.contains_key(&job.name) {
                    return Ok(());
                }
                host.next += 1;
                host.effects += 1;
                let (number, started) = (host.next, self.clock.now());
                let address = SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()));
                let run = Run::Running { address: Some(address), since: started };
                let id = format!("c{number}").into();
                let container = Container { job: job.clone(), id, run, started, address, altered: false };
                host.containers.insert(job.name.clone(), container);
                Ok(())
            })
            .await
    }

    async fn repair(&self, container: &ContainerId) -> Result<bool, EngineError> {
        self.faults
            .call(|| {
                let mut host = self.host.lock().unwrap();
                let Some(found) = host.containers.values_mut().find(|c| c.id == *container) else { return Ok(true) };
                found.altered = false;
                if matches!(found.run, Run::Paused | Run::Running { address: None, .. }) {
                    found.run = Run::Running { address: Some(found.address), since: found.started };
                }
                Ok(true)
            })
            .await
    }

    async fn remove(&self, container: &ContainerId, _: Duration) -> Result<(), EngineError> {
        let api = {
            let host = self.host.lock().unwrap();
            host.containers.values().find(|c| c.id == *container).map(|c| c.job.api.clone())
        };
        let Some(api) = api else { return Ok(()) };
        let is_routed = match self.routes.lock().unwrap().seen(&api).map(|route| route.answer) {
            Some(Answer::Forward { containers, .. }) => containers.contains_key(container),
            _ => false,
        };
        let is_healthy = self.is_ready(container);
        self.faults
            .call(|| {
                let mut host = self.host.lock().unwrap();
                if is_routed && is_healthy {
                    host.broken = Some(format!("removed {container} of {api} while it was routed and healthy"));
                }
                host.containers.retain(|_, c| c.id != *container);
                host.effects += 1;
                Ok(())
            })
            .await
    }

    async fn remove_image(&self, tag: &ImageTag) -> Result<(), EngineError> {
        self.faults
            .call(|| {
                self.host.lock().unwrap().images.remove(tag);
                Ok(())
            })
            .await
    }

    async fn tidy(&self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn free_disk(&self) -> Result<Option<u64>, EngineError> {
        Ok(None)
    }

    async fn make_room(&self) -> Result<(), EngineError> {
        Ok(())
    }

    async fn logs(
        &self,
        _: &ContainerId,
        _: usize,
        _: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        Ok(stream::empty().boxed())
    }

    fn events(&self) -> BoxStream<'static, Hint> {
        stream::pending().boxed()
    }
}

/// Readings of a perfect prober. They die with the daemon, as real ones do.
pub struct SimReadings {
    pub engine: Arc<SimEngine>,
    pub clock: Arc<SimClock>,
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
        self.clock.advance(limit * 8);
        self.readiness(container)
    }
}
