//! Reading, checking and planning a tree of 10,000 APIs, beside plain reading of the same files.

mod bench;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bench::figures::Series;
use bench::many::{FOLDERS, source, write_tree};
use jiff::Timestamp;
use rayon::prelude::*;
use skep::reconcile::desired::Ground;
use skep::reconcile::goals::{Grounds, goals};
use skep::reconcile::plan::{Plan, plan};
use skep::reconcile::{Desired, Next, model, step};
use skep::settings::Settings;
use skep::tree::{ApiId, Digest, Scanner, Tree};
use skep::world::{Observed, Record};

/// Of each figure the median of so many is printed.
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let root = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
    write_tree(root.path())?;
    let settings = Settings::load(root.path(), |_| None)?;

    let [mut floor, mut first, mut again, mut one] = [(); 4].map(|()| Series::default());
    let mut tree = None;
    for round in 0..ROUNDS {
        floor.add(timed(|| read_plainly(&settings.apis))?.0);
        let mut scanner = Scanner::new(&settings)?;
        let (span, look) = timed(|| Ok(scanner.read()?))?;
        first.add(span);
        let sound = look.tree.folders.values().filter(|folder| matches!(folder, skep::tree::Folder::Sound(_))).count();
        ensure!(sound == FOLDERS, "{sound} of {FOLDERS} folders are sound");
        // A file that has only just changed is not believed to be the same; see `scan::RACY`.
        std::thread::sleep(Duration::from_millis(100));
        let (span, look) = timed(|| Ok(scanner.read()?))?;
        ensure!(look.changed.is_empty(), "{} folders changed by themselves", look.changed.len());
        again.add(span);
        let id = ApiId::new("api-00042")?;
        fs::write(settings.apis.join(id.as_str()).join("main.py"), source(FOLDERS + round))?;
        let (span, look) = timed(|| Ok(scanner.read_folders(&BTreeSet::from([id.clone()]))?))?;
        ensure!(look.changed.contains(&id), "the change was not seen");
        one.add(span);
        tree = Some(look.tree);
    }
    let tree = tree.context("no round")?;

    let world = World::new(&settings);
    let nothing = BTreeMap::new();
    let settled = world.settle(&tree)?;
    let (mut all_new, mut unchanged) = (Series::default(), Series::default());
    for _ in 0..ROUNDS {
        let (span, plan) = timed(|| Ok(world.plan(&tree, &nothing)))?;
        ensure!(plan.apis.len() == FOLDERS, "{} of {FOLDERS} APIs are planned", plan.apis.len());
        all_new.add(span);
        let (span, plan) = timed(|| Ok(world.plan(&tree, &settled)))?;
        ensure!(plan.unchanged == FOLDERS, "{} of {FOLDERS} APIs are unchanged", plan.unchanged);
        unchanged.add(span);
    }

    let threads = rayon::current_num_threads();
    println!(
        "tree: {FOLDERS} folders of 3 small files, {threads} threads, files in the page cache, median of {ROUNDS}"
    );
    println!("{:<44} {:>9} {:>12} {:>9}", "", "ms", "µs/folder", "to floor");
    let print = |what: &str, series: &Series| {
        let ms = series.median();
        println!("{what:<44} {ms:>9.1} {:>12.2} {:>8.2}x", ms * 1000.0 / 1e4, ms / floor.median());
    };
    print("floor: list, open and read the same files", &floor);
    print("first look: read, parse, check, digest", &first);
    print("second look, nothing changed", &again);
    print("plan, all new (on one thread)", &all_new);
    print("plan, nothing changed (on one thread)", &unchanged);
    println!("{:<44} {:>9.2} ms", "look at one changed folder", one.median());
    Ok(())
}

/// Lists all folders and reads all files, with as many threads as the scanner.
fn read_plainly(apis: &Path) -> anyhow::Result<usize> {
    let folders = fs::read_dir(apis)?.collect::<Result<Vec<_>, _>>()?;
    let lengths = folders.par_iter().map(|folder| {
        let mut length = 0;
        for file in fs::read_dir(folder.path())? {
            length += black_box(fs::read(file?.path())?).len();
        }
        Ok::<_, std::io::Error>(length)
    });
    Ok(lengths.sum::<Result<usize, _>>()?)
}

/// What `goals` and `plan` want to know besides the tree.
struct World<'a> {
    settings: &'a Settings,
    base: Digest,
    at: Timestamp,
}

impl<'a> World<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, base: Digest::of(b"base"), at: Timestamp::UNIX_EPOCH }
    }

    fn goals(&self, tree: &Tree, records: &BTreeMap<ApiId, Arc<Record>>) -> BTreeMap<ApiId, Desired> {
        goals(&Grounds {
            tree: Ok(tree),
            records,
            running: &records.keys().cloned().collect(),
            confirmed: &BTreeSet::new(),
            recent: &BTreeSet::new(),
            base: &self.base,
            owner: "0123456789ab",
            policy: &self.settings.policy,
            at: self.at,
        })
    }

    fn plan(&self, tree: &Tree, seen: &BTreeMap<ApiId, Observed>) -> Plan {
        let records =
            seen.iter().filter_map(|(id, observed)| Some((id.clone(), Arc::new(observed.record.clone()?)))).collect();
        let goals = self.goals(tree, &records);
        let nothing = Observed::nothing(self.at);
        plan(goals.iter().map(|(id, desired)| (desired, seen.get(id).unwrap_or(&nothing))))
    }

    /// The world in which nothing is left to do.
    fn settle(&self, tree: &Tree) -> anyhow::Result<BTreeMap<ApiId, Observed>> {
        let settle = |(id, mut desired): (ApiId, Desired)| {
            let mut observed = Observed::nothing(self.at);
            for _ in 0..20 {
                let Next::Act(next) = step(&desired, &observed) else { return Ok((id, observed)) };
                model::perform(&next.action, &desired, &mut observed);
                let ground = Ground { base: &self.base, owner: "0123456789ab", at: self.at };
                desired = Desired::of(&id, tree.folders.get(&id), observed.record.as_ref(), &ground);
            }
            anyhow::bail!("{id} does not settle")
        };
        self.goals(tree, &BTreeMap::new()).into_iter().map(settle).collect()
    }
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed(), done))
}
