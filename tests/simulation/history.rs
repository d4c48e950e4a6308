//! A history is a list of events, played against the real reconciler. It ends with all faults over, all daemons awake and
//! at rest, and a look at whether everything is as it should be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use skep::gateway::{Route, RouteState, Upstream};
use skep::reconcile::turn::Clock;
use skep::reconcile::{Next, Outcome};
use skep::tree::{Api, ApiId, Broken, Digest, File, Folder, RateLimit, Requirement, Requirements, Seconds, Spec, Tree};
use skep::world::instance::InstanceName;
use skep::world::{Hold, Run, Served};

use super::daemon::{Daemon, Done, Task, is_fenced};
use super::event::{App, Edit, Event, IDS, Kind, Meddling};
use super::faults::{Faults, SimClock};
use super::parts::{DRAIN, GRACE, Request, SimEngine};
use super::records::Tables;

/// Turns after which an API that has not come to rest is going round in circles.
const TURNS: usize = 600;

/// Polls after which whatever is being waited for does not come.
const POLLS: usize = 20_000;

pub struct History {
    pub clock: Arc<SimClock>,
    pub faults: Arc<Faults>,
    pub engine: Arc<SimEngine>,
    pub tables: Arc<Mutex<Tables>>,
    pub tree: Arc<Tree>,
    pub daemons: [Option<Daemon>; 2],
    /// What daemons that are gone had sent.
    late: Vec<Task>,
    boots: u32,
    is_loud: bool,
    pub turns: u64,
}

pub type Verdict<T> = Result<T, String>;

impl History {
    pub fn new() -> Self {
        let clock = Arc::new(SimClock::new());
        let faults = Arc::new(Faults::new(Arc::clone(&clock)));
        let tables = Arc::new(Mutex::new(Tables::default()));
        let engine = Arc::new(SimEngine::new(Arc::clone(&faults), Arc::clone(&clock), Arc::clone(&tables)));
        let tree = Arc::new(Tree::default());
        let (daemons, late) = ([None, None], Vec::new());
        Self { clock, faults, engine, tables, tree, daemons, late, boots: 0, is_loud: false, turns: 0 }
    }

