//! A revision that is no good leaves the old one serving, and everybody learns why.

use serde_json::Value;

use crate::apps::saying;
use crate::world::World;

/// Waits until the status of `hello` names trouble of that kind.
#[track_caller]
fn expect_failure(world: &World, kind: &str) -> Value {
    world.wait(&format!("the trouble is {kind}"), || {
        Some(world.status("hello")).filter(|status| status["failure"]["kind"] == kind)
    })
}

#[track_caller]
fn assert_old_one_serves(world: &World, old: &[String]) {
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");
    assert!(world.containers("hello").contains(&old[0]), "the old instance is gone");
}

#[test]
fn a_bad_revision_leaves_the_old_one_serving_and_says_why() {
    let world = World::new();
    world.settings("hello", "health: { grace: 3s, interval: 200ms }\n");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    let old = world.containers("hello");

    // It ends while it is imported.
    world.code("hello", "raise RuntimeError('no room at the inn')\napp = None\n");
    let status = expect_failure(&world, "crash");
    let lines = status["failure"]["output"].to_string();
    assert!(lines.contains("no room at the inn"), "{status:#}");
    assert!(status["failure"]["message"].as_str().unwrap().contains("exit code 1"), "{status:#}");
    assert_eq!(status["health"], "healthy", "{status:#}");
    let text = world.run(&["status"]).expect(0).out;
    assert!(text.contains("no room at the inn") && text.contains("exit code 1"), "{text}");
    assert_old_one_serves(&world, &old);

    // It answers, and never well.
    world.code("hello", &saying("never").replace("\"status\": 200", "\"status\": 500"));
    let status = expect_failure(&world, "not-ready");
    assert!(status["failure"]["message"].as_str().unwrap().contains("500"), "{status:#}");
    assert_old_one_serves(&world, &old);

    // It cannot be read: nothing is even tried.
    world.code("hello", "async def app(scope, receive, send:\n    pass\n");
    let status = world.expect_rest("hello", "blocked", "healthy");
    assert!(status["message"].as_str().unwrap().contains("apis/hello/main.py:"), "{status:#}");
    assert_old_one_serves(&world, &old);

    // It needs what nobody has.
    world.code("hello", &saying("three"));
    world.write("apis/hello/requirements.txt", "itsdangerous==987.6.5\n");
    let status = expect_failure(&world, "install");
    let message = status["failure"]["message"].as_str().unwrap();
    assert!(message.contains("itsdangerous==987.6.5"), "{status:#}");
    let build = world.run(&["logs", "--build", "hello"]).expect(0).out;
    assert!(build.contains("itsdangerous"), "{build}");
    assert_old_one_serves(&world, &old);

    // A fixed one does not wait for the pauses of those before it.
    world.write("apis/hello/requirements.txt", "");
    world.expect_answer("hello", "/", "three");
    let status = world.expect_rest("hello", "synced", "healthy");
    assert_eq!(status["failure"], Value::Null);
    let events = world.run(&["events", "hello"]).expect(0).out;
    assert!(events.contains("exit code 1") && events.contains("itsdangerous==987.6.5"), "{events}");
}

#[test]
fn memory_that_runs_out_is_told_apart_from_a_crash() {
    let world = World::new();
    world.settings("hello", "resources: { memory: 64MiB, tmp: 1MiB }\n");
    world.code("hello", "hoard = [bytes([1]) * 2**20 for _ in range(1000)]\napp = None\n");
    let ran = world.run(&["apply"]).expect(1);
    assert!(ran.out.contains("hello"), "{}", ran.out);
    let status = world.status("hello");
    assert_eq!(status["failure"]["kind"], "out-of-memory", "{status:#}");
    assert_eq!(status["health"], "missing", "{status:#}");
    assert!(status["failure"]["message"].as_str().unwrap().contains("64MiB"), "{status:#}");
}
