//! Locks: what is pinned is what serves, and a plan says which packages move.

use std::process::Stdio;

use crate::apps::saying;
use crate::engine::{self, Container};
use crate::world::{Ran, World, read_until};

/// The containers in which something is resolved, or was.
fn workshops(world: &World) -> Vec<Container> {
    engine::labelled(&[&format!("dev.skep.owner={}", world.owner()), "dev.skep.role=workshop"])
}

/// Runs `skep` until it says that something takes its time, and then has a signal end it.
#[track_caller]
fn interrupted(world: &World, arguments: &[&str], says: &str, signal: rustix::process::Signal) -> Ran {
    let mut skep = world.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    read_until(skep.stderr.as_mut().unwrap(), says);
    assert!(!workshops(world).is_empty(), "it is at work in one");
    rustix::process::kill_process(rustix::process::Pid::from_child(&skep), signal).unwrap();
    Ran::of(skep.wait_with_output().unwrap())
}

#[test]
fn whoever_interrupts_resolving_leaves_nothing_at_work_on_the_engine() {
    use rustix::process::Signal;
    let world = World::new();
    world.code("hello", &saying("one"));
    world.write("apis/hello/requirements.txt", "idna==3.7\n");
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.interrupt();
    // Enough for a moment.
    world.write("apis/hello/requirements.txt", "idna\nboto3\npandas\nsentry-sdk\nsqlalchemy\n");
    let asking = "asking the package index what requirements come to …";
    let resolving = "hello: resolving …";
    for (arguments, says, signal) in
        [(["plan"], asking, Signal::TERM), (["lock"], resolving, Signal::INT), (["lock"], resolving, Signal::TERM)]
    {
        let ran = interrupted(&world, &arguments, says, signal).expect(1);
        assert!(ran.err.contains("interrupted; what was made for it is removed"), "{ran:#?}");
        assert_eq!(workshops(&world), [], "{arguments:?}");
        assert!(!world.root().join("apis/hello/requirements.lock").exists());
    }
    // What was killed leaves a container that ends in its time; whoever resolves next takes it away.
    interrupted(&world, &["lock"], resolving, Signal::KILL);
    for left in workshops(&world) {
        engine::kill(&left.id);
    }
    assert_eq!(workshops(&world).len(), 1);
    world.run(&["lock"]).expect(0);
    assert_eq!(workshops(&world), []);
}

#[test]
fn what_a_lock_says_is_installed_and_what_moves_is_in_the_plan() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.write("apis/hello/requirements.txt", "idna==3.7\n");
    let locked = world.run(&["lock", "hello"]).expect(0).out;
    assert!(locked.starts_with("hello: ") && locked.contains("  + idna 3.7\n"), "{locked}");
    world.run(&["lock", "--check"]).expect(0);
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    let log = world.run(&["logs", "hello", "--build"]).expect(0).out;
    assert!(log.contains(" + idna==3.7"), "{log}");

    // Other requirements than the lock's: what serves goes on.
    world.code("hello", &saying("two"));
    world.write("apis/hello/requirements.txt", "idna>=3\ncertifi\n");
    let blocked = world.expect_rest("hello", "blocked", "healthy");
    let message = blocked["message"].as_str().unwrap();
    assert!(message.contains("apis/hello/requirements.txt:2:1: certifi is not in requirements.lock"), "{message}");
    world.expect_answer("hello", "/", "one");

    world.interrupt();
    let moved = world.run(&["lock", "hello", "--upgrade"]).expect(0).out;
    assert!(moved.contains("  + certifi ") && moved.contains("  ↑ idna 3.7 → "), "{moved}");
    let plan = world.run(&["plan"]).expect(0).out;
    assert!(plan.contains("+ certifi ") && plan.contains("↑ idna 3.7 → "), "{plan}");
    assert!(plan.contains("packages: 1 added, 1 upgraded; new instances take over"), "{plan}");
    world.serve();
    world.expect_answer("hello", "/", "two");
    world.expect_rest("hello", "synced", "healthy");
}
