//! A pulse on the processors of those that yield has the kernel choose anew there, many times between two of its own looks.
//!
//! Even who yields gets a small share, and who wakes up while one has it may wait until the kernel's next look, up to 4 ms on a host of
//! 250 a second: where several groups meet, the kernel does not compare them as it would compare two containers. A thread before all
//! others that wakes, and sleeps again, makes it choose; `benches/hostile.rs` shows what that is worth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy};

/// How often. It costs a processor that is busy anyway up to a twentieth of its time, in a virtual machine, where timers are dear.
const BEAT: Duration = Duration::from_micros(500);

/// The least of the priorities that go before all that have none.
const PRIORITY: u8 = 1;

/// Pulses, by processor, each until it is told to stop. They end with this.
#[derive(Debug, Default)]
pub(super) struct Pulses(BTreeMap<u32, Arc<AtomicBool>>);

impl Pulses {
    /// Has these processors have one, and no others.
    pub(super) fn keep(&mut self, processors: &BTreeSet<u32>) {
        self.0.retain(|processor, stop| {
            let stays = processors.contains(processor);
            stop.store(!stays, Ordering::Relaxed);
            stays
        });
        for processor in processors {
            self.0.entry(*processor).or_insert_with(|| begin(*processor));
        }
    }
}

impl Drop for Pulses {
    fn drop(&mut self) {
        self.keep(&BTreeSet::new());
    }
}

/// Begins one; answers with what stops it. Where the host does not let us, there is none.
fn begin(processor: u32) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let beat = move || {
        if let Err(error) = go_before_all_on(processor) {
            tracing::debug!(processor, error, "no pulse on a processor");
            return;
        }
        while !told.load(Ordering::Relaxed) {
            thread::sleep(BEAT);
        }
    };
    if let Err(error) = thread::Builder::new().name("pulse".to_owned()).stack_size(64 * 1024).spawn(beat) {
        tracing::debug!(%error, "no pulse on a processor");
    }
    stop
}

/// Has this thread run on that processor alone, and there before all others.
fn go_before_all_on(processor: u32) -> Result<(), String> {
    let mut only = CpuSet::new();
    only.set(usize::try_from(processor).map_err(|error| error.to_string())?);
    sched_setaffinity(None, &only).map_err(|error| error.to_string())?;
    let priority = ThreadPriorityValue::try_from(PRIORITY)?;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy)
        .map_err(|error| error.to_string())
}
