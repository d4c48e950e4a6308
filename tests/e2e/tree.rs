//! What the tree says, the world becomes: suspended, resumed, removed, and never because a tree was not to be read.

use crate::apps::saying;
use crate::world::World;

#[test]
fn an_api_is_suspended_resumed_and_removed_and_its_neighbour_stays() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.code("other", &saying("another"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_answer("other", "/", "another");
    let other = world.containers("other");

    world.settings("hello", "suspend: true\n");
    let refused = world.expect_status("hello", "/", 503);
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    assert!(refused.json()["error"].as_str().unwrap().contains("paused"));
    world.until("nothing of it runs", || world.instances("hello").is_empty());
    world.expect_rest("hello", "synced", "stopped");

    world.settings("hello", "suspend: false\n");
    world.expect_answer("hello", "/", "one");

    world.delete("hello");
    world.expect_status("hello", "/", 401);
    world.until("nothing of it is left", || {
        world.instances("hello").is_empty() && world.status("hello") == serde_json::Value::Null
    });

    // Nobody waits for a neighbour whose folder is broken.
    world.settings("broken", "replicas: many\n");
    world.code("fresh", &saying("fresh"));
    world.expect_answer("fresh", "/", "fresh");
    let status = world.expect_rest("broken", "blocked", "missing");
    assert!(status["message"].as_str().unwrap().contains("apis/broken"), "{status:#}");
    assert_eq!(world.get("other", "/").expect(200).text(), "another");
    assert_eq!(world.containers("other"), other);
}

#[test]
fn a_tree_that_cannot_be_read_is_an_error_and_no_empty_tree() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    let before = world.containers("hello");

    let (apis, aside) = (world.root().join("apis"), world.aside().join("apis"));
    std::fs::rename(&apis, &aside).unwrap();
    for command in ["plan", "apply", "status", "check"] {
        let ran = world.run(&[command]).expect(1);
        assert!(ran.err.contains("apis"), "{command}: {}", ran.err);
    }
    world.until("the daemon has noticed", || world.log().contains("there is no folder"));
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");
    assert_eq!(world.containers("hello"), before);

    // Nor does a new daemon take it for an empty one.
    assert_eq!(world.interrupt().code(), Some(0));
    world.serve();
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");

    std::fs::rename(&aside, &apis).unwrap();
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before);
    world.code("hello", &saying("two"));
    world.expect_answer("hello", "/", "two");
}
