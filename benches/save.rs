//! From the save of a file to the answer of the new code, beside what the engine alone needs for the same container.

mod bench;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use bench::deploy::{API, BUILT, Caller, Engine, LIMIT, POLL, Part, READY, ROUTED, STARTED, source, spans};
use bench::figures::Series;
use bench::site::Site;

/// Each round saves once and takes the floor once.
const ROUNDS: u64 = 15;

/// The first rounds fill caches, on both sides, and are not counted.
const WARM_UP: u64 = 2;

/// The parts of the way from a save to its answer.
const PARTS: [Part; 6] = [
    ("noticed: the folder at rest, read, checked", &["RecordStatus", "Build"]),
    ("decided: status written, engine asked", &["Build"]),
    BUILT,
    STARTED,
    READY,
    ROUTED,
];

fn main() -> anyhow::Result<()> {
    let mut site = Site::new("look_every: 1h\n")?;
    site.save(API, "main.py", &source(0))?;
    site.serve()?;
    let mut client = site.client();
    site.wait(LIMIT, "the API to serve", || {
        Ok(client.get(&format!("/run/{API}/")).is_ok_and(|answer| answer.status == 200))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::of(&site)?;
    let caller = Caller::start(&site);

    let (mut floors, mut saves) = (Series::default(), Series::default());
    let mut parts = PARTS.map(|_| Series::default());
    let mut gaps = Series::default();
    for round in 1..=ROUNDS + WARM_UP {
        runtime.block_on(engine.wait_for_one())?;
        let floor = runtime.block_on(async {
            let copy = engine.original().await?;
            engine.run(copy, Instant::now()).await
        })?;
        std::thread::sleep(Duration::from_millis(300));

        let (saved, saved_at) = (Instant::now(), SystemTime::now());
        site.save(API, "main.py", &source(round))?;
        site.wait(LIMIT, "the new code to answer", || Ok(caller.first_answer(round).is_some()))?;
        let answered = caller.first_answer(round).context("it has answered")?.duration_since(saved);
        if round <= WARM_UP {
            continue;
        }
        floors.add(floor);
        saves.add(answered);
        gaps.add(answered.saturating_sub(floor));
        let log = site.log()?;
        for (series, span) in parts.iter_mut().zip(spans(&PARTS, &log, saved_at, answered)?) {
            series.add(span);
        }
    }
    let (requests, failures) = caller.stop();

    println!(
        "save: one FastAPI API; {ROUNDS} rounds of floor and save in turn; a caller every {} ms",
        POLL.as_millis()
    );
    println!("{:<52} {:>8} {:>8}", "", "median", "p90");
    println!("{:<52} {} ms", "floor: create, start, first answer, by the engine", floors.text());
    println!("{:<52} {} ms", "save to the first answer of the new code", saves.text());
    for ((name, _), series) in PARTS.iter().zip(&parts) {
        println!("  {name:<50} {} ms", series.text());
    }
    println!("{:<52} {} ms", "save less floor, round by round", gaps.text());
    println!("{:<52} {:>7.2}x", "save to floor, of the medians", saves.median() / floors.median());
    println!("requests meanwhile: {requests}, of which failed: {failures}");
    ensure!(failures == 0, "{failures} requests failed");
    Ok(())
}
