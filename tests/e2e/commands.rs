//! The commands around the main job: keys, logs, events.

use std::process::Stdio;

use crate::apps::saying;
use crate::http::Request;
use crate::world::{World, read_until};

#[test]
fn a_key_opens_its_api_alone_until_it_is_revoked() {
    let world = World::new();
    for id in ["hello", "other"] {
        world.code(id, &saying(id));
        world.settings(id, "route: { public: false }\n");
    }
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    world.expect_rest("other", "synced", "healthy");

    let made = world.run(&["keys", "create", "--name", "web shop", "--api", "hello"]).expect(0);
    let key = made.out.trim().to_owned();
    let ask = |id: &str, key: &str| world.send(&Request::get(format!("/run/{id}/")).key(key)).status;
    world.until("the key is known", || ask("hello", &key) == 200);
    assert_eq!(ask("other", &key), 401);
    let master = world.run(&["keys", "create", "--name", "all"]).expect(0).out.trim().to_owned();
    world.until("the other key is known", || ask("other", &master) == 200);

    let listed = world.run(&["keys", "list"]).expect(0).out;
    assert!(listed.contains("web shop") && listed.contains("hello"), "{listed}");
    assert!(!listed.contains(&key), "a key is shown once");
    let list = world.run(&["keys", "list", "--output", "json"]).expect(0).json();
    let id = list.as_array().unwrap().iter().find(|key| key["name"] == "web shop").unwrap()["id"].clone();
    let records = std::fs::read(world.state().join("records.db")).unwrap();
    assert!(!records.windows(key.len()).any(|part| part == key.as_bytes()), "a key is kept as it is");

    world.run(&["keys", "revoke", id.as_str().unwrap()]).expect(0);
    world.until("the key is refused", || ask("hello", &key) == 401);
    assert_eq!(ask("other", &master), 200);
    world.run(&["keys", "revoke", "k_nobody"]).expect(1);
}

#[test]
fn logs_and_events_tell_what_happened() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/first", "one");

    let logs = world.run(&["logs", "hello"]).expect(0).out;
    assert!(logs.contains("answered /run/hello/first") || logs.contains("answered /first"), "{logs}");
    let build = world.run(&["logs", "--build", "hello"]).expect(0).out;
    assert!(build.contains("fastapi") && build.contains("installed in"), "{build}");
    let unknown = world.run(&["logs", "nobody"]).expect(1);
    assert!(unknown.err.contains("nobody") && unknown.err.contains("skep status"), "{}", unknown.err);

    let mut following = world.command(&["logs", "-f", "-n", "1", "hello"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = following.stdout.take().unwrap();
    read_until(&mut printed, "answered");
    world.get("hello", "/second").expect(200);
    let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read_until(&mut printed, "/second")));
    following.kill().unwrap();
    following.wait().unwrap();
    more.unwrap();

    world.expect_rest("hello", "synced", "healthy");
    let events = world.run(&["events", "hello"]).expect(0).out;
    for kind in ["installed", "built", "started", "serving"] {
        assert!(events.contains(kind), "no {kind} in:\n{events}");
    }
    let last = world.run(&["events", "-n", "1", "--output", "json"]).expect(0).json();
    assert_eq!(last["api"], "hello");
}
