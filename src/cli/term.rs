//! A term is the time in which this daemon reconciles. Before and after it, it serves callers and stands by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Surface;
use crate::installation::{Holder, Installation, Lock};
use crate::previews::sweep::note_ended;
use crate::previews::term;
use crate::pull::Pulls;
use crate::reconcile::follow::Follower;
use crate::reconcile::leadership::{keep_following, keep_leading, stand_by};
use crate::reconcile::{Controller, World};
use crate::records::{Lease, Records};
use crate::settings::Settings;

/// How often one that leads without the lock looks whether its holder, who was asleep, has given it back.
const LOCK_AGAIN: Duration = Duration::from_millis(500);

/// How long a read of the tree may take to end with its term.
const TREE_GRACE: Duration = Duration::from_secs(5);

/// What terms are made of.
pub struct Terms {
    /// The state folder, whose lock tells that no other process of this host is at work.
    pub installation: Installation,
    /// What is written into the lock.
    pub holder: Holder,
    /// Read anew with every change of the tree.
    pub settings: Arc<Settings>,
    /// Where the lease is.
    pub records: Arc<dyn Records>,
    /// What is reconciled.
    pub world: Arc<World>,
    /// What reconciles it.
    pub controller: Arc<Controller>,
    /// Told whether it may be asked to apply.
    pub surface: Arc<Surface>,
    /// Told when the first term, if there is one, has looked at everything once.
    pub begun: Arc<Notify>,
    /// What another process takes over with the place of this one.
    pub seat: Arc<Seat>,
}

/// What a daemon holds that reconciles on its host, and may be asked to give up for another one.
#[derive(Debug, Default)]
pub struct Seat {
    lock: Mutex<Option<Lock>>,
    /// Told when the lock is there.
    taken: Notify,
    /// Whether another process wants the seat.
    is_wanted: watch::Sender<bool>,
    /// Whether nothing is reconciled here any more, for that.
    is_free: watch::Sender<bool>,
}

impl Seat {
    /// A seat with the lock, or one whose holder stands by.
    #[must_use]
    pub fn new(lock: Option<Lock>) -> Self {
        Self { lock: Mutex::new(lock), ..Self::default() }
    }

    /// Puts the lock in that another process has passed on.
    pub fn put(&self, lock: Lock) {
        *self.guard() = Some(lock);
        self.taken.notify_one();
    }

    /// Returns when the lock is there.
    pub async fn taken(&self) {
        while self.guard().is_none() {
            self.taken.notified().await;
        }
    }

    /// Whether the lock is there.
    #[must_use]
    pub fn has_lock(&self) -> bool {
        self.guard().is_some()
    }

    /// Gives it up: returns when nothing is reconciled any more, with the lock.
    pub async fn give_up(&self) -> Option<Lock> {
        self.is_wanted.send_replace(true);
        // The sender lives as long as this.
        let _ = self.is_free.subscribe().wait_for(|is_free| *is_free).await;
        self.guard().take()
    }

    /// Goes on as before, where nobody has taken it.
    pub fn take_back(&self, lock: Option<Lock>) {
        if let Some(lock) = lock {
            self.put(lock);
        }
        self.is_wanted.send_replace(false);
    }

    fn yields(&self) -> bool {
        *self.is_wanted.borrow()
    }

    /// Returns when another process wants the seat, or wants it no more.
    async fn wanted(&self, is_wanted: bool) {
        let _ = self.is_wanted.subscribe().wait_for(|now| *now == is_wanted).await;
    }

