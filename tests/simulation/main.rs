//! The simulation: the real `step`, `turn` and `perform` against an engine made of maps and a seeded random number.
//!
//! Each seed is one history of pushes, faults and crashes. After the faults end, the two laws must hold: repeated turns
//! reach a world whose plan is empty, and no step of ours ever takes the last healthy instance from a route.
//!
//! `SKEP_SEEDS=100000 cargo test --release --test simulation` runs more of them; `SKEP_SEED=1234` runs that one alone
//! and prints what happened.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

mod history;
mod parts;
mod records;

use history::History;

/// How many histories a plain test run plays.
const SEEDS: u64 = 2_000;

#[test]
fn every_history_converges_and_no_step_takes_the_last_healthy_instance() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("SKEP_SEED") {
        History::new(seed).loud().play().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        return;
    }
    let seeds = number("SKEP_SEEDS").unwrap_or(SEEDS);
    let turns: u64 = (0..seeds)
        .map(|seed| {
            let played = std::panic::catch_unwind(|| History::new(seed).play());
            let played = played.unwrap_or_else(|_| Err("a panic, as it stands above".to_owned()));
            played.unwrap_or_else(|broken| panic!("{broken}\nreplay with SKEP_SEED={seed}"))
        })
        .sum();
    println!("{seeds} histories, {turns} turns");
}

#[test]
fn a_plan_is_what_apply_then_does() {
    for seed in 0..500 {
        History::new(seed).compare_plan_with_apply().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn a_then_bad_then_a_again_is_a() {
    for seed in 0..200 {
        History::new(seed).there_and_back().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}
