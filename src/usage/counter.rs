//! The counter is where the gateway counts each request when it has ended.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::DefaultHashBuilder;

use super::tally::{Counted, Grain, Slot, Tally, UsedBy};
use crate::tree::ApiId;

/// How many locks share the work. Each thread has its own, unless there are more threads.
const SHARDS: usize = 16;

/// The most sums that are told apart by minute and key, some 350 bytes each. Ten minutes are as many as 1,600 keys that
/// are at work in each of them, with three statuses.
const MOST: usize = 50_000;

/// Looked into for each request, by names that are not a caller's to choose.
type Sums = HashMap<Counted, Tally, DefaultHashBuilder>;

/// Counts each request when it has ended, and holds the sums until somebody takes them.
#[derive(Debug)]
pub struct Counter {
    shards: [Mutex<Sums>; SHARDS],
    /// Sums in all shards.
    entries: AtomicUsize,
    most: usize,
    folded: AtomicU64,
}

/// A request that has ended.
#[derive(Debug)]
pub struct Finished {
    /// What it was for.
    pub api: ApiId,
    /// Whose it was.
    pub by: UsedBy,
    /// What it was answered with.
    pub status: u16,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the body of its answer.
    pub bytes_out: u64,
    /// From its head to the last byte of its answer.
    pub took: Duration,
}

impl Default for Counter {
    fn default() -> Self {
        Self::telling_apart(MOST)
    }
}

impl Counter {
    /// One that tells so many sums apart.
    #[must_use]
    pub fn telling_apart(most: usize) -> Self {
        Self { shards: Default::default(), entries: AtomicUsize::new(0), most, folded: AtomicU64::new(0) }
    }

    /// Counts a request that has ended just now.
    pub fn count(&self, finished: Finished) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.count_at(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), finished);
    }

    fn count_at(&self, second: i64, finished: Finished) {
        let Finished { api, by, status, bytes_in, bytes_out, took } = finished;
        let exact = Counted { slot: Slot::of(Grain::Minute, second), api: Some(api), by, status };
        let mut shard = self.shard();
        if let Some(tally) = shard.get_mut(&exact) {
            return tally.count(bytes_in, bytes_out, took);
        }
        let what = self.fitting(&shard, exact, second);
        let tally = match shard.entry(what) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                place.insert(Tally::default())
            }
        };
        tally.count(bytes_in, bytes_out, took);
    }

    /// What a request is counted as that nothing like it has been counted of yet: as what it is, as long as there is
    /// room; then by hour, API and status; and in the end by hour alone, and whether it was an error.
    ///
    /// So nothing goes uncounted, and an attacker who has many keys, or a database that is away for a day, costs detail.
    fn fitting(&self, shard: &Sums, exact: Counted, second: i64) -> Counted {
        let entries = self.entries.load(Ordering::Relaxed);
        if entries < self.most {
            return exact;
        }
        self.folded.fetch_add(1, Ordering::Relaxed);
        let by_api = Counted { slot: Slot::of(Grain::Hour, second), by: UsedBy::Others, ..exact };
        if entries < self.most + self.most / 4 || shard.contains_key(&by_api) {
            return by_api;
        }
        Counted { api: None, status: by_api.status / 100 * 100, ..by_api }
    }

    /// Takes what has been counted, each sum once.
    #[must_use]
    pub fn take(&self) -> Vec<(Counted, Tally)> {
        let mut all = Sums::default();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *lock(shard));
            self.entries.fetch_sub(taken.len(), Ordering::Relaxed);
            if all.is_empty() {
                all = taken;
                continue;
            }
            for (what, tally) in taken {
                all.entry(what).or_default().add(&tally);
            }
        }
        all.into_iter().collect()
    }

    /// How many sums wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many requests have been counted less closely than as what they were, for lack of room.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.folded.load(Ordering::Relaxed)
    }

    fn shard(&self) -> MutexGuard<'_, Sums> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static PLACE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        lock(&self.shards[PLACE.with(|place| *place)])
    }
}

fn lock(shard: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    // No code under this lock panics halfway through a change.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::KeyName;
    use super::*;

    fn asked(key: usize, api: usize, status: u16) -> Finished {
        let key = KeyName { id: format!("k_{key:08x}"), name: "x".to_owned() };
        Finished {
            api: ApiId::new(&format!("api-{api}")).unwrap(),
            by: UsedBy::Key(Arc::new(key)),
            status,
            bytes_in: 1,
            bytes_out: 2,
            took: Duration::from_millis(3),
        }
    }

    fn sum(taken: &[(Counted, Tally)]) -> Tally {
        let mut sum = Tally::default();
        for (_, tally) in taken {
            sum.add(tally);
        }
        sum
    }

    #[test]
    fn many_threads_count_while_others_take_and_every_request_is_taken_once() {
        let counter = Arc::new(Counter::default());
        let counting: Vec<_> = (0..8)
            .map(|thread| {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    (0..5000).for_each(|n| counter.count(asked(n % 7, thread % 3, 200)));
                })
            })
            .collect();
        let mut taken = Vec::new();
        while counting.iter().any(|thread| !thread.is_finished()) {
            taken.extend(counter.take());
        }
        for thread in counting {
            thread.join().unwrap();
        }
        taken.extend(counter.take());
        let sum = sum(&taken);
        assert_eq!((sum.requests, sum.bytes_in, sum.bytes_out), (40_000, 40_000, 80_000));
        assert_eq!(counter.waiting(), 0);
        assert_eq!(counter.take(), []);
    }

    #[test]
    fn what_is_counted_together_is_one_sum_and_nothing_else_is() {
        let counter = Counter::default();
        for (second, key, api, status) in
            [(60, 1, 1, 200), (119, 1, 1, 200), (120, 1, 1, 200), (60, 2, 1, 200), (60, 1, 2, 200), (60, 1, 1, 404)]
        {
            counter.count_at(second, asked(key, api, status));
        }
        let mut counts: Vec<u64> = counter.take().iter().map(|(_, tally)| tally.requests).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 1, 1, 2]);
    }

    #[test]
    fn a_day_without_a_database_and_a_million_keys_cost_detail_and_neither_memory_nor_a_request() {
        let counter = Counter::telling_apart(1000);
        let mut all = 0;
        for minute in 0..24 * 60 {
            for key in 0..100 {
                counter.count_at(minute * 60, asked(key, key % 50, 200 + u16::try_from(key % 3).unwrap() * 101));
                all += 1;
            }
        }
        assert!(counter.waiting() <= 1250 + 24 * 6, "{} sums", counter.waiting());
        assert_eq!(counter.folded(), all - 1000);
        let taken = counter.take();
        assert_eq!(sum(&taken).requests, all);
        let by_api = taken.iter().filter(|(what, _)| what.by == UsedBy::Others && what.api.is_some()).count();
        let by_nothing = taken.iter().filter(|(what, _)| what.api.is_none()).count();
        assert!(by_api == 250 && by_nothing > 0, "{by_api} and {by_nothing}");
        counter.count(asked(1, 1, 200));
        assert_eq!(counter.take()[0].0.by.word(), "k_00000001", "what was taken makes room");
    }
}
