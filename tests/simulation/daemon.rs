//! A daemon is one process at work on the shared host and records. What it does are futures that the history polls.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use skep::engine::Engine;
use skep::gateway::{RouteState, Routes};
use skep::reconcile::routing::route;
use skep::reconcile::turn::{Clock, TurnError};
use skep::reconcile::{Controller, Desired, Goal, Outcome, World};
use skep::records::{Records, RecordsError};
use skep::settings::Settings;
use skep::tree::{ApiId, Folder, Tree};
use skep::world::Record;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::parts::{Gateway, SimEngine, SimReadings, base};
use super::records::{SimRecords, Tables};

pub const OWNER: &str = "0123456789ab";

/// What a task came to.
pub type Done = Result<Option<Outcome>, TurnError>;

/// Something that a daemon is in the middle of.
pub struct Task {
    /// Of which API it is a turn; `None` of a look at everything.
    pub id: Option<ApiId>,
    future: Pin<Box<dyn Future<Output = Done>>>,
    /// The tree that it was begun with, or has asked for since, says that the API may be without an instance.
    pub may_stop: Arc<AtomicBool>,
    pub woken: Arc<Notify>,
    /// What it has sent last has not arrived yet.
    pub is_on_its_way: bool,
}

impl Task {
    pub fn poll(&mut self) -> Poll<Done> {
        self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

pub struct Daemon {
    pub world: Arc<World>,
    pub controller: Arc<Controller>,
    pub records: Arc<SimRecords>,
    pub tasks: Vec<Task>,
    /// Of its last term.
    pub epoch: u64,
}

impl Daemon {
    /// A daemon that starts: it knows only what it can observe.
    pub fn boot(number: usize, engine: &Arc<SimEngine>, name: String) -> Self {
        let (clock, faults) = (Arc::clone(&engine.clock), Arc::clone(&engine.faults));
        let records = Arc::new(SimRecords::new(Arc::clone(&engine.tables), faults));
        let routes = Arc::new(Routes::default());
        expect_what_served(&engine.tables.lock().unwrap(), &routes);
        let readings = Arc::new(SimReadings::new(Arc::clone(engine), Arc::clone(&clock)));
        let gateway = Gateway { routes: Arc::clone(&routes), is_awake: true, requests: Vec::new() };
        engine.host.lock().unwrap().gateways[number] = Some(gateway);
        let mut world = World::new(
            OWNER.to_owned(),
            Arc::clone(engine) as Arc<dyn Engine>,
            Arc::clone(&records) as Arc<dyn Records>,
            routes,
            readings,
            clock as Arc<dyn Clock>,
        );
        world.daemon = name;
        world.role.follow();
        let world = Arc::new(world);
        let policy = Settings::built_in(Path::new("/")).policy;
        let controller = Controller::new(Arc::clone(&world), base(), policy, CancellationToken::new());
        Self { world, controller, records, tasks: Vec::new(), epoch: 0 }
    }

    /// Whether it believes that it reconciles.
    pub fn leads(&self) -> bool {
        self.world.role.leads()
    }

    /// Takes the lease, if nobody is quicker.
    pub fn take_over(&mut self, tables: &Mutex<Tables>) {
        let mut tables = tables.lock().unwrap();
        let seen = tables.lease();
        if let Some(epoch) = tables.claim(&seen, &self.world.daemon) {
            self.epoch = epoch;
            self.records.fence(Some(epoch));
            self.controller.lead();
        }
    }

    /// Stands by from now on.
    pub fn step_down(&mut self, tables: &Mutex<Tables>) {
        self.world.role.follow();
        *tables.lock().unwrap().followers.entry(self.world.daemon.clone()).or_default() += 1;
    }

    /// Hears of the tree.
    pub fn read(&self, tree: &Arc<Tree>) {
        if self.leads() {
            self.controller.set_tree(Ok(Arc::clone(tree)));
        }
    }

    /// Begins a turn.
    pub fn turn(&self, id: &ApiId) -> Task {
        let (may_stop, woken) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (world, controller) = (Arc::clone(&self.world), Arc::clone(&self.controller));
        let future = {
            let (id, may_stop, woken) = (id.clone(), Arc::clone(&may_stop), Arc::clone(&woken));
            async move {
                let desired = |record: Option<&Record>| {
                    if may_be_stopped(&controller, &id, record) {
                        may_stop.store(true, Ordering::Relaxed);
                    }
                    without_folder(controller.desired(&id, record))
                };
                world.turn(&id, desired, &woken).await.map(Some)
            }
        };
        Task { id: Some(id.clone()), future: Box::pin(future), may_stop, woken, is_on_its_way: false }
    }

    /// Begins a look at everything, after which it is known which APIs may go.
    pub fn look(&self) -> Task {
        let (world, controller) = (Arc::clone(&self.world), Arc::clone(&self.controller));
        let future = async move {
            let look = world.look().await?;
            let _ = controller.goals(&look);
            Ok(None)
        };
        Task::of_all(future)
    }

    /// Begins a round of cleaning up.
    pub fn clean_up(&self) -> Task {
        let controller = Arc::clone(&self.controller);
        Task::of_all(async move {
            controller.clean_up(true).await?;
            Ok(None)
        })
    }
}

impl Task {
    fn of_all(future: impl Future<Output = Done> + 'static) -> Self {
        let (may_stop, woken) = (Arc::default(), Arc::default());
        Self { id: None, future: Box::pin(future), may_stop, woken, is_on_its_way: false }
    }
}

/// Whether somebody else has taken over, as the answer to a write has it.
pub fn is_fenced(done: &Done) -> bool {
    matches!(done, Err(TurnError::Records(RecordsError::Fenced)))
}

/// Whether the API may be without an instance, as far as the tree goes that the daemon has read.
fn may_be_stopped(controller: &Controller, id: &ApiId, record: Option<&Record>) -> bool {
    let served = record.and_then(|record| record.served.as_ref());
    let hold = record.and_then(|record| record.hold.as_ref()?.serve.as_deref());
    let was_suspended = served.into_iter().chain(hold).any(|served| served.spec.suspend);
    match controller.tree().as_deref().map(|tree| tree.folders.get(id)) {
        Ok(Some(Folder::Sound(api))) => api.spec.suspend || was_suspended,
        Ok(Some(Folder::Broken(_))) | Err(_) => was_suspended,
        Ok(None) => true,
    }
}

/// The bytes of files come from the records, since there is no disk.
fn without_folder(mut desired: Desired) -> Desired {
    if let Goal::Run(target) | Goal::Suspend(target) = &mut desired.goal {
        Arc::make_mut(target).folder = None;
    }
    desired
}

/// As the daemon does it before it opens its port.
fn expect_what_served(tables: &Tables, routes: &Routes) {
    for (id, row) in &tables.rows {
        let Some(served) = &row.served else { continue };
        let reason = String::new();
        let state = if served.spec.suspend { RouteState::Suspended } else { RouteState::Unavailable { reason } };
        routes.set(id, Some(route(id, &served.spec, state)));
    }
}
