//! Locks: made where builds are, and installed by hash.

use skep::engine::docker::resolve::{Resolve, Resolved};
use skep::engine::{Engine, EngineError, Install, Progress};
use skep::tree::lock::{self, Lock};
use skep::tree::source::Source;
use skep::tree::{ApiId, Requirement, Requirements};

use crate::world::{World, requirements};

async fn resolve(world: &World, asked: &[&str], earlier: Requirements) -> Resolved {
    let job = Resolve { requirements: requirements(asked), earlier };
    world.docker.lock(&job, &Progress::silent()).await.unwrap()
}

/// As the tree reads what was written.
fn read(resolved: &Resolved) -> Requirements {
    let text = lock::write(&ApiId::new("a").unwrap(), &resolved.made_for, "", &resolved.packages);
    let mut findings = Vec::new();
    let lock = Lock::read(Source::new("apis/a/requirements.lock", &text), &mut findings);
    assert_eq!(findings, []);
    lock.requirements()
}

#[tokio::test]
async fn what_a_lock_names_is_what_is_installed() {
    let world = World::get();
    let resolved = resolve(&world, &["anyio<4.5"], Requirements::default()).await;
    let names: Vec<&str> = resolved.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names[..2], ["anyio", "idna"], "{resolved:?}");
    assert!(resolved.made_for.starts_with("Python 3.") && resolved.made_for.contains(" on Linux, "), "{resolved:?}");
    assert!(resolved.packages.iter().all(|package| !package.hashes.is_empty()), "{resolved:?}");
    let locked = read(&resolved);
    let job = Install { tag: world.tag("deps:locked"), requirements: locked.clone() };
    let (progress, lines) = crate::world::recorder();
    world.docker.install(&job, &progress).await.unwrap();
    let said = lines.lock().unwrap().clone();
    for requirement in &locked.0 {
        let installed = format!(" + {}", requirement.asked());
        assert!(said.contains(&installed), "{installed:?} is not in {said:?}");
    }
    world.docker.remove_image(&job.tag).await.unwrap();
}

#[tokio::test]
async fn versions_stay_until_an_upgrade_is_asked_for() {
    let world = World::get();
    let first = read(&resolve(&world, &["idna==3.7"], Requirements::default()).await);
    let version = |requirements: &Requirements| requirements.0[0].locked_version().unwrap().to_owned();
    assert_eq!(version(&read(&resolve(&world, &["idna>=3"], first).await)), "3.7");
    assert_ne!(version(&read(&resolve(&world, &["idna>=3"], Requirements::default()).await)), "3.7");
}

#[tokio::test]
async fn a_file_with_another_hash_and_a_package_that_the_lock_lacks_are_refused() {
    let world = World::get();
    let wrong = format!("idna==3.7 --hash=sha256:{}", "0".repeat(64));
    let whole = read(&resolve(&world, &["anyio<4.5"], Requirements::default()).await);
    let lacking: Vec<Requirement> = whole.0.into_iter().filter(|one| one.name() != "idna").collect();
    for (name, requirements, expected) in [
        ("deps:wrong", requirements(&[&wrong]), "cannot install idna==3.7: the package index has another file of it"),
        ("deps:lacking", Requirements(lacking), "cannot install idna: requirements.lock does not name it"),
    ] {
        let job = Install { tag: world.tag(name), requirements };
        let Err(EngineError::Failed { message, output }) = world.docker.install(&job, &Progress::silent()).await else {
            panic!("{name} is installed all the same");
        };
        assert!(message.starts_with(expected), "{message}\n{output:#?}");
        assert!(!world.docker.images().await.unwrap().contains(&job.tag));
    }
}

#[tokio::test]
async fn what_cannot_be_resolved_is_named() {
    let world = World::get();
    for (asked, expected) in [
        ("fastapi==99.99", "cannot install fastapi==99.99: the package index has no such version"),
        ("pycrypto==2.6.1", "cannot install pycrypto==2.6.1: there is no wheel"),
    ] {
        let job = Resolve { requirements: requirements(&[asked]), earlier: Requirements::default() };
        let error = world.docker.lock(&job, &Progress::silent()).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
