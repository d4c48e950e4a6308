//! Activity is what happens on one connection: how many requests are open, since when none is, and how many
//! were begun only to be given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// Requests that may be given up on one connection before they are held against those that were answered.
const GIVEN_UP: u32 = 100;

/// What happens on one connection.
#[derive(Debug)]
pub(super) struct Activity {
    open: AtomicU32,
    /// When the last request began or ended.
    changed: Mutex<Instant>,
    answered: AtomicU32,
    given_up: AtomicU32,
    abuse: Notify,
    /// What is wrong with the head that has come last; see [`super::heads`].
    fault: Mutex<Option<&'static str>>,
    /// The last request has announced a body.
    has_body: AtomicBool,
    /// Something waits to be taken by the caller.
    unsent: AtomicBool,
    /// The answer to the last request has begun.
    answering: AtomicBool,
    /// The last request is one that interim answers may come to.
    interim: AtomicBool,
    /// Who wants to know when a request ends.
    waiting: AtomicWaker,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            open: AtomicU32::new(0),
            changed: Mutex::new(Instant::now()),
            answered: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            abuse: Notify::new(),
            fault: Mutex::default(),
            has_body: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            interim: AtomicBool::new(false),
            waiting: AtomicWaker::new(),
        }
    }
}

/// One request on a connection, until its answer has been sent or given up.
#[derive(Debug)]
pub(super) struct Open {
    activity: Arc<Activity>,
    is_answered: bool,
    fault: Option<&'static str>,
    /// When it ended, where somebody has looked at the clock.
    ended: Option<Instant>,
}

impl Activity {
    /// A request begins.
    pub(super) fn begin(activity: &Arc<Self>, now: Instant) -> Open {
        activity.open.fetch_add(1, Ordering::AcqRel);
        activity.answering.store(false, Ordering::Relaxed);
        activity.touch(now);
        Open { activity: Arc::clone(activity), is_answered: false, fault: activity.fault(), ended: None }
    }

    /// Returns when no request has been open for so long; one whose head is not whole yet is none.
    pub(super) async fn quiet_for(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let since = (*self.changed.lock().unwrap_or_else(PoisonError::into_inner)).max(began);
            let left = limit.saturating_sub(since.elapsed());
            match self.open.load(Ordering::Acquire) {
                0 if left.is_zero() => return,
                0 => sleep(left).await,
                _ => sleep(limit).await,
            }
        }
    }

    /// Whether nothing is under way, in neither direction, so that what comes next can only be another request. Nobody can tell
    /// from here whether a body has been read to its end, so where there was one, the answer is no.
    pub(super) fn is_between_requests(&self) -> bool {
        !self.is_busy() && !self.has_body.load(Ordering::Relaxed) && !self.unsent.load(Ordering::Relaxed)
    }

    /// Says whether the request that begins announces a body, and whether interim answers may come to it.
    pub(super) fn set_request(&self, has_body: bool, takes_interim: bool) {
        self.has_body.store(has_body, Ordering::Relaxed);
        self.interim.store(takes_interim, Ordering::Relaxed);
    }

    /// Whether an interim answer may be sent to the last request.
    pub(super) fn takes_interim(&self) -> bool {
        self.interim.load(Ordering::Relaxed)
    }

    /// Whether the answer to the last request has begun, on a connection of HTTP/1.
    pub(super) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Whether something waits to be taken by the caller.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Says whether the caller takes nothing in.
    pub(super) fn set_unsent(&self, is_so: bool) {
        self.unsent.store(is_so, Ordering::Relaxed);
    }

    /// Wakes this task when the next request ends.
    pub(super) fn wake_at_end(&self, cx: &Context<'_>) {
        self.waiting.register(cx.waker());
    }

    /// Whether a request is open.
    pub(super) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// Says what is wrong with the head that has come.
    pub(super) fn set_fault(&self, fault: Option<&'static str>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<&'static str> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when more requests were given up than a caller has reason to.
    pub(super) async fn abused(&self) {
        self.abuse.notified().await;
    }

    fn touch(&self, now: Instant) {
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Open {
    /// What is wrong with its head.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// Its answer has begun.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
        self.activity.answering.store(true, Ordering::Relaxed);
    }

    /// It ends now.
    pub(super) fn end(mut self, now: Instant) {
        self.ended = Some(now);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { activity, is_answered, ended, .. } = self;
        activity.touch(ended.unwrap_or_else(Instant::now));
        activity.open.fetch_sub(1, Ordering::AcqRel);
        activity.waiting.wake();
        if *is_answered {
            activity.answered.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let given_up = activity.given_up.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if given_up > GIVEN_UP && given_up > activity.answered.load(Ordering::Relaxed) {
            activity.abuse.notify_one();
        }
    }
}
