//! Faults, on a real engine: what skep does on its worst day.
//!
//! A program of its own rather than a set of tests, since all of it happens in one [arena](arena) and ends in one table.
//! `cargo test` runs a sample of a few minutes; `make chaos` runs all of it. `docs/reliability.md` holds a run.

#![allow(clippy::print_stdout, reason = "a table is what this is for")]

mod arena;
mod engine;
mod engines;
mod hands;
mod host;
mod http;
mod load;
mod matrix;
mod proxy;
mod rolling;
mod scene;
mod seed;
mod site;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use engine::Engine;
use rand::SeedableRng;
use rand::rngs::StdRng;
use seed::Seed;
use site::Site;
use table::Row;
use tokio_util::task::AbortOnDropHandle;

/// Injects faults into skep, its engine and its host, and prints what came of it.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// Only parts with one of these in their names; else those of the sample, or all of them.
    only: Vec<String>,
    /// Everything. Without this, a few tries of each.
    #[arg(long)]
    all: bool,
    /// Draws what a sample consists of, and the order of runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rolling changes under load.
    #[arg(long)]
    changes: Option<u32>,
    /// Requests meanwhile, at least.
    #[arg(long)]
    requests: Option<u64>,
    /// Write the table to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the table to this file as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Say what comes of each run.
    #[arg(long)]
    verbose: bool,
    // What the test runner of Rust takes, so that `cargo test -- --nocapture` means no harm here.
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, short, hide = true)]
    quiet: bool,
    #[arg(long, hide = true)]
    exact: bool,
    #[arg(long, hide = true)]
    list: bool,
    #[arg(long, hide = true)]
    ignored: bool,
    #[arg(long, hide = true)]
    include_ignored: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(long, hide = true)]
    skip: Vec<String>,
    #[arg(long, hide = true)]
    format: Option<String>,
    #[arg(long, hide = true)]
    color: Option<String>,
}

/// The parts. Those of a line run one after the other, at the same time as those of its other line: one waits for deadlines
/// most of the time. Lines wait for those before them, since what happens to the engine happens to all.
const PARTS: [[&[&str]; 2]; 3] = [
    [&["matrix-change", "matrix-swap", "matrix-install"], &[]],
    [
        &["hands", "tree-rewritten", "queue-overflow", "clock", "descriptors", "port", "ended", "two-daemons"],
        &["matrix-silence"],
    ],
    [&["engine-restart", "engine-frozen", "disk-full", "rolling"], &[]],
];

/// The parts of a sample: what hands do, and what becomes of a second daemon, `tests/e2e` has too.
const SAMPLED: [&str; 7] = [
    "matrix-change",
    "matrix-swap",
    "matrix-install",
    "tree-rewritten",
    "queue-overflow",
    "engine-restart",
    "rolling",
];

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        println!("chaos: error: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some(arena::INIT) => return arena::init(&words[1..]),
        Some(arena::WORK) => return block_on(work(&words[1..])),
        _ => {}
    }
    let args = Args::parse();
    if args.list || PARTS.iter().flatten().copied().flatten().all(|part| !args.wants(part)) {
        return Ok(ExitCode::SUCCESS);
    }
    block_on(async { arena::enter(&Seed::make().await?, &words).await })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

impl Args {
    fn wants(&self, part: &str) -> bool {
        let is_named = |names: &[String]| names.iter().any(|name| part.contains(name.as_str()));
        let is_meant = if self.only.is_empty() { self.all || SAMPLED.contains(&part) } else { is_named(&self.only) };
        is_meant && !is_named(&self.skip)
    }
}

/// Where faults happen, and what all parts share.
pub struct Arena {
    engine: Arc<Engine>,
    index: PathBuf,
    /// The installation whose requirements the others inherit.
    donor: String,
    stories: PathBuf,
    told: AtomicUsize,
    /// How many runs there have been.
    runs: AtomicUsize,
    args: Args,
    begun: Instant,
}

impl Arena {
    /// A new installation.
    pub async fn site(&self) -> anyhow::Result<Site> {
        let site = Site::open(&self.engine, &self.index)?;
        site.inherit(&self.donor).await?;
        Ok(site)
    }

    /// The same sequence for the same seed.
    pub fn chance(&self) -> StdRng {
        StdRng::seed_from_u64(self.args.seed)
    }

    /// Says how it goes.
    pub fn say(&self, text: &str) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        if self.args.verbose {
            println!("chaos: {:>4.0} s: {text}", self.begun.elapsed().as_secs_f64());
        }
    }

    /// Says from time to time that it goes on.
    async fn hum(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let runs = self.runs.load(Ordering::Relaxed);
            println!("chaos: {:>4.0} s: {runs} runs so far", self.begun.elapsed().as_secs_f64());
        }
    }

    /// Keeps a story for whoever wants to know why. Gives its file.
    pub fn tell(&self, title: &str, story: &str) -> anyhow::Result<PathBuf> {
        fs::create_dir_all(&self.stories)?;
        let file = self.stories.join(format!("{}.log", self.told.fetch_add(1, Ordering::Relaxed)));
        fs::write(&file, format!("{title}\n{story}"))?;
        Ok(file)
    }
}

