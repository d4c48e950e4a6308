//! The controller gives each API its turns: on a hint at once, on a timer, and after every full look.
//!
//! Each API has at most one worker, and only while it has something to do. One that is stuck holds up nobody else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counting::Round;
use super::desired::Basis;
use super::goals::is_for_a_look;
use super::status::Status;
use super::step::Next;
use super::turn::{Going, Outcome, TurnError, World, lock};
use crate::engine::{Base, Hint, ImageTag};
use crate::records::RecordsError;
use crate::settings::Policy;
use crate::tree::{ApiId, Tree};

/// The shortest and the longest pause after a turn that failed for a reason outside the API.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Between two looks at everything, however many hints come.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Why there is no tree in a controller that has just been made.
pub(super) const NOT_READ: &str = "the tree has not been read yet";

/// Gives each API its turns.
pub struct Controller {
    pub(super) world: Arc<World>,
    /// What all stands on, once it is there: without it nothing can be said of what the tree wants.
    pub(super) base: OnceLock<Base>,
    pub(super) policy: Mutex<Policy>,
    /// The tree, or why it could not be read.
    tree: Mutex<Result<Arc<Tree>, String>>,
    /// What the last look said of each API that has no folder: [`Basis::Tree`] where it may go. Others stay for now.
    pub(super) gone: Mutex<BTreeMap<ApiId, Basis>>,
    slots: Mutex<HashMap<ApiId, Slot>>,
    /// Goes up whenever an API comes to rest.
    rested: watch::Sender<u64>,
    /// Images that the last round of cleaning up found no need of.
    pub(super) unneeded: Mutex<BTreeSet<ImageTag>>,
    /// Some API may go once another one serves.
    pub(super) has_waiting: Mutex<bool>,
    /// Somebody wants everything to be looked at.
    wanted: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What the controller knows of one API's turns.
#[derive(Debug, Default)]
struct Slot {
    is_working: bool,
    /// A hint came while the worker was at work: it must look once more before it rests.
    is_hinted: bool,
    /// Counts workers, so that a timer of an earlier rest is recognised as stale.
    generation: u64,
    rest: Option<Rest>,
    /// Cuts short the pause after trouble.
    woken: Arc<Notify>,
}

/// How an API came to rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// There is nothing to do, or nothing that can be done now.
    Quiet(Status),
    /// Something outside is in the way; it is tried again.
    Troubled(String),
}

/// Where an API is between its turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turns {
    /// It has needed none since this process began.
    None,
    /// It is being worked on.
    AtWork,
    /// It has come to rest.
    Rest(Rest),
}

