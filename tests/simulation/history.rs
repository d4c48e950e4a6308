//! A history is one seed's sequence of pushes, faults and crashes, played against the real reconciler.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use skep::engine::Engine;
use skep::gateway::Routes;
use skep::reconcile::desired::Ground;
use skep::reconcile::turn::{Clock, Going};
use skep::reconcile::{Action, Desired, Outcome, World, plan};
use skep::records::Records;
use skep::tree::{Api, ApiId, Broken, Digest, Folder, Requirement, Requirements, Spec};
use skep::world::instance::InstanceName;
use skep::world::{Answer, Record, Run};

use super::parts::{BEHAVIOURS, Faults, SimClock, SimEngine, SimReadings, is_good};
use super::records::SimRecords;

const OWNER: &str = "0123456789ab";

/// Turns after which an API that has not come to rest is going round in circles.
const TURNS: usize = 600;

pub struct History {
    random: SmallRng,
    clock: Arc<SimClock>,
    faults: Arc<Faults>,
    engine: Arc<SimEngine>,
    records: Arc<SimRecords>,
    world: World,
    tree: BTreeMap<ApiId, Folder>,
    runtime: tokio::runtime::Runtime,
    is_loud: bool,
    turns: u64,
}

type Verdict<T> = Result<T, String>;

