//! What somebody breaks by hand is made good; what is not ours is nobody's business.

use crate::apps::saying;
use crate::engine;
use crate::world::World;

/// A container of somebody else. Goes with the test.
struct Foreign(String);

impl Drop for Foreign {
    fn drop(&mut self) {
        engine::remove(&self.0);
    }
}

#[test]
fn an_instance_that_is_killed_or_removed_by_hand_is_replaced() {
    let world = World::new();
    world.settings("hello", "replicas: 2\n");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let before = world.containers("hello");
    let image = engine::inspect(&before[0]).unwrap().image.unwrap();
    // One that says nothing, and one that says it belongs to an API of ours, but not to us.
    let foreign = [
        Foreign(engine::start_foreign(&image, &[])),
        Foreign(engine::start_foreign(
            &image,
            &[("dev.skep.owner", "000000000000"), ("dev.skep.api", "hello"), ("dev.skep.revision", "abc")],
        )),
    ];

    engine::kill(&before[0]);
    world.until("the killed one is replaced", || {
        let now = world.instances("hello");
        now.len() == 2 && now.iter().all(|one| one.is_running && one.id != before[0])
    });
    world.expect_rest("hello", "synced", "healthy");
    engine::remove(&before[1]);
    world.until("the removed one is replaced", || {
        let now = world.instances("hello");
        now.len() == 2 && now.iter().all(|one| one.is_running && !before.contains(&one.id))
    });
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");
    let events = world.run(&["events", "hello", "--output", "json"]).expect(0).out;
    let events: Vec<serde_json::Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let started = events.iter().filter(|event| event["kind"] == "started").count();
    assert_eq!(started, 4, "{events:#?}");
    assert!(events.iter().any(|event| event["message"].as_str().unwrap().contains("137")), "{events:#?}");

    world.delete("hello");
    world.until("nothing of ours is left", || world.instances("hello").is_empty());
    for container in &foreign {
        let found = engine::inspect(&container.0).expect("the foreign container is there");
        assert_eq!(found.state.unwrap().running, Some(true));
    }
}