    fn guard(&self) -> MutexGuard<'_, Option<Lock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms {
    /// Stands by, reconciles, stands by again, until `stop`. While another daemon has or wants the seat, it only serves.
    pub async fn run(self, stop: CancellationToken) {
        let mut has_lost = false;
        while !stop.is_cancelled() {
            self.stand_by_and_lead(&mut has_lost, &stop).await;
            self.seat.is_free.send_replace(true);
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.seat.wanted(false) => {}
                () = keep_following(&*self.records, &self.world.daemon) => {}
            }
        }
        let _ = self.records.dismiss(&self.world.daemon).await;
    }

    async fn stand_by_and_lead(&self, has_lost: &mut bool, stop: &CancellationToken) {
        loop {
            // First, so that whoever wants it from now on waits.
            self.seat.is_free.send_replace(false);
            if self.seat.yields() {
                break;
            }
            let daemon = self.world.daemon.clone();
            let is_alone = |lease: &Lease| self.is_of_here(lease) && self.take();
            let (before, epoch) = tokio::select! {
                () = stop.cancelled() => break,
                () = self.seat.wanted(true) => break,
                epochs = stand_by(&*self.records, &daemon, *has_lost, is_alone) => epochs,
            };
            self.lead((before, epoch), stop).await;
            let yields = self.seat.yields();
            if yields || stop.is_cancelled() {
                // Nobody has to wait for it to run out.
                let _ = self.records.resign(epoch).await;
            }
            if stop.is_cancelled() {
                break;
            }
            self.surface.set_to_follow(Arc::clone(&self.controller));
            if yields {
                self.seat.is_free.send_replace(true);
            } else {
                tracing::warn!("another daemon has taken over; this one goes on serving, and stands by");
                *self.seat.guard() = None;
                *has_lost = true;
            }
            if let Err(error) = self.controller.look().await {
                tracing::warn!("cannot look at the world: {error}");
            }
        }
    }

    /// Whether the lease is of a daemon of this host, whose lock tells whether it lives; those of other hosts are waited for.
    fn is_of_here(&self, lease: &Lease) -> bool {
        let is_file = self.settings.records.url.is_none();
        let holder = lease.holder.as_deref().unwrap_or_default();
        is_file || holder.strip_prefix(self.installation.host()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// One term, of that epoch, after one of another.
    async fn lead(&self, (before, epoch): (u64, u64), stop: &CancellationToken) {
        self.records.fence(Some(epoch));
        self.controller.lead();
        tracing::info!(epoch, "this daemon reconciles");
        self.sign();
        let term = stop.child_token();
        let followed = match Follower::new(Arc::clone(&self.settings), Arc::clone(&self.controller)) {
            Ok((follower, ask)) => {
                self.surface.set_to_lead(Arc::clone(&self.controller), ask.clone());
                let (caught_up, term) = (self.catch_up(before, epoch), term.clone());
                let followed = tokio::spawn(async move {
                    tokio::select! { () = term.cancelled() => return, () = caught_up => {} }
                    follower.run(term).await;
                });
                Some((followed, ask))
            }
            Err(error) => {
                tracing::error!("{error}; another daemon may have more luck");
                None
            }
        };
        let Some((mut followed, ask)) = followed else {
            self.begun.notify_one();
            self.world.role.follow();
            let _ = self.records.resign(epoch).await;
            return;
        };
        // Signs of life come from the first moment on: a tree or an engine that hangs is no reason to lose the lease.
        let work = async {
            let tidy = async {
                if let Err(error) = self.controller.tidy().await {
                    tracing::warn!("cannot clean up what an earlier daemon was building: {error}");
                }
            };
            tokio::join!(ask.look(), tidy);
            self.begun.notify_one();
            loop {
                tokio::time::sleep(LOCK_AGAIN).await;
                if self.seat.guard().is_none() && self.take() {
                    self.sign();
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.seat.wanted(true) => self.world.role.follow(),
            () = keep_leading(Arc::clone(&self.records), &self.world.role, epoch) => self.world.role.follow(),
            () = work => {}
        }
        self.begun.notify_one();
        term.cancel();
        // It may be in the middle of a read that never ends.
        if tokio::time::timeout(TREE_GRACE, &mut followed).await.is_err() {
            followed.abort();
        }
    }

    /// Returns once the tree of this host may be gone by: one that is older than what another host has brought to serve may not.
    fn catch_up(&self, before: u64, epoch: u64) -> impl Future<Output = ()> + Send + 'static {
        let (pulls, controller) = (self.surface.pulls(), Arc::clone(&self.controller));
        let (settings, records) = (Arc::clone(&self.settings), Arc::clone(&self.records));
        async move {
            if let Err(error) = give_up(&settings, pulls.as_deref(), &*records, (before, epoch)).await {
                tracing::error!("{error:#}; it is tried again in the next term");
            }
            let Some(pulls) = pulls else { return };
            pulls.forget_others().await;
            if pulls.is_behind(before) {
                let why =
                    "another host has reconciled meanwhile, so the tree here waits until all sources are followed";
                tracing::warn!("{why}; what serves goes on serving");
                controller.set_tree(Err(why.to_owned()));
                if let Err(error) = controller.look().await {
                    tracing::warn!("cannot look at the world: {error}");
                }
                pulls.caught_up().await;
            }
            pulls.sign(epoch);
        }
    }

    /// Takes the lock where nobody has it; `true` where it is ours.
    fn take(&self) -> bool {
        if self.seat.guard().is_none()
            && let Ok(Some(lock)) = self.installation.try_lock()
        {
            self.seat.put(lock);
        }
        self.seat.guard().is_some()
    }

    /// Writes down who is at work, for commands that want to ask.
    fn sign(&self) {
        let signed = match &mut *self.seat.guard() {
            Some(lock) => lock.write(&self.holder),
            None => self.installation.sign(&self.holder),
        };
        if let Err(error) = signed {
            tracing::warn!("{error}");
        }
    }
}

/// Gives up what this host still has of pull requests where another one has reconciled since: nobody has told this one which of
/// them are over by now. Signs the term only once that is done.
async fn give_up(
    settings: &Settings,
    pulls: Option<&Pulls>,
    records: &dyn Records,
    (before, epoch): (u64, u64),
) -> anyhow::Result<()> {
    if term::is_behind(settings, before) {
        for source in pulls.iter().flat_map(|pulls| pulls.sources()) {
            source.end_offers().context("pull requests of before the last term go on")?;
        }
        let ended = term::give_up(settings).await.context("previews of before the last term go on")?;
        note_ended(records, &ended).await;
    }
    term::sign(settings, epoch).context("cannot write down that this host reconciles")
}
