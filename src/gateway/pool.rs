//! A pool holds the idle connections to one upstream, the one used last on top.
//!
//! One pool an instance rather than one map of all hosts: no shared lock, no hashing of an authority per request, and
//! the connections of a removed container end with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::hop::Hop;
use super::upstream::Upstream;

/// How long a connection may have been idle and still be used. uvicorn closes its side after 5 s unless told
/// otherwise; staying below that keeps us from writing into a connection that is being closed.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// The most idle connections to one upstream. More than this are a burst that has passed.
pub const MAX_IDLE: usize = 128;

/// How long a connection may take to open. An instance is one hop away: it answers in microseconds or is gone.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are read ahead of the caller, per connection; also bounds the answer's head.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// The idle connections to one upstream.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    idle: VecDeque<Idle>,
    closed: bool,
    /// Whether somebody closes those that nobody takes any more.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    hop: Box<Hop>,
    since: Instant,
}

impl Pool {
    /// The connection that was used last, if one is idle, fresh enough and still open.
    pub(super) fn take(&self, now: std::time::Instant) -> Option<Box<Hop>> {
        let mut state = self.lock();
        while let Some(idle) = state.idle.pop_back() {
            if Instant::from(now).saturating_duration_since(idle.since) >= IDLE_LIMIT {
                // Those below it are older still.
                state.idle.clear();
                return None;
            }
            if idle.hop.is_quiet() {
                return Some(idle.hop);
            }
        }
        None
    }

    /// Drops what is idle and takes nothing back any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
    }

    /// Closes those that have been idle for too long, and says whether any are left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let old = state.idle.iter().take_while(|idle| now - idle.since >= IDLE_LIMIT).count();
        state.idle.drain(..old);
        state.is_swept = !state.idle.is_empty();
        state.is_swept
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a connection back that is ready for the next request. A closed or full pool drops it.
pub(super) fn put_back(upstream: &Arc<Upstream>, hop: Box<Hop>) {
    let mut state = upstream.pool.lock();
    if state.closed || state.idle.len() >= MAX_IDLE {
        return;
    }
    if !state.is_swept {
        let Ok(runtime) = Handle::try_current() else { return };
        state.is_swept = true;
        runtime.spawn(sweep(Arc::downgrade(upstream)));
    }
    state.idle.push_back(Idle { hop, since: Instant::now() });
}

/// Closes idle connections that nobody takes, until there are none: the app may have closed its side, of which nobody is
/// told who does not look.
async fn sweep(upstream: std::sync::Weak<Upstream>) {
    loop {
        sleep(IDLE_LIMIT).await;
        if !upstream.upgrade().is_some_and(|upstream| upstream.pool.sweep()) {
            return;
        }
    }
}
