//! `skep apply`, with a daemon and without, and who may be at work on one installation.

use crate::apps::saying;
use crate::world::World;

#[test]
fn what_apply_started_a_daemon_takes_over_and_apply_asks_it() {
    let world = World::new();
    world.code("hello", &saying("one"));
    let ran = world.run(&["apply"]).expect(0);
    assert!(ran.err.contains("building its image") && ran.err.contains("serving"), "{}", ran.err);
    let before = world.containers("hello");
    world.serve();
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");
    world.run(&["apply"]).expect(0);
    assert_eq!(world.containers("hello"), before);

    // The daemon holds the lock, so only the daemon can have done this.
    world.code("hello", &saying("two"));
    world.run(&["apply"]).expect(0);
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");
    world.run(&["plan", "--detailed-exitcode"]).expect(0);

    world.code("hello", "raise RuntimeError('no room at the inn')\napp = None\n");
    let ran = world.run(&["apply"]).expect(1);
    assert!(ran.out.contains("hello"), "{}", ran.out);
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");

    assert_eq!(world.get("hello", "/").expect(200).text(), "two");
}

#[test]
fn an_api_that_cannot_be_made_is_an_honest_exit_code_and_holds_up_no_other() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.code("broken", "def app(:\n");
    world.code("crashing", "raise RuntimeError('no room at the inn')\napp = None\n");
    let ran = world.run(&["apply"]).expect(1);
    let last = ran.out.lines().last().unwrap();
    assert!(last.contains("broken") && last.contains("crashing") && !last.contains("hello"), "{last}");
    assert!(ran.err.contains("no room at the inn"), "{}", ran.err);
    assert_eq!(world.status("hello")["sync"], "synced");
    assert!(world.instances("hello")[0].is_running);
    let json = world.run(&["apply", "--output", "json"]).expect(1).json();
    assert_eq!(json["not_as_the_tree_says"], serde_json::json!(["broken", "crashing"]));
}