    pub fn loud(mut self) -> Self {
        self.is_loud = true;
        self
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{:.3} {}", self.clock.now(), text());
        }
    }

    /// Plays the events, lets the faults end, and looks whether all is well.
    pub fn play(&mut self, kind: Kind, events: &[Event]) -> Verdict<()> {
        for event in events {
            if kind == Kind::Calm && event.is_wanted() {
                self.come_to_rest()?;
            }
            self.happen(event)?;
        }
        self.come_to_rest()?;
        self.look_at_the_end()
    }

    /// Every API that anybody knows.
    pub fn ids(&self) -> BTreeSet<ApiId> {
        let mut ids: BTreeSet<ApiId> = self.tree.folders.keys().cloned().collect();
        ids.extend(self.tables.lock().unwrap().rows.keys().cloned());
        ids.extend(self.engine.host.lock().unwrap().containers.values().map(|c| c.job.api.clone()));
        for daemon in self.daemons.iter().flatten() {
            ids.extend(daemon.world.routes.table().keys().cloned());
        }
        ids
    }

    pub fn happen(&mut self, event: &Event) -> Verdict<()> {
        self.say(|| format!("— {event}"));
        match event {
            Event::Push { id, app, is_heard } => self.push(*id, *app, *is_heard),
            Event::Limits { id, requests } => {
                self.change(*id, |spec| {
                    spec.rate_limit = Some(RateLimit { requests: *requests, per: Seconds::new(1), burst: *requests });
                });
            }
            Event::Scale { id, replicas } => self.change(*id, |spec| spec.replicas = *replicas),
            Event::RemoveFolder { id } => self.edit_tree(true, |folders| drop(folders.remove(&api_id(*id)))),
            Event::BreakFolder { id } => {
                let id = api_id(*id);
                let broken = Folder::Broken(Arc::new(Broken { id: id.clone(), findings: Vec::new() }));
                self.edit_tree(true, |folders| drop(folders.insert(id, broken)));
            }
            Event::Rename { from, to } => self.edit_tree(true, |folders| {
                if let Some(Folder::Sound(api)) = folders.remove(&api_id(*from)) {
                    let renamed = Api { id: api_id(*to), ..Api::clone(&api) };
                    folders.insert(api_id(*to), Folder::Sound(Arc::new(renamed)));
                }
            }),
            Event::Hold { id } => self.hold(&api_id(*id), None),
            Event::Release { id } => drop(self.tables.lock().unwrap().holds.remove(&api_id(*id))),
            Event::Rollback { id, back } => {
                let revisions = self.tables.lock().unwrap().revisions.get(&api_id(*id)).cloned().unwrap_or_default();
                if let Some(served) = revisions.into_iter().nth(*back) {
                    self.hold(&api_id(*id), Some(Box::new(served)));
                }
            }
            Event::EditRow { id, edit } => self.edit_row(&api_id(*id), *edit),
            Event::Meddle { nth, meddling } => self.meddle(*nth, *meddling),
            Event::ImagesGone => self.engine.host.lock().unwrap().images.clear(),
            Event::CleanUp => self.begin(|daemon| daemon.leads().then(|| daemon.clean_up())),
            Event::Request { id, daemon } => self.request(&api_id(*id), *daemon),
            Event::RequestsEnd => {
                self.engine.host.lock().unwrap().gateways.iter_mut().flatten().for_each(|g| g.requests.clear());
            }
            Event::Pass { seconds } => self.clock.advance(Duration::from_secs(*seconds)),
            Event::Boot { daemon } => self.boot(*daemon),
            Event::Crash { daemon, is_late } => self.crash(*daemon, *is_late),
            Event::Pause { daemon } => self.wake(*daemon, false),
            Event::Resume { daemon } => self.wake(*daemon, true),
            Event::TakeOver { daemon } => {
                if self.is_awake(*daemon)
                    && let Some(daemon) = self.daemons[*daemon].as_mut().filter(|daemon| !daemon.leads())
                {
                    daemon.take_over(&self.tables);
                }
            }
            Event::Fault { after, count, fault } => self.faults.plan(*after, *count, *fault),
            Event::StaleLists { count } => self.engine.host.lock().unwrap().remember(*count),
            Event::Calls { count, order } => return self.work_by_calls(*count, *order),
            Event::Turns { count, order } => return self.work_by_turns(*count, *order),
            Event::Rest => return self.come_to_rest(),
        }
        Ok(())
    }

    fn edit_tree(&mut self, is_heard: bool, edit: impl FnOnce(&mut BTreeMap<ApiId, Folder>)) {
        edit(&mut Arc::make_mut(&mut self.tree).folders);
        for (number, daemon) in self.daemons.iter().enumerate() {
            if let Some(daemon) = daemon.as_ref().filter(|_| is_heard && self.is_awake(number)) {
                daemon.read(&self.tree);
                daemon.tasks.iter().for_each(|task| task.woken.notify_one());
            }
        }
    }

    fn push(&mut self, id: usize, app: App, is_heard: bool) {
        let api = sound(&api_id(id), app);
        let bytes: Arc<[u8]> = source(app).into_bytes().into();
        self.tables.lock().unwrap().blobs.insert(Digest::of(&bytes), bytes);
        self.edit_tree(is_heard, |folders| drop(folders.insert(api.id.clone(), Folder::Sound(Arc::new(api)))));
    }

    fn change(&mut self, id: usize, change: impl FnOnce(&mut Spec)) {
        self.edit_tree(true, |folders| {
            if let Some(Folder::Sound(api)) = folders.get_mut(&api_id(id)) {
                change(&mut Arc::make_mut(api).spec);
            }
        });
    }

    /// As `skep hold` and `skep rollback` do it.
    fn hold(&self, id: &ApiId, serve: Option<Box<Served>>) {
        let mut tables = self.tables.lock().unwrap();
        if tables.rows.contains_key(id) {
            let on = match self.tree.folders.get(id) {
                Some(Folder::Sound(api)) => Some(api.content()),
                _ => None,
            };
            let (by, at) = ("somebody".to_owned(), self.clock.now());
            tables.holds.insert(id.clone(), Hold { on, serve, by, why: String::new(), at, until: None, stays: false });
        }
    }

    fn edit_row(&self, id: &ApiId, edit: Edit) {
        let mut tables = self.tables.lock().unwrap();
        if edit == Edit::Delete {
            tables.rows.remove(id);
            return;
        }
        let Some(row) = tables.rows.get_mut(id) else { return };
        match edit {
            Edit::Status => "an edit".clone_into(&mut row.status.message),
            Edit::ForgetServed => row.served = None,
            Edit::ForgetFailures => row.failures.clear(),
            Edit::Delete => {}
        }
    }

    fn meddle(&self, nth: usize, meddling: Meddling) {
        let mut host = self.engine.host.lock().unwrap();
        let names: Vec<InstanceName> = host.containers.keys().cloned().collect();
        let Some(name) = (!names.is_empty()).then(|| &names[nth % names.len()]) else { return };
        if meddling == Meddling::Remove {
            host.containers.remove(name);
            return;
        }
        let container = host.containers.get_mut(name).unwrap();
        container.run = match meddling {
            Meddling::Kill => Run::Exited { code: 137, out_of_memory: false },
            Meddling::OutOfMemory => Run::Exited { code: 137, out_of_memory: true },
            Meddling::Pause => Run::Paused,
            Meddling::Disconnect => Run::Running { address: None, since: container.started },
            Meddling::Alter | Meddling::Remove => {
                container.altered = true;
                return;
            }
        };
    }

    fn request(&self, id: &ApiId, daemon: usize) {
        let (mut host, opened) = (self.engine.host.lock().unwrap(), self.clock.now());
        let Some(gateway) = host.gateways[daemon].as_mut().filter(|gateway| gateway.is_awake) else { return };
        if let Some(in_flight) = gateway.routes.upstreams(id).first().and_then(Upstream::begin) {
            gateway.requests.push(Request { in_flight, opened });
        }
    }

    fn boot(&mut self, number: usize) {
        self.crash(number, false);
        self.boots += 1;
        let mut daemon = Daemon::boot(number, &self.engine, format!("daemon-{number}-{}", self.boots));
        if self.is_awake(1 - number) {
            daemon.step_down(&self.tables);
        } else {
            daemon.take_over(&self.tables);
        }
        daemon.read(&self.tree);
        self.daemons[number] = Some(daemon);
    }

    fn crash(&mut self, number: usize, is_late: bool) {
        self.engine.host.lock().unwrap().gateways[number] = None;
        if let Some(daemon) = self.daemons[number].take() {
            self.late.extend(daemon.tasks.into_iter().filter(|task| is_late && task.is_on_its_way));
        }
    }

    fn wake(&mut self, number: usize, is_awake: bool) {
        if let Some(gateway) = &mut self.engine.host.lock().unwrap().gateways[number] {
            gateway.is_awake = is_awake;
        }
    }

    fn is_awake(&self, number: usize) -> bool {
        self.engine.host.lock().unwrap().gateways[number].as_ref().is_some_and(|gateway| gateway.is_awake)
    }

    fn awake(&self) -> Vec<usize> {
        (0..2).filter(|number| self.is_awake(*number)).collect()
    }

    /// Begins something on every daemon that is awake.
    fn begin(&mut self, task: impl Fn(&Daemon) -> Option<Task>) {
        for number in self.awake() {
            if let Some(daemon) = &mut self.daemons[number] {
                daemon.tasks.extend(task(daemon));
            }
        }
    }

    fn work_by_calls(&mut self, count: u32, order: u64) -> Verdict<()> {
        self.clock.step(true);
        let mut random = SmallRng::seed_from_u64(order);
        for _ in 0..count {
            if !self.late.is_empty() && random.random_bool(0.2) {
                let task = self.late.swap_remove(random.random_range(0..self.late.len()));
                self.arrive(task);
            }
            let Some(number) = self.awake().choose(&mut random).copied() else { return Ok(()) };
            if random.random_bool(0.15) || self.daemons[number].as_ref().is_some_and(|d| d.tasks.is_empty()) {
                self.begin_by_chance(number, &mut random);
            }
            let tasks = self.daemons[number].as_ref().map_or(0, |daemon| daemon.tasks.len());
            if tasks > 0 {
                let before = self.clock.progress();
                self.poll(number, random.random_range(0..tasks))?;
                let is_idle = self.clock.progress() == before;
                self.clock.advance(Duration::from_millis(if is_idle { 200 } else { 1 }));
            }
        }
        Ok(())
    }

    /// A hint comes, or the time for a look at everything.
    fn begin_by_chance(&mut self, number: usize, random: &mut SmallRng) {
        let ids = Vec::from_iter(self.ids());
        let Some(daemon) = &mut self.daemons[number] else { return };
        if random.random_bool(0.15) {
            daemon.read(&self.tree);
            if daemon.tasks.iter().all(|task| task.id.is_some()) && may_look(daemon) {
                daemon.tasks.push(daemon.look());
            }
        } else if let Some(id) = ids.choose(random) {
            // Each API has one worker at most.
            if daemon.tasks.iter().all(|task| task.id.as_ref() != Some(id)) {
                daemon.tasks.push(daemon.turn(id));
            }
        }
    }

    fn work_by_turns(&mut self, count: u32, order: u64) -> Verdict<()> {
        self.clock.step(false);
        let mut random = SmallRng::seed_from_u64(order);
        for _ in 0..count {
            let Some(number) = self.awake().choose(&mut random).copied() else { return Ok(()) };
            self.begin_by_chance(number, &mut random);
            self.finish(number)?;
        }
        Ok(())
    }

    /// Polls what a daemon is in the middle of until all of it is done.
    fn finish(&mut self, number: usize) -> Verdict<()> {
        for _ in 0..POLLS {
            let tasks = self.daemons[number].as_ref().map_or(0, |daemon| daemon.tasks.len());
            if tasks == 0 {
                return Ok(());
            }
            for task in (0..tasks).rev() {
                self.poll(number, task)?;
            }
        }
        Err(format!("daemon {number} waits for ever"))
    }

    /// Polls one task of a daemon once, with the laws watched over.
    fn poll(&mut self, number: usize, nth: usize) -> Verdict<Option<Done>> {
        let Some(mut task) = self.daemons[number].as_mut().map(|daemon| daemon.tasks.swap_remove(nth)) else {
            return Ok(None);
        };
        let routes = {
            let mut host = self.engine.host.lock().unwrap();
            host.current = number;
            host.gateways[number].as_ref().map(|gateway| Arc::clone(&gateway.routes))
        };
        let route = |task: &Task| routes.as_ref()?.get(task.id.as_ref()?.as_str());
        let before = route(&task);
        let polled = task.poll();
        task.is_on_its_way = self.faults.is_on_its_way();
        let after = route(&task);
        self.watch_over_poll(&task, before.as_deref(), after.as_deref())?;
        match polled {
            Poll::Pending => {
                if let Some(daemon) = &mut self.daemons[number] {
                    daemon.tasks.push(task);
                }
                Ok(None)
            }
            Poll::Ready(done) => {
                self.turns += 1;
                if let Some(id) = &task.id {
                    self.say(|| format!("  daemon {number}, {id}: {done:?}"));
                }
                if let (true, Some(daemon)) = (is_fenced(&done), &mut self.daemons[number]) {
                    daemon.step_down(&self.tables);
                }
                Ok(Some(done))
            }
        }
    }

    fn watch_over_poll(&self, task: &Task, before: Option<&Route>, after: Option<&Route>) -> Verdict<()> {
        let may_stop = task.may_stop.load(Ordering::Relaxed);
        let mut host = self.engine.host.lock().unwrap();
        if let Some(broken) = host.broken.take().filter(|_| !may_stop) {
            return Err(broken);
        }
        if may_stop || before.map(std::ptr::from_ref) == after.map(std::ptr::from_ref) {
            return Ok(());
        }
        let tables = self.tables.lock().unwrap();
        let healthy = |route: Option<&Route>| {
            let Some(Route { state: RouteState::Serving { upstreams, .. }, .. }) = route else { return 0 };
            let staying = upstreams.iter().map(|upstream| &upstream.container);
            host.healthy(staying.filter(|id| !tables.leaving.contains_key(&***id)), self.clock.now())
        };
        if healthy(before) > 0 && healthy(after) == 0 {
            return Err(format!("a turn of {:?} left its route without a healthy instance", task.id));
        }
        Ok(())
    }

    /// What a daemon had sent before its end arrives.
    fn arrive(&mut self, mut task: Task) {
        self.engine.host.lock().unwrap().current = usize::MAX;
        for _ in 0..10 {
            if !task.is_on_its_way || task.poll().is_ready() {
                break;
            }
            task.is_on_its_way = self.faults.is_on_its_way();
        }
        self.engine.host.lock().unwrap().broken = None;
    }

    /// The faults end, all daemons wake up, and each has turns until there is nothing left to do.
    pub fn come_to_rest(&mut self) -> Verdict<()> {
        self.faults.end();
        self.engine.host.lock().unwrap().stale = None;
        self.clock.step(false);
        for task in std::mem::take(&mut self.late) {
            self.arrive(task);
        }
        for number in 0..2 {
            self.wake(number, true);
            self.finish(number)?;
        }
        self.agree_on_a_leader();
        // As a term begins: nothing is waited for by one that has not read the tree.
        self.look_for_work()?;
        for _ in 0..20 {
            self.turn_until_rest()?;
            if !self.look_for_work()? {
                self.engine.host.lock().unwrap().gateways.iter_mut().flatten().for_each(|g| g.requests.clear());
                return Ok(());
            }
        }
        Err("each look finds something to do that the turns before it have not done".to_owned())
    }

    fn agree_on_a_leader(&mut self) {
        let epoch = self.tables.lock().unwrap().lease().epoch;
        for daemon in self.daemons.iter_mut().flatten().filter(|daemon| daemon.leads() && daemon.epoch != epoch) {
            daemon.step_down(&self.tables);
        }
        if self.daemons.iter().flatten().all(|daemon| !daemon.leads()) {
            match self.daemons.iter_mut().flatten().next() {
                Some(daemon) => daemon.take_over(&self.tables),
                None => self.boot(0),
            }
        }
        let names: Vec<String> = self.daemons.iter().flatten().map(|daemon| daemon.world.daemon.clone()).collect();
        self.tables.lock().unwrap().followers.retain(|daemon, _| names.contains(daemon));
    }

    fn turn_until_rest(&mut self) -> Verdict<()> {
        let ids = self.ids();
        let numbers: Vec<usize> = (0..2).filter(|number| self.daemons[*number].is_some()).collect();
        // In turn, so that a daemon that waits for another one does not keep it from its own.
        let mut due: VecDeque<(ApiId, usize)> =
            ids.iter().flat_map(|id| numbers.iter().map(|number| (id.clone(), *number))).collect();
        let mut later: BTreeMap<(ApiId, usize), jiff::Timestamp> = BTreeMap::new();
        for _ in 0..=TURNS * ids.len() {
            let Some((id, number)) = due.pop_front() else {
                let first = later.iter().min_by_key(|(_, until)| **until);
                let Some((what, until)) = first.map(|(what, until)| (what.clone(), *until)) else { return Ok(()) };
                later.remove(&what);
                self.clock.advance_to(until + Duration::from_millis(1));
                due.push_back(what);
                continue;
            };
            match self.take_turn(number, &id)? {
                Ok(Some(Outcome::Wait(Some(until), _))) => drop(later.insert((id, number), until)),
                Ok(Some(Outcome::Settled(_) | Outcome::Wait(None, _))) => {}
                // Whatever was done, others hear of it.
                _ => {
                    for again in numbers.iter().map(|number| (id.clone(), *number)) {
                        if !due.contains(&again) {
                            due.push_back(again);
                        }
                    }
                    self.clock.advance(Duration::from_millis(5));
                }
            }
        }
        let ids: Vec<&ApiId> = due.iter().map(|(id, _)| id).collect();
        Err(format!("{ids:?} do not come to rest: {}", self.essence()))
    }

    /// Turns of the first daemon for one API, until it rests with nothing more to wait for.
    pub fn settle(&mut self, id: &ApiId) -> Verdict<()> {
        for _ in 0..TURNS {
            match self.take_turn(0, id)? {
                Ok(Some(Outcome::Settled(_) | Outcome::Wait(None, _))) => return Ok(()),
                Ok(Some(Outcome::Wait(Some(until), _))) => self.clock.advance_to(until + Duration::from_millis(1)),
                _ => self.clock.advance(Duration::from_millis(20)),
            }
        }
        Err(format!("{id} does not come to rest after {TURNS} turns: {}", self.essence()))
    }

    /// One turn from its beginning to its end.
    pub fn take_turn(&mut self, number: usize, id: &ApiId) -> Verdict<Done> {
        if let Some(daemon) = &mut self.daemons[number] {
            let task = daemon.turn(id);
            daemon.tasks.insert(0, task);
        }
        for _ in 0..POLLS {
            if let Some(done) = self.poll(number, 0)? {
                return Ok(done);
            }
        }
        Err(format!("a turn of {id} waits for ever"))
    }

    /// A look of each daemon at everything, and whether there is something to do.
    fn look_for_work(&mut self) -> Verdict<bool> {
        let mut is_found = false;
        for daemon in self.daemons.iter().flatten() {
            daemon.read(&self.tree);
            let look = now_or_never(daemon.world.look()).ok_or("a look waits for ever")?;
            let look = look.map_err(|error| error.to_string())?;
            for (id, desired) in daemon.controller.goals(&look) {
                let observed = daemon.world.observed(&look, &desired);
                let next = daemon.world.next(&desired, &observed);
                if matches!(next, Next::Act(_)) {
                    self.say(|| format!("  a look finds for {id}: {next:?}"));
                    is_found = true;
                }
            }
        }
        Ok(is_found)
    }
}

