//! Leadership is which of several daemons of one installation reconciles. The others serve callers, and stand by.
//!
//! The lease is in the records. Whoever sees its sign of life stand still for [`PATIENCE`], by a clock of its own, takes
//! over with the next epoch. That alone would not do: the old holder may have been asleep, and wake up in the middle of
//! a step. So what it writes carries its epoch and is refused, and nothing is removed that was not announced in the
//! records before: an announcement of an older epoch is refused, and what an earlier holder announced in time, its
//! successor sends nobody to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::records::{Lease, Records, RecordsError};

/// How long a lease may show no sign of life.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Between two signs of life.
pub const BEAT: Duration = Duration::from_secs(2);

/// Between two looks of a daemon that stands by.
const LOOK: Duration = Duration::from_millis(500);

/// Whether this process reconciles.
#[derive(Debug)]
pub struct Role {
    leads: watch::Sender<bool>,
}

impl Default for Role {
    /// Reconciles: a process that is alone with its records.
    fn default() -> Self {
        Self { leads: watch::Sender::new(true) }
    }
}

impl Role {
    /// Whether this process reconciles.
    #[must_use]
    pub fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Begins to reconcile.
    pub fn lead(&self) {
        self.leads.send_replace(true);
    }

    /// Only serves from now on.
    pub fn follow(&self) {
        self.leads.send_replace(false);
    }

    /// Returns once this process does not reconcile, to each who waits for that.
    pub async fn lost(&self) {
        // The sender lives as long as this.
        let _ = self.leads.subscribe().wait_for(|leads| !leads).await;
    }
}

/// Notices a lease whose sign of life stands still.
#[derive(Debug)]
struct Watch {
    seen: Option<(Lease, Instant)>,
}

impl Watch {
    /// For how long the lease has been as it is now.
    fn stands_still(&mut self, lease: &Lease) -> Duration {
        match &self.seen {
            Some((seen, since)) if seen == lease => since.elapsed(),
            _ => {
                self.seen = Some((lease.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}

/// Waits until this daemon may reconcile, and gives the epoch of the lease that it has claimed, which is of the last one who
/// reconciled, and that of its own. Meanwhile gives signs of life as a follower.
///
/// `is_alone` tells whether the lease is of this host and no other process of it is at work, so that nobody has to wait for the lease of one
/// that was killed to run out. One that `has_lost` the lease knows that somebody else has it, and is alive: the lock, which
/// it has just given back, proves nothing to it before the other one falls silent.
pub async fn stand_by(
    records: &dyn Records,
    daemon: &str,
    has_lost: bool,
    mut is_alone: impl FnMut(&Lease) -> bool,
) -> (u64, u64) {
    let mut watch = Watch { seen: None };
    let mut beat = Instant::now();
    loop {
        match try_to_lead(records, daemon, &mut watch, has_lost, &mut is_alone).await {
            Ok(Some(epochs)) => return epochs,
            Ok(None) => {}
            Err(error) => tracing::warn!("{error}; who reconciles cannot be seen to now"),
        }
        if beat.elapsed() >= BEAT || beat.elapsed() < LOOK {
            beat = Instant::now();
            if let Err(error) = records.follow(daemon).await {
                tracing::debug!("{error}");
            }
        }
        sleep(LOOK).await;
    }
}

async fn try_to_lead(
    records: &dyn Records,
    daemon: &str,
    watch: &mut Watch,
    has_lost: bool,
    is_alone: &mut impl FnMut(&Lease) -> bool,
) -> Result<Option<(u64, u64)>, RecordsError> {
    let lease = records.lease().await?;
    let still = watch.stands_still(&lease);
    let counts = !has_lost || still >= BEAT * 2;
    // Of a claim of ours the answer was lost, or a restore from a backup has brought it back: the next epoch is ours alone.
    let is_ours = lease.holder.as_deref() == Some(daemon);
    if is_ours || (counts && is_alone(&lease)) || lease.holder.is_none() || still >= PATIENCE {
        return Ok(records.claim(&lease, daemon).await?.map(|epoch| (lease.epoch, epoch)));
    }
    Ok(None)
}

/// Gives signs of life as a follower that will never reconcile again, for as long as it is polled.
pub async fn keep_following(records: &dyn Records, daemon: &str) {
    loop {
        if let Err(error) = records.follow(daemon).await {
            tracing::debug!("{error}");
        }
        sleep(BEAT).await;
    }
}

/// Gives signs of life until another daemon has taken over, and forgets followers that give none.
pub async fn keep_leading(records: Arc<dyn Records>, role: &Role, epoch: u64) {
    let mut followers = std::collections::BTreeMap::new();
    loop {
        tokio::select! { () = sleep(BEAT) => {} () = role.lost() => return }
        match records.renew(epoch).await {
            Ok(true) => {}
            Ok(false) => return,
            // Nobody else can write either, or somebody else takes over: then what we write is refused.
            Err(error) => tracing::warn!("{error}; the lease cannot be renewed now"),
        }
        if let Ok(now) = records.followers().await {
            followers.retain(|daemon: &String, _: &mut (u64, Instant)| now.contains_key(daemon));
            for (daemon, beat) in now {
                let seen = followers.entry(daemon.clone()).or_insert((beat, Instant::now()));
                if seen.0 != beat {
                    *seen = (beat, Instant::now());
                } else if seen.1.elapsed() >= PATIENCE && records.dismiss(&daemon).await.is_ok() {
                    tracing::info!(%daemon, "a daemon that followed has ended");
                }
            }
        }
    }
}
