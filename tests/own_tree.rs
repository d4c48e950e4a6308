//! The trees that this repository carries, its own `apis/` and those of the examples, are read without a finding.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

use skep::settings::Settings;
use skep::tree::{Egress, Folder, Probe, Scanner, Tree};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(root: &Path) -> Tree {
    let settings = Settings::load(root, |_| None).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut scanner = Scanner::new(&settings).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    scanner.read().unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    Tree::clone(scanner.tree())
}

#[test]
fn every_tree_of_this_repository_is_sound() {
    let examples = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let roots: Vec<PathBuf> = examples.filter(|path| path.join("apis").is_dir()).chain([root().to_owned()]).collect();
    assert!(roots.len() > 1, "there is no example with an apis folder");
    for root in roots {
        let tree = read(&root);
        let findings: Vec<_> = tree.all_findings().collect();
        assert!(findings.is_empty(), "{}: {findings:#?}", root.display());
        assert!(!tree.folders.is_empty(), "{} has no API", root.display());
    }
}

/// `apis/` is real input for the whole of skep, so between them its APIs set everything that there is to set.
#[test]
fn the_apis_of_this_repository_use_every_kind_of_setting() {
    let tree = read(root());
    let specs: Vec<_> = tree
        .folders
        .values()
        .map(|folder| match folder {
            Folder::Sound(api) => &api.spec,
            Folder::Broken(broken) => panic!("{broken:?} is broken"),
        })
        .collect();
    let defaults = &Settings::load(root(), |_| None).unwrap().defaults;
    assert!(specs.iter().any(|spec| spec.resources != defaults.resources));
    assert!(specs.iter().any(|spec| spec.replicas > 1));
    assert!(specs.iter().any(|spec| spec.health.probe == Probe::Tcp));
    assert!(specs.iter().any(|spec| spec.health.path != defaults.health.path));
    assert!(specs.iter().any(|spec| spec.health.grace > defaults.health.grace));
    assert!(specs.iter().any(|spec| spec.route.auth == skep::tree::Auth::None));
    assert!(specs.iter().any(|spec| spec.route.timeout != defaults.route.timeout));
    assert!(specs.iter().any(|spec| spec.route.max_body != defaults.route.max_body));
    assert!(specs.iter().any(|spec| !spec.route.allow.is_empty()));
    assert!(specs.iter().any(|spec| spec.route.cors.is_some()));
    assert!(specs.iter().any(|spec| spec.route.compress));
    assert!(specs.iter().any(|spec| spec.route.maintenance != defaults.route.maintenance));
    assert!(specs.iter().any(|spec| spec.rate_limit.is_some()));
    assert!(specs.iter().any(|spec| spec.env != defaults.env));
    assert!(specs.iter().any(|spec| spec.egress == Egress::None));
    assert!(specs.iter().any(|spec| spec.drain != defaults.drain));
}
