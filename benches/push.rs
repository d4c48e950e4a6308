//! From `git push` to the answer of the new code, beside the same by hand: a push to a plain repository, one layer by the
//! engine's own builder, one container.

mod bench;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use bench::checkout::{self, Checkout};
use bench::deploy::{API, BUILT, Caller, Engine, LIMIT, POLL, Part, READY, ROUTED, STARTED, source, spans};
use bench::figures::Series;
use bench::site::Site;
use tokio::runtime::Runtime;

/// Each round pushes one commit to both.
const ROUNDS: u64 = 15;

/// The first rounds fill caches, on both sides, and are not counted.
const WARM_UP: u64 = 2;

/// The parts of the way from a push to its answer.
const PARTS: [Part; 6] = [
    ("arrived: sent, checked, placed, noticed", &["RecordStatus", "Build"]),
    ("decided: status written, engine asked", &["Build"]),
    BUILT,
    STARTED,
    READY,
    ROUTED,
];

/// The parts of the way by hand.
const BY_HAND: [&str; 3] = [
    "pushed to a plain repository, and out of it",
    "one layer, by the engine's builder",
    "created, started, first answer",
];

fn main() -> anyhow::Result<()> {
    let mut site = Site::new("look_every: 1h\npush: {}\n")?;
    site.serve()?;
    let checkout = Checkout::new()?;
    let key = site.make_key(&["--push"])?;
    checkout.git(&["remote", "add", "skep", &format!("http://bench:{key}@{}/git", site.address)])?;
    change(&checkout, 0)?;
    checkout.git(&["push", "--quiet", "plain", "main"])?;
    checkout.git(&["push", "--quiet", "skep", "main"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine::of(&site)?;
    let caller = Caller::start(&site);

    let [mut floors, mut pushes, mut ends, mut gaps] = [(); 4].map(|()| Series::default());
    let (mut parts, mut by_hand) = (PARTS.map(|_| Series::default()), BY_HAND.map(|_| Series::default()));
    for round in 1..=ROUNDS + WARM_UP {
        change(&checkout, round)?;
        let floor = floor(&runtime, &engine, &checkout)?;
        std::thread::sleep(Duration::from_millis(300));

        let (pushed, pushed_at) = (Instant::now(), SystemTime::now());
        let mut git = checkout::command(&checkout.root(), &["push", "--quiet", "skep", "main"]);
        let git = git.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
        let done = git.wait_with_output()?;
        let ended = pushed.elapsed();
        ensure!(done.status.success(), "the push failed: {}", String::from_utf8_lossy(&done.stderr));
        // The push ends when the new code serves; a caller has heard of it before, or hears of it at once.
        site.wait(LIMIT, "the new code to answer", || Ok(caller.first_answer(round).is_some()))?;
        let answered = caller.first_answer(round).context("it has answered")?.duration_since(pushed);
        if round <= WARM_UP {
            continue;
        }
        let whole = floor.iter().sum();
        floors.add(whole);
        pushes.add(answered);
        ends.add(ended);
        gaps.add(answered.saturating_sub(whole));
        by_hand.iter_mut().zip(floor).for_each(|(series, span)| series.add(span));
        let spans = spans(&PARTS, &site.log()?, pushed_at, answered)?;
        parts.iter_mut().zip(spans).for_each(|(series, span)| series.add(span));
    }
    let (requests, failures) = caller.stop();

    println!(
        "push: one FastAPI API; {ROUNDS} rounds of floor and push in turn; a caller every {} ms",
        POLL.as_millis()
    );
    println!("{:<52} {:>8} {:>8}", "", "median", "p90");
    println!("{:<52} {} ms", "floor: the same by hand", floors.text());
    for (name, series) in BY_HAND.iter().zip(&by_hand) {
        println!("  {name:<50} {} ms", series.text());
    }
    println!("{:<52} {} ms", "push to the first answer of the new code", pushes.text());
    for ((name, _), series) in PARTS.iter().zip(&parts) {
        println!("  {name:<50} {} ms", series.text());
    }
    println!("{:<52} {} ms", "push to its end, told that it serves", ends.text());
    println!("{:<52} {} ms", "push less floor, round by round", gaps.text());
    println!("{:<52} {:>7.2}x", "push to floor, of the medians", pushes.median() / floors.median());
    println!("requests meanwhile: {requests}, of which failed: {failures}");
    ensure!(failures == 0, "{failures} requests failed");
    Ok(())
}

/// Commits another version.
fn change(checkout: &Checkout, version: u64) -> anyhow::Result<()> {
    checkout.write(API, "main.py", &source(version))?;
    checkout.commit(&format!("Say {version}"))
}

/// The least that must happen: the commit comes into a repository, its file out of there and into a layer on top of the
/// packages, and a container of that answers. Nobody checks it, remembers it, or sends callers there.
fn floor(runtime: &Runtime, engine: &Engine, checkout: &Checkout) -> anyhow::Result<[Duration; BY_HAND.len()]> {
    let tag = format!("skep-bench:{:08x}", rand::random::<u32>());
    let done = runtime.block_on(async {
        engine.wait_for_one().await?;
        let (mut copy, packages) = (engine.original().await?, engine.packages().await?);
        copy.image = Some(tag.clone());

        let start = Instant::now();
        checkout.git(&["push", "--quiet", "plain", "main"])?;
        let file = checkout::git(&checkout.bare(), &["cat-file", "blob", &format!("main:apis/{API}/main.py")])?;
        let pushed = start.elapsed();
        engine.build(&packages, &tag, &file).await?;
        let built = start.elapsed();
        let answered = engine.run(copy, start).await?;
        anyhow::Ok([pushed, built.saturating_sub(pushed), answered.saturating_sub(built)])
    });
    runtime.block_on(engine.forget(&tag))?;
    done
}