/// Without a tree nothing can be said of anything; as [`skep::reconcile::Controller::look`] has it.
fn may_look(daemon: &Daemon) -> bool {
    !daemon.leads() || daemon.controller.tree().is_ok()
}

pub fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    use futures_util::FutureExt;
    future.now_or_never()
}

pub fn api_id(id: usize) -> ApiId {
    ApiId::new(IDS[id]).unwrap()
}

fn source(app: App) -> String {
    format!("version {}", app.version)
}

fn sound(id: &ApiId, app: App) -> Api {
    let mut spec = Spec::built_in(id.as_str());
    spec.env.insert("BEHAVIOUR".to_owned(), app.behaviour.to_owned());
    (spec.replicas, spec.suspend) = (app.replicas, app.suspend);
    (spec.drain, spec.health.grace) = (Seconds(DRAIN), Seconds(GRACE));
    let requirement = if app.behaviour == "bad-requirement" { app.behaviour } else { "fastapi" };
    let text = source(app);
    let file = File { digest: Digest::of(text.as_bytes()), len: text.len() as u64 };
    Api {
        id: id.clone(),
        spec,
        requirements: Requirements(vec![Requirement(requirement.to_owned())]),
        files: BTreeMap::from([("main.py".to_owned(), file)]),
        secrets: None,
        folder: PathBuf::new(),
        findings: Vec::new(),
    }
}
