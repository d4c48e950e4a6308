use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TARGETS;

/// As the threads that read folders have it.
const STACK: usize = 32 * 1024 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_the_fuzzers_have_kept_breaks_no_promise() {
    let replay = || {
        for (name, target) in TARGETS {
            let kept = names(&fuzz().join("corpus").join(name));
            assert!(kept.len() > 10, "{name} has a corpus");
            for path in kept {
                let bytes = fs::read(&path).unwrap();
                assert!(std::panic::catch_unwind(|| target(&bytes)).is_ok(), "{}", path.display());
            }
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(replay).unwrap().join().unwrap();
}

#[test]
fn every_target_is_fuzzed_and_replayed() {
    let listed: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(listed, names(&fuzz().join("fuzz_targets")).iter().map(stem).collect());
    assert_eq!(listed, names(&fuzz().join("corpus")).iter().map(stem).collect());
}
