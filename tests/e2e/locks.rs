//! Locks: what is pinned is what serves, and a plan says which packages move.

use crate::apps::saying;
use crate::world::World;

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
