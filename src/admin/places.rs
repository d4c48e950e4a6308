//! Places bound how many pushes and fetches there are at once: each is some processes, and their memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::fault::Fault;

/// How many pushes are taken in at once. One that is taken has its place no more, however long its end is waited for.
const PUSHES: usize = 4;

/// How many of those that come with keys for previews alone: they take no place of others.
const PREVIEWS: usize = 2;

/// How many fetches there are at once.
const FETCHES: usize = 4;

/// How many requests that are over in a moment: which names there are, what goes, and whether somebody is let in.
const MOMENTS: usize = 8;

/// How many wait for the end of a push that is taken.
const WATCHERS: usize = 64;

/// How many wait for a place, and how long: less than what proxies wait for an answer by default.
const QUEUE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(50);

/// What a place is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Push,
    /// By a key for previews alone.
    Preview,
    Fetch,
    Moment,
}

/// All the places that there are.
#[derive(Debug)]
pub(super) struct Places {
    pushes: Arc<Semaphore>,
    previews: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    moments: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    queue: Semaphore,
    patience: Duration,
}

impl Default for Places {
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Self {
            pushes: of(PUSHES),
            previews: of(PREVIEWS),
            fetches: of(FETCHES),
            moments: of(MOMENTS),
            watchers: of(WATCHERS),
            queue: Semaphore::new(QUEUE),
            patience: PATIENCE,
        }
    }
}

impl Places {
    /// A place, which is waited for a while.
    ///
    /// # Errors
    /// Where none has become free by then, or too many wait already.
    pub(super) async fn take(&self, purpose: Purpose) -> Result<OwnedSemaphorePermit, Fault> {
        let (places, most, what) = match purpose {
            Purpose::Push => (&self.pushes, PUSHES, "pushes are being taken in"),
            Purpose::Preview => (&self.previews, PREVIEWS, "pushes of previews are being taken in"),
            Purpose::Fetch => (&self.fetches, FETCHES, "fetches are going on"),
            Purpose::Moment => (&self.moments, MOMENTS, "questions are being answered"),
        };
        let busy = || Fault::Unavailable(format!("{most} {what}, and none has come to an end; try again"));
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(place);
        }
        let _waits = self.queue.try_acquire().map_err(|_| busy())?;
        let place = timeout(self.patience, Arc::clone(places).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// A place to wait for the end of a push that is taken; `None` where too many do.
    pub(super) fn watch(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watchers).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn nobody_takes_the_places_of_others() {
        let places = Places { patience: Duration::ZERO, ..Places::default() };
        let mut taken = Vec::new();
        let all = [
            (Purpose::Preview, PREVIEWS),
            (Purpose::Fetch, FETCHES),
            (Purpose::Push, PUSHES),
            (Purpose::Moment, MOMENTS),
        ];
        for (purpose, most) in all {
            taken.extend(join_all((0..most).map(|_| places.take(purpose))).await.into_iter().map(Result::unwrap));
            let (_, why) = places.take(purpose).await.unwrap_err().said();
            assert!(why.starts_with(&format!("{most} ")), "{why}");
        }
        drop(taken);
        for (purpose, _) in all {
            drop(places.take(purpose).await.unwrap());
        }
    }

    #[tokio::test]
    async fn whoever_finds_no_place_waits_for_one() {
        let places = Arc::new(Places::default());
        let mut taken = join_all((0..PUSHES).map(|_| places.take(Purpose::Push))).await;
        let waits = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take(Purpose::Push).await.is_ok() }
        });
        while places.queue.available_permits() == QUEUE {
            tokio::task::yield_now().await;
        }
        taken.pop();
        assert!(waits.await.unwrap());
    }
}