/// What happens inside the arena.
async fn work(words: &[String]) -> anyhow::Result<ExitCode> {
    let [folder, cgroup, seed, words @ ..] = words else {
        anyhow::bail!("an arena has a folder, a control group and a seed")
    };
    let args = Args::parse_from([String::new()].iter().chain(words));
    let begun = Instant::now();
    let seed = Seed::at(Path::new(seed));
    let engine = Arc::new(Engine::open(Path::new(folder), cgroup, &seed).await?);
    let index = seed.folder().join("index");
    let stories = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-stories");
    fs::remove_dir_all(&stories).or_else(|error| if stories.exists() { Err(error) } else { Ok(()) })?;

    let donor = Site::open(&engine, &index)?;
    let (code, said) = donor.run(&["apply"]).await?;
    anyhow::ensure!(code == 0, "the arena's engine runs nothing: {said}\n{}", engine.log());
    let donor = donor.owner().to_owned();
    let (told, runs) = (AtomicUsize::default(), AtomicUsize::default());
    let arena = Arc::new(Arena { engine, index, donor, stories, told, runs, args, begun });
    println!("chaos: the arena was ready after {:.1} s", begun.elapsed().as_secs_f64());

    let humming = Arc::clone(&arena);
    let humming = AbortOnDropHandle::new(tokio::spawn(async move { humming.hum().await }));
    let mut rows = Vec::new();
    for [line, other] in PARTS {
        let (first, second) = tokio::join!(run_line(&arena, line), run_line(&arena, other));
        rows.extend(first.into_iter().chain(second));
    }
    drop(humming);
    println!("\n{}", table::text(&rows));
    println!("{:.1} minutes; seed {}", begun.elapsed().as_secs_f64() / 60.0, arena.args.seed);
    if let Some(path) = &arena.args.json {
        fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    if let Some(path) = &arena.args.markdown {
        fs::write(path, table::markdown(&rows))?;
    }
    Ok(if rows.iter().all(Row::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Some parts, one after the other. What goes wrong with one is a row of its own.
async fn run_line(arena: &Arc<Arena>, line: &[&str]) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in line.iter().filter(|part| arena.args.wants(part)) {
        let begun = Instant::now();
        let found = run_part(arena, part).await.unwrap_or_else(|error| {
            let mut row = Row::new(*part);
            row.bad(format!("{error:#}"));
            vec![row]
        });
        let wrong = found.iter().filter(|row| !row.is_good()).count();
        let (took, all) = (begun.elapsed().as_secs_f64(), arena.begun.elapsed().as_secs_f64());
        println!("chaos: {all:>4.0} s: {part}: {} rows, {wrong} of them wrong, in {took:.0} s", found.len());
        rows.extend(found);
    }
    rows
}

async fn run_part(arena: &Arc<Arena>, part: &str) -> anyhow::Result<Vec<Row>> {
    /// Runs of the matrix in a sample, for each scenario.
    const SAMPLE: usize = 12;
    let all = arena.args.all;
    let limit = (!all).then_some(SAMPLE);
    let tries = |many: usize| if all { many } else { 1 };
    match part {
        "matrix-silence" => {
            let limit = (!all).then_some(2);
            let run = |scenario| matrix::silence(arena, scenario, limit);
            let (change, swap, install) = tokio::try_join!(
                run(matrix::Scenario::Change),
                run(matrix::Scenario::Swap),
                run(matrix::Scenario::Install)
            )?;
            Ok([change, swap, install].concat())
        }
        "hands" => hands::run(arena, tries(2)).await,
        "engine-restart" => engines::restarts(arena, tries(3)).await,
        "engine-frozen" => engines::frozen(arena, tries(2)).await,
        "disk-full" => engines::full(arena, tries(3)).await,
        "tree-rewritten" => host::rewritten(arena, tries(2)).await,
        "queue-overflow" => host::overflow(arena, tries(3)).await,
        "clock" => host::clock(arena, tries(1)).await,
        "descriptors" => host::descriptors(arena, tries(3)).await,
        "port" => host::port(arena, tries(3)).await,
        "ended" => host::ended(arena, if all { 20 } else { 3 }).await,
        "two-daemons" => host::two(arena, tries(2)).await,
        "rolling" => {
            let (changes, requests) = if all { (100, 200_000) } else { (4, 0) };
            rolling::run(arena, arena.args.changes.unwrap_or(changes), arena.args.requests.unwrap_or(requests)).await
        }
        "matrix-change" => matrix::run(arena, matrix::Scenario::Change, limit).await,
        "matrix-swap" => matrix::run(arena, matrix::Scenario::Swap, limit).await,
        "matrix-install" => matrix::run(arena, matrix::Scenario::Install, limit).await,
        _ => Err(anyhow::anyhow!("no such part: {part}")),
    }
}