impl Controller {
    /// A controller that has seen no tree yet, and so removes nothing.
    #[must_use]
    pub fn new(world: Arc<World>, base: impl Into<Option<Base>>, policy: Policy, stop: CancellationToken) -> Arc<Self> {
        world.min_free_disk.store(policy.min_free_disk.0, Ordering::Relaxed);
        Arc::new(Self {
            world,
            base: base.into().map(OnceLock::from).unwrap_or_default(),
            policy: Mutex::new(policy),
            tree: Mutex::new(Err(NOT_READ.to_owned())),
            gone: Mutex::default(),
            slots: Mutex::default(),
            rested: watch::channel(0).0,
            unneeded: Mutex::default(),
            has_waiting: Mutex::default(),
            wanted: Notify::new(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// The world that it works on.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The base image that all stands on, once it is there.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.base.get()
    }

    /// The base image is there. From then on this daemon may reconcile; it is the same for as long as the process lives.
    pub fn set_base(&self, base: Base) {
        // Whoever sets it twice found the same.
        let _ = self.base.set(base);
    }

    /// Begins to reconcile. What was known in an earlier term is forgotten: nobody has told us of its changes since.
    pub fn lead(&self) {
        self.set_tree(Err(NOT_READ.to_owned()));
        lock(&self.gone).clear();
        self.world.forget();
        self.world.role.lead();
    }

    /// Takes in a tree. The caller hints at what changed, or looks.
    pub fn set_tree(&self, tree: Result<Arc<Tree>, String>) {
        if let Ok(tree) = &tree {
            // A leave to go is for the folder that was gone then, and not for one that came back and goes again.
            lock(&self.gone).retain(|id, _| is_for_a_look(tree, id));
        }
        *lock(&self.tree) = tree;
    }

    /// Goes on with another policy.
    pub fn set_policy(&self, policy: Policy) {
        self.world.min_free_disk.store(policy.min_free_disk.0, Ordering::Relaxed);
        *lock(&self.policy) = policy;
    }

    /// The tree as it was last read.
    ///
    /// # Errors
    /// Why it could not be read.
    pub fn tree(&self) -> Result<Arc<Tree>, String> {
        lock(&self.tree).clone()
    }

    /// Whether what becomes of that API is still for a full look to decide.
    #[must_use]
    pub fn must_look_for(&self, id: &ApiId) -> bool {
        lock(&self.tree).as_ref().is_ok_and(|tree| is_for_a_look(tree, id))
            && lock(&self.gone).get(id) != Some(&Basis::Tree)
    }

    /// Looks at everything, and gives a turn to every API that has a step to do. Answers with their ids.
    ///
    /// # Errors
    /// Where the engine or the records cannot be asked.
    pub async fn look(self: &Arc<Self>) -> Result<BTreeSet<ApiId>, TurnError> {
        // Without a tree nothing can be said of anything: neither what should be, nor that it cannot be read.
        let leads = self.world.role.leads();
        if leads && self.tree().is_err_and(|why| why == NOT_READ) {
            return Ok(BTreeSet::new());
        }
        let look = self.world.look().await?;
        if leads != self.world.role.leads() {
            // What begins or ends a term looks by itself.
            return Ok(BTreeSet::new());
        }
        if leads {
            self.withdraw_confirmations(&look).await?;
        }
        let goals = self.goals(&look);
        let mut hinted = BTreeSet::new();
        for (id, desired) in &goals {
            let observed = self.world.observed(&look, desired);
            if matches!(self.world.next(desired, &observed), Next::Act(_)) {
                self.hint(id);
                hinted.insert(id.clone());
            }
        }
        Ok(hinted)
    }

    /// Gives an API a turn soon; cheap, and harmless where there is nothing to do.
    pub fn hint(self: &Arc<Self>, id: &ApiId) {
        if self.stop.is_cancelled() {
            return;
        }
        let mut slots = lock(&self.slots);
        let slot = slots.entry(id.clone()).or_default();
        if slot.is_working {
            slot.is_hinted = true;
            slot.rest = None;
            // One permit is kept for a worker that is about to sleep.
            slot.woken.notify_one();
            return;
        }
        slot.is_working = true;
        slot.rest = None;
        slot.generation += 1;
        let (controller, id, stop) = (Arc::clone(self), id.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            // A step that is cut short here is done again, or found done, by the next daemon.
            let work = AssertUnwindSafe(controller.work(&id)).catch_unwind();
            let done = tokio::select! { done = work => done, () = stop.cancelled() => return };
            if done.is_err() {
                tracing::error!(api = %id, "a turn panicked, which is a fault of skep's own; next try in {:?}", RETRY.1);
                let rest = Rest::Troubled("a fault of skep's own; see the daemon's log".to_owned());
                lock(&controller.slots).entry(id.clone()).or_default().is_hinted = false;
                controller.come_to_rest(&id, rest, Some(RETRY.1));
            }
        });
    }

    /// Turns for one API until it rests.
    async fn work(self: &Arc<Self>, id: &ApiId) {
        let (mut retry, mut round) = (RETRY.0, Round::begin());
        loop {
            let woken = Arc::clone(&lock(&self.slots).entry(id.clone()).or_default().woken);
            let turn = self.world.turn(id, |record| self.desired(id, record), &woken).await;
            round.count(&self.world, &turn);
            let (rest, again) = match turn {
                Ok(Outcome::Again) => {
                    retry = RETRY.0;
                    continue;
                }
                Ok(Outcome::Settled(status)) => {
                    self.wake_those_who_wait();
                    self.world.say(id, Going::Rest { status: status.clone() });
                    (Rest::Quiet(status), None)
                }
                Ok(Outcome::Wait(until, status)) => {
                    self.world.say(id, Going::Rest { status: status.clone() });
                    let pause = until.map(|until| until.duration_since(self.world.clock.now()));
                    (Rest::Quiet(status), pause.map(|pause| Duration::try_from(pause).unwrap_or_default()))
                }
                // The tree moved while it was read: the next hint is on its way, but does not have to come.
                Err(error @ TurnError::Tree(_)) => (Rest::Troubled(error.to_string()), Some(RETRY.0)),
                Err(TurnError::Records(RecordsError::Fenced)) => {
                    self.world.role.follow();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(api = %id, "{error}; next try in {retry:?}");
                    self.world.count_trouble();
                    self.world.say(id, Going::Trouble { message: error.to_string() });
                    let pause = retry;
                    retry = (retry * 2).min(RETRY.1);
                    (Rest::Troubled(error.to_string()), Some(pause))
                }
            };
            match rest {
                // Tried again by the same worker, so that the pauses grow.
                Rest::Troubled(_) => {
                    let woken = {
                        let mut slots = lock(&self.slots);
                        let slot = slots.entry(id.clone()).or_default();
                        slot.rest = Some(rest);
                        Arc::clone(&slot.woken)
                    };
                    self.rested.send_modify(|count| *count += 1);
                    let pause = tokio::time::sleep(again.unwrap_or(RETRY.0));
                    tokio::select! { () = pause => {} () = woken.notified() => retry = RETRY.0 }
                }
                Rest::Quiet(_) if self.come_to_rest(id, rest, again) => return,
                Rest::Quiet(_) => {}
            }
        }
    }

    /// Something has come to serve, perhaps: whoever may go only then is looked at again.
    fn wake_those_who_wait(self: &Arc<Self>) {
        if std::mem::take(&mut *lock(&self.has_waiting)) {
            self.wanted.notify_one();
        }
    }

    /// Ends the worker, unless a hint came meanwhile.
    fn come_to_rest(self: &Arc<Self>, id: &ApiId, rest: Rest, again: Option<Duration>) -> bool {
        let generation = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(id.clone()).or_default();
            if std::mem::take(&mut slot.is_hinted) {
                return false;
            }
            slot.rest = Some(rest);
            slot.is_working = false;
            slot.generation
        };
        self.rested.send_modify(|count| *count += 1);
        if let Some(pause) = again {
            let (controller, id, stop) = (Arc::clone(self), id.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! { () = tokio::time::sleep(pause) => {} () = stop.cancelled() => return }
                let is_stale = lock(&controller.slots).get(&id).is_none_or(|slot| slot.generation != generation);
                if !is_stale {
                    controller.hint(&id);
                }
            });
        }
        true
    }

