//! A term is the time in which this daemon reconciles. Before and after it, it serves callers and stands by.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::Surface;
use crate::installation::{Holder, Installation, Lock};
use crate::reconcile::follow::Follower;
use crate::reconcile::leadership::{keep_leading, stand_by};
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
}

impl Terms {
    /// Stands by, reconciles, stands by again, until `stop`.
    pub async fn run(self, lock: Option<Lock>, stop: CancellationToken) {
        let lock = Mutex::new(lock);
        let mut has_lost = false;
        loop {
            let daemon = self.world.daemon.clone();
            let before = AtomicU64::new(0);
            let is_alone = |lease: &Lease| {
                before.store(lease.epoch, Ordering::Relaxed);
                self.is_of_here(lease) && self.take(&lock)
            };
            let epoch = tokio::select! {
                () = stop.cancelled() => break,
                epoch = stand_by(&*self.records, &daemon, has_lost, is_alone) => epoch,
            };
            self.lead((before.load(Ordering::Relaxed), epoch), &lock, &stop).await;
            if stop.is_cancelled() {
                // Nobody has to wait for it to run out.
                let _ = self.records.resign(epoch).await;
                break;
            }
            tracing::warn!("another daemon has taken over; this one goes on serving, and stands by");
            *guard(&lock) = None;
            has_lost = true;
            self.surface.set_to_follow(Arc::clone(&self.controller));
            if let Err(error) = self.controller.look().await {
                tracing::warn!("cannot look at the world: {error}");
            }
        }
        let _ = self.records.dismiss(&self.world.daemon).await;
    }

    /// Whether the lease is of a daemon of this host, whose lock tells whether it lives; those of other hosts are waited for.
    fn is_of_here(&self, lease: &Lease) -> bool {
        let is_file = self.settings.records.url.is_none();
        let holder = lease.holder.as_deref().unwrap_or_default();
        is_file || holder.strip_prefix(self.installation.host()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// One term, of that epoch, after one of another.
    async fn lead(&self, (before, epoch): (u64, u64), lock: &Mutex<Option<Lock>>, stop: &CancellationToken) {
        self.records.fence(Some(epoch));
        self.controller.lead();
        tracing::info!(epoch, "this daemon reconciles");
        self.sign(lock);
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
                if guard(lock).is_none() && self.take(lock) {
                    self.sign(lock);
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
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
        async move {
            let Some(pulls) = pulls else { return };
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
    fn take(&self, lock: &Mutex<Option<Lock>>) -> bool {
        let mut lock = guard(lock);
        if lock.is_none() {
            *lock = self.installation.try_lock().ok().flatten();
        }
        lock.is_some()
    }

    /// Writes down who is at work, for commands that want to ask.
    fn sign(&self, lock: &Mutex<Option<Lock>>) {
        let signed = match &mut *guard(lock) {
            Some(lock) => lock.write(&self.holder),
            None => self.installation.sign(&self.holder),
        };
        if let Err(error) = signed {
            tracing::warn!("{error}");
        }
    }
}

fn guard(lock: &Mutex<Option<Lock>>) -> std::sync::MutexGuard<'_, Option<Lock>> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
