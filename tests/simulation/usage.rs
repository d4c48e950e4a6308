//! Usage on its way into records that fail, lose their replies, and come back: every request is there once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use skep::tree::ApiId;
use skep::usage::{Counter, Finished, UsedBy, Writer};

use super::faults::{FAULTS, Faults, SimClock};
use super::history::now_or_never;
use super::records::{SimRecords, Tables};

#[test]
fn whatever_fails_or_loses_its_reply_every_request_is_written_once() {
    for seed in 0..2000 {
        let mut random = SmallRng::seed_from_u64(seed);
        let faults = Arc::new(Faults::new(Arc::new(SimClock::new())));
        let tables = Arc::new(Mutex::new(Tables::default()));
        let counter = Arc::new(Counter::telling_apart(random.random_range(1..20)));
        let records = Arc::new(SimRecords::new(Arc::clone(&tables), Arc::clone(&faults)));
        let mut writer = Writer::new(Arc::clone(&counter), records, None, Duration::MAX);
        let (mut counted, mut writes) = (0, 0);
        for _ in 0..random.random_range(1..60) {
            match random.random_range(0..6) {
                0 => {
                    let fault = FAULTS[random.random_range(0..FAULTS.len())];
                    faults.plan(random.random_range(0..3), random.random_range(1..8), fault);
                }
                1..4 => {
                    let requests = random.random_range(1..30);
                    counted += requests;
                    (0..requests).for_each(|_| counter.count(some_request(&mut random)));
                }
                _ => writes += u64::from(now_or_never(writer.write()).expect("no waiting")),
            }
            // The records never know more than what was counted.
            assert!(written(&tables) <= counted, "seed {seed}: twice");
        }
        faults.end();
        assert!(now_or_never(writer.write()).expect("no waiting"), "seed {seed}: nothing fails any more");
        assert_eq!(written(&tables), counted, "seed {seed}, after {writes} writes that came through");
    }
}

fn written(tables: &Mutex<Tables>) -> u64 {
    tables.lock().unwrap().usage.iter().map(|(_, tally)| tally.requests).sum()
}

fn some_request(random: &mut SmallRng) -> Finished {
    Finished {
        api: ApiId::new(&format!("api-{}", random.random_range(0..4))).unwrap(),
        by: UsedBy::Nobody,
        status: 200 + random.random_range(0..6) * 60,
        bytes_in: 1,
        bytes_out: 1,
        took: Duration::from_millis(random.random_range(0..100)),
    }
}
