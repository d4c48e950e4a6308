//! The simulation: the real reconciler against an engine, records and a clock made of maps.
//!
//! Each seed is one history of users' actions, faults, crashes, and one or two daemons at work; see `event`. What must
//! never happen is watched for at every call, and what must be so in the end when all faults are over.
//!
//! `make simulate SEEDS=100000` plays more of them; `SKEP_SEED=1234` plays that one alone and prints what happened. One that
//! fails is shrunk to the events that it fails by.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

mod daemon;
mod end;
mod event;
mod faults;
mod history;
mod parts;
mod records;
mod shrink;
mod tales;
mod usage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use event::{Event, Kind, Maker};
use history::{History, Verdict};

/// How many histories a plain test run plays.
const SEEDS: u64 = 20_000;

/// Plays the history of a seed. A calm one is compared with itself without faults.
fn play(kind: Kind, events: &[Event]) -> Verdict<u64> {
    let mut history = History::new();
    history.play(kind, events)?;
    if kind == Kind::Calm {
        let wanted: Vec<Event> = events.iter().filter(|event| event.is_wanted()).cloned().collect();
        let mut twin = History::new();
        twin.play(kind, &wanted).map_err(|broken| format!("without any fault: {broken}"))?;
        let (end, expected) = (history.end(), twin.end());
        if end != expected {
            return Err(format!("the end is\n{end:#?}\nand without faults it is\n{expected:#?}"));
        }
        // How often a bad revision is tried depends on what is remembered of it, which a crash may count twice.
        let (effects, expected) = (history.effects(), twin.effects());
        if twin.is_good() && effects != expected {
            return Err(format!("{effects:?}, and without faults {expected:?}"));
        }
    }
    Ok(history.turns)
}

fn played(kind: Kind, events: &[Event]) -> Verdict<u64> {
    catch_unwind(AssertUnwindSafe(|| play(kind, events))).unwrap_or_else(|_| Err("a panic, as it stands above".into()))
}

/// A seed's history: every other one is calm.
fn made(seed: u64) -> (Kind, Vec<Event>) {
    let kind = if seed.is_multiple_of(2) { Kind::Wild } else { Kind::Calm };
    (kind, Maker::new(seed).history(kind))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn report(seed: u64, broken: &str) -> String {
    let (kind, events) = made(seed);
    let count = events.len();
    let shrunk = shrink::shrink(events, |events| played(kind, events).is_err());
    let broken = played(kind, &shrunk).err().unwrap_or_else(|| broken.to_owned());
    let lines: Vec<String> = shrunk.iter().map(|event| format!("  {event}")).collect();
    let head = format!("seed {seed}, {kind:?}, {} of {count} events:", shrunk.len());
    format!("{head}\n{}\n{broken}\nplay it with SKEP_SEED={seed}", lines.join("\n"))
}

/// Timers need a runtime to be made in; none of them ever fires.
fn with_timers<T>(run: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    run()
}

#[test]
fn every_history_ends_as_the_tree_says_and_nobody_is_without_service_on_the_way() {
    if let Some(seed) = number("SKEP_SEED") {
        with_timers(|| {
            let (kind, events) = made(seed);
            if let Err(broken) = played(kind, &events) {
                let shrunk = shrink::shrink(events, |events| played(kind, events).is_err());
                let _ = catch_unwind(AssertUnwindSafe(|| History::new().loud().play(kind, &shrunk)));
                panic!("{}", report(seed, &broken));
            }
        });
        return;
    }
    let (seeds, began) = (number("SKEP_SEEDS").unwrap_or(SEEDS), Instant::now());
    let (next, turns) = (AtomicU64::new(number("SKEP_FIRST_SEED").unwrap_or(0)), AtomicU64::new(0));
    let most = number("SKEP_FAILURES").unwrap_or(1);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failures.lock().unwrap().len() as u64 >= most {
                return;
            }
            let (kind, events) = made(seed);
            match played(kind, &events) {
                Ok(count) => drop(turns.fetch_add(count, Ordering::Relaxed)),
                Err(broken) => {
                    let report = report(seed, &broken);
                    failures.lock().unwrap().push(report);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| with_timers(work)))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let milliseconds = began.elapsed().as_millis().max(1);
    let rate = u128::from(seeds) * 1000 / milliseconds;
    println!("{seeds} histories, {} turns, {milliseconds} ms, {rate} histories a second", turns.into_inner());
}
