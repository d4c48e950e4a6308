//! Faults strike calls by their number. Every call stops once before its effect and once after it, so that whoever polls
//! can let anything happen in between: another call, a hand on the world, the end of the daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use skep::engine::EngineError;
use skep::reconcile::turn::Clock;

/// When a call that nobody answers is given up.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing has happened.
    Before,
    /// It is done, and its reply is lost.
    After,
    /// Nobody answers until it is given up; nothing has happened.
    HangBefore,
    /// It is done, and nobody answers until it is given up.
    HangAfter,
}

pub const FAULTS: [Fault; 4] = [Fault::Before, Fault::After, Fault::HangBefore, Fault::HangAfter];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "fails before its effect",
            Self::After => "loses its reply",
            Self::HangBefore => "hangs before its effect",
            Self::HangAfter => "hangs after its effect",
        })
    }
}

/// The clock of a simulation, in milliseconds, and how futures wait for it.
pub struct SimClock {
    now: AtomicI64,
    /// Whether calls stop before and after their effect, and waiting waits. Else waiting moves the clock.
    is_stepping: AtomicBool,
    /// Counts what was done since the beginning: a poll that leaves it as it was only waited.
    progress: AtomicU64,
}

impl SimClock {
    pub fn new() -> Self {
        let now = AtomicI64::new(1_700_000_000_000);
        Self { now, is_stepping: AtomicBool::new(false), progress: AtomicU64::new(0) }
    }

    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub fn advance_to(&self, at: Timestamp) {
        self.now.fetch_max(at.as_millisecond(), Ordering::Relaxed);
    }

    pub fn step(&self, is_stepping: bool) {
        self.is_stepping.store(is_stepping, Ordering::Relaxed);
    }

    pub fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Lets others have a turn, where calls are stepped.
    async fn stop(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
        let mut has_stopped = !self.is_stepping.load(Ordering::Relaxed);
        poll_fn(|_| if std::mem::replace(&mut has_stopped, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Waits until `limit` is over or, if that is earlier, until the moment that `early` names.
    pub async fn wait(&self, limit: Duration, early: impl Fn() -> Option<Timestamp>) {
        let last = self.now() + limit;
        poll_fn(|_| {
            if !self.is_stepping.load(Ordering::Relaxed) {
                self.advance_to(last);
            }
            let end = early().map_or(last, |early| early.min(last));
            if self.now() >= end { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now.load(Ordering::Relaxed)).unwrap()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now.load(Ordering::Relaxed).cast_unsigned())
    }

    async fn sleep(&self, span: Duration) {
        // Longer than asked, so that waiting takes few turns.
        self.wait(span * 8, || None).await;
    }
}

/// Which calls fail, and how.
pub struct Faults {
    pub clock: Arc<SimClock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: u64,
    planned: BTreeMap<u64, Fault>,
    /// The call that was stopped last is on its way, and its effect has not happened.
    is_on_its_way: bool,
}

impl Faults {
    pub fn new(clock: Arc<SimClock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Lets `count` calls fail, after the next `after` ones.
    pub fn plan(&self, after: u64, count: u64, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        let first = state.calls + after;
        state.planned.extend((first..first + count).map(|call| (call, fault)));
    }

    /// No more faults.
    pub fn end(&self) {
        self.state.lock().unwrap().planned.clear();
    }

    /// Whether whoever was polled last has sent a call whose effect has not happened.
    pub fn is_on_its_way(&self) -> bool {
        self.state.lock().unwrap().is_on_its_way
    }

    /// Does `effect`, unless a fault comes before it; says nothing of it where one comes after.
    pub async fn call<T>(&self, effect: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let lost = || EngineError::Timeout(DEADLINE, "answer");
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.is_on_its_way = true;
            state.calls += 1;
            let call = state.calls - 1;
            if state.planned.is_empty() { None } else { state.planned.remove(&call) }
        };
        self.clock.stop().await;
        if fault == Some(Fault::HangBefore) {
            self.clock.wait(DEADLINE, || None).await;
        }
        if matches!(fault, Some(Fault::Before | Fault::HangBefore)) {
            return Err(lost());
        }
        let done = effect();
        self.state.lock().unwrap().is_on_its_way = false;
        self.clock.stop().await;
        if fault == Some(Fault::HangAfter) {
            self.clock.wait(DEADLINE, || None).await;
        }
        if matches!(fault, Some(Fault::After | Fault::HangAfter)) { Err(lost()) } else { done }
    }
}