impl History {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(SimClock::new());
        let faults = Arc::new(Faults::new(seed));
        let engine = Arc::new(SimEngine::new(Arc::clone(&faults), Arc::clone(&clock)));
        let records = Arc::new(SimRecords::new(Arc::default(), Arc::clone(&faults)));
        let world = boot(&engine, &records, &clock);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let random = SmallRng::seed_from_u64(seed);
        Self { random, clock, faults, engine, records, world, tree: BTreeMap::new(), runtime, is_loud: false, turns: 0 }
    }

    pub fn loud(mut self) -> Self {
        self.is_loud = true;
        self
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{} {}", self.clock.now(), text());
        }
    }

    /// Plays pushes and faults, lets the faults end, and looks whether the laws hold.
    pub fn play(mut self) -> Verdict<u64> {
        for _ in 0..self.random.random_range(5..60) {
            self.happen();
            let count = self.random.random_range(0..8);
            for _ in 0..count {
                let ids = self.ids();
                if let Some(id) = ids.choose(&mut self.random) {
                    self.turn(id)?;
                }
            }
        }
        self.faults.set(0);
        self.converge()?;
        self.look_at_the_end()?;
        Ok(self.turns)
    }

    /// A plan made at some moment without faults is, action by action, what turns then do.
    pub fn compare_plan_with_apply(mut self) -> Verdict<()> {
        for _ in 0..self.random.random_range(1..25) {
            self.happen();
            self.faults.set(0);
            if self.random.random_bool(0.5) {
                let ids = self.ids();
                if let Some(id) = ids.choose(&mut self.random) {
                    self.turn(id)?;
                }
            }
        }
        for id in self.ids() {
            let look = self.runtime.block_on(self.world.look()).map_err(|error| error.to_string())?;
            // A bad revision does not go as planned, which no plan can know.
            if !self.behaviour(&id).is_none_or(|behaviour| is_good(&behaviour)) {
                continue;
            }
            let desired = self.desired(&id, look.records.get(&id));
            let mut observed = self.world.observed(&look, &desired);
            // The first look of all sets the probes going; the plan speaks of a world that is being probed.
            observed = {
                let _ = observed;
                self.world.observed(&look, &desired)
            };
            let (planned, waits) = plan::unfold(&desired, &observed);
            if waits.is_some() {
                continue;
            }
            let mut news = self.world.news.subscribe();
            self.settle_one(&id)?;
            let mut done = Vec::new();
            while let Ok(news) = news.try_recv() {
                if let Going::Step { action: Some(action), .. } = news.what {
                    done.push(essence(&action));
                }
            }
            // One planned wait may take several slices of waiting.
            done.dedup();
            let planned: Vec<String> = planned.iter().map(|step| essence(&step.action)).collect();
            if planned != done {
                return Err(format!("{id}: planned\n  {}\ndone\n  {}", planned.join("\n  "), done.join("\n  ")));
            }
        }
        Ok(())
    }

    /// A good revision, then a bad one, then the good one again: as if nothing had been.
    pub fn there_and_back(mut self) -> Verdict<()> {
        let id = ApiId::new("a").unwrap();
        let replicas = self.random.random_range(1..4);
        let bad = BEHAVIOURS[self.random.random_range(2..BEHAVIOURS.len())];
        let push = |history: &mut Self, behaviour: &str| {
            history.tree.insert(id.clone(), sound(&id, 1, behaviour, replicas, false));
        };
        push(&mut self, "good");
        self.converge()?;
        let before = self.essence_of_the_world(&id);
        push(&mut self, bad);
        self.converge()?;
        if self.engine.healthy_routed(&id) != usize::from(replicas) {
            return Err(format!("a {bad} revision took the good one down"));
        }
        push(&mut self, "good");
        self.converge()?;
        let after = self.essence_of_the_world(&id);
        if before == after { Ok(()) } else { Err(format!("{bad}: {before}\nbecame\n{after}")) }
    }

    fn essence_of_the_world(&self, id: &ApiId) -> String {
        let host = self.engine.host.lock().unwrap();
        let containers: Vec<_> = host.containers.values().map(|c| (c.job.name.clone(), c.id.clone())).collect();
        let rows = &self.records.tables.lock().unwrap().rows;
        let row = rows.get(id).map(|row| (row.status.clone(), row.served.clone().map(|served| served.revision)));
        format!("{containers:?} {row:?} {:?}", self.engine.routes.lock().unwrap().seen(id))
    }

    fn ids(&self) -> Vec<ApiId> {
        let mut ids: Vec<ApiId> = self.tree.keys().cloned().collect();
        ids.extend(self.records.tables.lock().unwrap().rows.keys().cloned());
        ids.extend(self.engine.host.lock().unwrap().containers.values().map(|c| c.job.api.clone()));
        ids.sort();
        ids.dedup();
        ids
    }

    fn behaviour(&self, id: &ApiId) -> Option<String> {
        match self.tree.get(id)? {
            Folder::Sound(api) => api.spec.env.get("BEHAVIOUR").cloned(),
            Folder::Broken(_) => None,
        }
    }

    fn desired(&self, id: &ApiId, record: Option<&Record>) -> Desired {
        let ground = Ground { base: &Digest::of(b"base"), owner: OWNER, at: self.clock.now() };
        Desired::of(id, self.tree.get(id), record, &ground)
    }

    /// The healthy instances of what served last.
    fn servable(&self, id: &ApiId) -> usize {
        let rows = &self.records.tables.lock().unwrap().rows;
        let Some(served) = rows.get(id).and_then(|row| row.served.as_ref()) else { return 0 };
        let host = self.engine.host.lock().unwrap();
        let of_served = host.containers.values().filter(|c| c.job.api == *id && c.job.revision == served.revision);
        let ids: Vec<_> = of_served.map(|container| Arc::clone(&container.id)).collect();
        drop(host);
        ids.iter().filter(|container| self.engine.is_ready(container)).count()
    }

    /// One turn, with the service law watched over.
    fn turn(&mut self, id: &ApiId) -> Verdict<Option<Outcome>> {
        self.turns += 1;
        let (healthy, servable) = (self.engine.healthy_routed(id), self.servable(id));
        let outcome = {
            let woken = tokio::sync::Notify::new();
            let turn = self.world.turn(id, |record| self.desired(id, record), &woken);
            self.runtime.block_on(turn)
        };
        self.say(|| format!("turn {id}: {outcome:?}"));
        let may_stop = match self.tree.get(id) {
            None => true,
            Some(Folder::Sound(api)) => api.spec.suspend,
            Some(Folder::Broken(_)) => {
                let rows = &self.records.tables.lock().unwrap().rows;
                rows.get(id).and_then(|row| row.served.as_ref()).is_some_and(|served| served.spec.suspend)
            }
        };
        if healthy > 0 && self.engine.healthy_routed(id) == 0 && !may_stop {
            return Err(format!("a turn left {id} without a healthy routed instance: {outcome:?}"));
        }
        // Also where the route is lost for the moment, as it is in a daemon that has just started.
        if servable > 0 && self.servable(id) == 0 && !may_stop {
            return Err(format!("a turn left {id} without a healthy instance of what served last: {outcome:?}"));
        }
        match self.engine.host.lock().unwrap().broken.take() {
            Some(broken) if !may_stop => Err(broken),
            _ => Ok(outcome.ok()),
        }
    }

    /// Turns for one API until it rests with nothing more to wait for.
    fn settle_one(&mut self, id: &ApiId) -> Verdict<()> {
        for _ in 0..TURNS {
            match self.turn(id)? {
                Some(Outcome::Settled(_) | Outcome::Wait(None, _)) => return Ok(()),
                Some(Outcome::Wait(Some(until), _)) => self.clock.advance_to(until),
                Some(Outcome::Again) | None => self.clock.advance(Duration::from_millis(20)),
            }
        }
        let world = self.essence_of_the_world(id);
        Err(format!("{id} does not come to rest after {TURNS} turns: {world}"))
    }

    fn converge(&mut self) -> Verdict<()> {
        self.ids().iter().try_for_each(|id| self.settle_one(id))
    }

    /// Something happens: a push, a hand on the world, a fault, a crash.
    fn happen(&mut self) {
        let id = ApiId::new(["a", "b", "c"].choose(&mut self.random).unwrap()).unwrap();
        match self.random.random_range(0..16) {
            0..6 => {
                let behaviour =
                    if self.random.random_bool(0.6) { "good" } else { BEHAVIOURS.choose(&mut self.random).unwrap() };
                let version = self.random.random_range(0..3);
                let replicas = self.random.random_range(1..4);
                let suspend = self.random.random_bool(0.1);
                self.say(|| format!("push {id} version {version} {behaviour} ×{replicas} suspend={suspend}"));
                self.tree.insert(id.clone(), sound(&id, version, behaviour, replicas, suspend));
            }
            6 => {
                self.say(|| format!("remove folder {id}"));
                self.tree.remove(&id);
            }
            7 => {
                self.say(|| format!("break folder {id}"));
                self.tree.insert(id.clone(), Folder::Broken(Arc::new(Broken { id, findings: Vec::new() })));
            }
            8 | 9 => self.meddle(),
            10 => {
                self.say(|| "all images gone".to_owned());
                self.engine.host.lock().unwrap().images.clear();
            }
            11 => {
                self.say(|| format!("row of {id} gone"));
                self.records.tables.lock().unwrap().rows.remove(&id);
            }
            12 => {
                self.say(|| "daemon crashes".to_owned());
                self.world = boot(&self.engine, &self.records, &self.clock);
            }
            13 | 14 => {
                let rate = *[0, 20, 200].choose(&mut self.random).unwrap();
                self.say(|| format!("faults: {rate} of 1000"));
                self.faults.set(rate);
            }
            _ => self.clock.advance(Duration::from_secs(self.random.random_range(1..900))),
        }
    }

    /// Somebody's hand on a container.
    fn meddle(&mut self) {
        let mut host = self.engine.host.lock().unwrap();
        let names: Vec<InstanceName> = host.containers.keys().cloned().collect();
        let Some(name) = names.choose(&mut self.random) else { return };
        let what = self.random.random_range(0..6);
        if self.is_loud {
            println!("meddle with {name}: {what}");
        }
        if what == 0 {
            host.containers.remove(name);
            return;
        }
        let container = host.containers.get_mut(name).unwrap();
        container.run = match what {
            1 => Run::Exited { code: 137, out_of_memory: false },
            2 => Run::Paused,
            3 => Run::Running { address: None, since: container.started },
            4 => {
                container.altered = true;
                return;
            }
            _ => Run::Exited { code: 137, out_of_memory: true },
        };
    }

    /// What must be so once nothing fails any more.
    fn look_at_the_end(&mut self) -> Verdict<()> {
        let look = self.runtime.block_on(self.world.look()).map_err(|error| error.to_string())?;
        for (id, folder) in &self.tree {
            let desired = self.desired(id, look.records.get(id));
            let observed = self.world.observed(&look, &desired);
            if let Some(rest) = plan::plan_api(&desired, &observed)
                && !rest.steps.is_empty()
            {
                return Err(format!("{id} rests, and its plan is not empty: {:?}", rest.steps));
            }
            let Folder::Sound(api) = folder else { continue };
            let behaviour = api.spec.env.get("BEHAVIOUR").map_or("good", String::as_str);
            let running = look.instances.get(id).map_or(0, Vec::len);
            let answer = observed.route.map(|route| route.answer);
            if api.spec.suspend {
                if running != 0 || answer != Some(Answer::Suspended) {
                    return Err(format!("{id} is suspended, and {running} instances are there: {answer:?}"));
                }
            } else if is_good(behaviour) {
                let revision = api.revision(&Digest::of(b"base"));
                let Some(Answer::Forward { revision: routed, containers }) = answer else {
                    return Err(format!("{id} is good, and its route is {answer:?}"));
                };
                let replicas = usize::from(api.spec.replicas);
                if routed != revision || containers.len() != replicas || running != replicas {
                    return Err(format!(
                        "{id}: {routed} ×{} of {running}, not {revision} ×{replicas}",
                        containers.len()
                    ));
                }
            }
        }
        if let Some(id) = look.instances.keys().find(|id| !self.tree.contains_key(*id)) {
            return Err(format!("{id} has no folder, and instances"));
        }
        let effects = self.engine.host.lock().unwrap().effects;
        self.converge()?;
        let after = self.engine.host.lock().unwrap().effects;
        if effects == after { Ok(()) } else { Err(format!("{} effects after all had settled", after - effects)) }
    }
}