    /// Every API that has had a turn.
    #[must_use]
    pub fn known(&self) -> BTreeSet<ApiId> {
        lock(&self.slots).keys().cloned().collect()
    }

    /// Where an API is between its turns.
    #[must_use]
    pub fn turns(&self, id: &ApiId) -> Turns {
        let slots = lock(&self.slots);
        slots.get(id).map_or(Turns::None, |slot| slot.rest.clone().map_or(Turns::AtWork, Turns::Rest))
    }

    /// Whether any API is being worked on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        lock(&self.slots).values().any(|slot| slot.is_working && slot.rest.is_none())
    }

    /// Waits until each of these APIs has come to rest once; then how.
    pub async fn rested(&self, ids: &BTreeSet<ApiId>) -> BTreeMap<ApiId, Rest> {
        let mut rested = self.rested.subscribe();
        let mut found = BTreeMap::new();
        loop {
            {
                let slots = lock(&self.slots);
                for id in ids.iter().filter(|id| !found.contains_key(*id)).collect::<Vec<_>>() {
                    if let Some(rest) = slots.get(id).and_then(|slot| slot.rest.clone()) {
                        found.insert(id.clone(), rest);
                    }
                }
            }
            if found.len() == ids.len() || rested.changed().await.is_err() {
                return found;
            }
        }
    }

    /// Keeps looking: at what the engine and the prober hint at, and at everything from time to time. Ends with `stop`.
    pub async fn run(self: Arc<Self>, look_every: Duration, mut probes: broadcast::Receiver<ApiId>) {
        let mut events = self.world.engine.events();
        let mut looks = tokio::time::interval(look_every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let hint = tokio::select! {
                () = self.stop.cancelled() => break,
                _ = looks.tick() => Hint::Everything,
                probed = probes.recv() => probed.map_or(Hint::Everything, Hint::Api),
                () = self.wanted.notified() => Hint::Everything,
                Some(hint) = events.next() => hint,
            };
            match hint {
                Hint::Api(id) => self.hint(&id),
                Hint::Everything => {
                    let looked = tokio::select! { () = self.stop.cancelled() => break, looked = self.look() => looked };
                    if let Err(error) = looked {
                        tracing::warn!("cannot look at the world: {error}; the next look is in {look_every:?}");
                    }
                    // What was said while looking was about what has been looked at, or soon is: one look is enough.
                    while let Some(Some(hint)) = events.next().now_or_never() {
                        match hint {
                            Hint::Api(id) => self.hint(&id),
                            Hint::Everything => self.wanted.notify_one(),
                        }
                    }
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
            }
        }
        self.ended().await;
    }

    /// Waits until no worker is left, which is soon after `stop`.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
