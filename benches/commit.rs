//! What a commit costs that touches one of 10,000 folders: to plan, and to place as a push or a fetched commit is, beside what
//! git alone takes to say what it touches.

mod bench;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bench::checkout::{self, Checkout};
use bench::figures::Series;
use bench::many::{FOLDERS, name, source, write_tree};
use skep::git::place::Placing;
use skep::git::store::Store;
use skep::settings::Settings;
use tokio::runtime::Runtime;

/// Each round commits once. The first fills caches, and is not counted.
const ROUNDS: usize = 15;

fn main() -> anyhow::Result<()> {
    let checkout = Checkout::new()?;
    write_tree(&checkout.root())?;
    checkout.commit("Ten thousand")?;
    // As a clone has it, and a store after a while.
    checkout.git(&["gc", "--quiet"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = Host::new(&runtime)?;
    let first = host.place(&runtime, &checkout)?;
    ensure!(first.changed == FOLDERS, "{} of {FOLDERS} folders are placed", first.changed);

    let [mut floor, mut whole, mut plan, mut here, mut ls] = [(); 5].map(|()| Series::default());
    let [mut look, mut place] = [(); 2].map(|()| Series::default());
    for round in 0..=ROUNDS {
        let id = name(round * 37);
        checkout.write(&id, "main.py", &source(FOLDERS + round))?;
        checkout.commit(&format!("Touch {id}"))?;
        let placed = host.place(&runtime, &checkout)?;
        ensure!(placed.changed == 1, "{} folders are placed", placed.changed);
        let spans = [
            git(&checkout, &["diff-tree", "--raw", "HEAD~1:apis", "HEAD:apis"])?,
            git(&checkout, &["diff-tree", "-r", "-p", "HEAD~1", "HEAD", "--", "apis"])?,
            planned(&checkout, &["--base", "HEAD~1", "--head", "HEAD"])?,
            git(&checkout, &["status", "--porcelain", "--", "apis"])?,
            planned(&checkout, &["--base", "HEAD~1"])?,
            placed.look,
            placed.place,
        ];
        if round > 0 {
            let all = [&mut floor, &mut whole, &mut plan, &mut ls, &mut here, &mut look, &mut place];
            all.into_iter().zip(spans).for_each(|(series, span)| series.add(span));
        }
    }

    println!("commit: touches one of {FOLDERS} folders of 3 small files; in the page cache, median of {ROUNDS}");
    println!("{:<52} {:>8} {:>9} {:>9}", "", "ms", "p90", "to floor");
    let print = |what: &str, series: &Series, floor: &Series| {
        println!("{what:<52} {} {:>8.2}x", series.text(), series.median() / floor.median());
    };
    print("floor: git diff-tree names the folder", &floor, &floor);
    print("git diff-tree shows the difference", &whole, &floor);
    print("skep plan --base HEAD~1 --head HEAD", &plan, &floor);
    print("a store: which folders differ from those placed", &look, &floor);
    print("a store: … read, compared with the host's, placed", &place, &floor);
    print("floor: git status of the checkout", &ls, &ls);
    print("skep plan --base HEAD~1, with what lies there", &here, &ls);
    println!("{:<52} {:>8.0} ms", format!("placing all {FOLDERS} at first"), first.place.as_secs_f64() * 1000.0);
    Ok(())
}

/// How long git takes for that.
fn git(checkout: &Checkout, arguments: &[&str]) -> anyhow::Result<Duration> {
    let start = Instant::now();
    checkout.git(arguments)?;
    Ok(start.elapsed())
}

/// How long a plan takes, which must be of one API.
fn planned(checkout: &Checkout, arguments: &[&str]) -> anyhow::Result<Duration> {
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    skep.arg("--root").arg(checkout.root()).arg("plan").args(arguments).env("DOCKER_HOST", "tcp://127.0.0.1:1");
    let start = Instant::now();
    let done = skep.output()?;
    let took = start.elapsed();
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout)?;
    let end = format!("Plan: 1 to update; {} unchanged.", FOLDERS - 1);
    ensure!(said.contains(&end), "it is another plan:\n{said}");
    Ok(took)
}

/// A store of commits, and the tree that they are placed in.
struct Host {
    folder: tempfile::TempDir,
    settings: Settings,
    store: Store,
}

/// How placing a commit went.
struct Placed {
    changed: usize,
    look: Duration,
    place: Duration,
}

impl Host {
    fn new(runtime: &Runtime) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
        fs::create_dir(folder.path().join("apis"))?;
        fs::write(folder.path().join("skep.yaml"), "push: {}\n")?;
        let settings = Settings::load(folder.path(), |_| None)?;
        let store = Store::of(&settings.state);
        let push = settings.push.as_ref().context("pushes are taken")?;
        // No hook runs: the commits come in by another way.
        runtime.block_on(store.prepare(push, folder.path(), folder.path()))?;
        Ok(Self { folder, settings, store })
    }

    /// Fetches what a checkout is at, and places it.
    fn place(&self, runtime: &Runtime, checkout: &Checkout) -> anyhow::Result<Placed> {
        let from = checkout.root().to_string_lossy().into_owned();
        checkout::git(self.store.folder(), &["fetch", "--quiet", &from, "+main:refs/heads/main"])?;
        let commit = checkout::git(self.store.folder(), &["rev-parse", "refs/heads/main"])?;
        let commit = String::from_utf8(commit)?.trim().to_owned();
        let placing = Placing::pushed(&self.store, &self.settings);
        runtime.block_on(async {
            let start = Instant::now();
            let difference = placing.difference(self.store.repository(), &commit).await?;
            let look = start.elapsed();
            let ready = placing.ready(&commit, false).await?;
            let placed = placing.put(ready).await?;
            ensure!(placed == difference, "it is another difference");
            ensure!(self.folder.path().join("apis").join(name(0)).is_dir(), "nothing lies there");
            Ok(Placed { changed: placed.changed.len(), look, place: start.elapsed() })
        })
    }
}