/// A daemon that starts: it knows only what it can observe.
fn boot(engine: &Arc<SimEngine>, records: &Arc<SimRecords>, clock: &Arc<SimClock>) -> World {
    let routes = Arc::new(Routes::default());
    *engine.routes.lock().unwrap() = Arc::clone(&routes);
    let readings = Arc::new(SimReadings::new(Arc::clone(engine), Arc::clone(clock)));
    let (engine, records) = (Arc::clone(engine) as Arc<dyn Engine>, Arc::clone(records) as Arc<dyn Records>);
    World::new(OWNER.to_owned(), engine, records, routes, readings, Arc::clone(clock) as Arc<dyn Clock>)
}

fn sound(id: &ApiId, version: u32, behaviour: &str, replicas: u16, suspend: bool) -> Folder {
    let mut spec = Spec::built_in(id.as_str());
    spec.env.insert("VERSION".to_owned(), version.to_string());
    spec.env.insert("BEHAVIOUR".to_owned(), behaviour.to_owned());
    spec.replicas = replicas;
    spec.suspend = suspend;
    let requirement = if behaviour == "bad-requirement" { behaviour } else { "fastapi" };
    Folder::Sound(Arc::new(Api {
        id: id.clone(),
        spec,
        requirements: Requirements(vec![Requirement(requirement.to_owned())]),
        files: BTreeMap::new(),
        folder: PathBuf::new(),
        findings: Vec::new(),
    }))
}

/// What an action is, without the engine's own ids.
fn essence(action: &Action) -> String {
    match action {
        Action::Route { answer: Answer::Forward { revision, containers }, .. } => {
            format!("route {revision} ×{}", containers.len())
        }
        Action::Route { answer, .. } => format!("route {answer:?}"),
        Action::RecordStatus(status) => format!("record {:?} {:?} {}", status.sync, status.health, status.message),
        Action::Start { revision, number } => format!("start {revision} {number}"),
        Action::AwaitReady { instance, .. } => format!("await {instance}"),
        Action::Drain { instance, .. } => format!("drain {instance}"),
        Action::Repair { instance, .. } => format!("repair {instance}"),
        Action::Remove { instance, .. } => format!("remove {instance}"),
        Action::RecordServed { revision } => format!("record served {revision}"),
        Action::Install { image } => format!("install {image}"),
        Action::Build { image } => format!("build {image}"),
        Action::Unroute => "unroute".to_owned(),
        Action::Release { .. } => "release".to_owned(),
        Action::LetGo { instance, .. } => format!("let go {instance}"),
        Action::Forget => "forget".to_owned(),
    }
}
