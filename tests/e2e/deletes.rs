//! Many folders that go at once are more likely an accident than a wish.

use crate::apps::saying;
use crate::world::World;

/// One API that runs and nine that are suspended: those cost nothing.
fn ten() -> World {
    let world = World::new();
    world.code("api-0", &saying("zero"));
    for number in 1..10 {
        world.code(&format!("api-{number}"), "app = None\n");
        world.settings(&format!("api-{number}"), "suspend: true\n");
    }
    world
}

#[test]
fn many_removals_wait_for_a_word_without_a_daemon() {
    let world = ten();
    world.run(&["apply"]).expect(0);
    (0..5).for_each(|number| world.delete(&format!("api-{number}")));

    let plan = world.run(&["plan"]).expect(0).out;
    assert!(plan.contains("5 of 10 APIs are gone") && plan.contains("skep apply --allow-deletes"), "{plan}");
    let plan = world.plan();
    assert_eq!(plan["summary"]["blocked"], 5, "{plan:#}");
    assert_eq!(plan["summary"]["remove"], 0, "{plan:#}");
    let ran = world.run(&["apply"]).expect(1);
    assert!(ran.out.contains("--allow-deletes"), "{}", ran.out);
    assert!(world.instances("api-0")[0].is_running);
    assert_eq!(world.status("api-0")["sync"], "held");

    world.run(&["apply", "--allow-deletes"]).expect(0);
    assert!(world.instances("api-0").is_empty());
    assert_eq!(world.run(&["status", "--output", "json"]).json()["apis"].as_array().unwrap().len(), 5);

    // The word was for those five. A later accident waits for its own.
    (5..10).for_each(|number| world.delete(&format!("api-{number}")));
    world.run(&["apply"]).expect(1);
    assert_eq!(world.plan()["summary"]["blocked"], 5);
}

#[test]
fn many_removals_wait_for_a_word_while_a_daemon_serves() {
    let world = ten();
    world.serve();
    world.expect_answer("api-0", "/", "zero");
    world.expect_rest("api-9", "synced", "stopped");
    // Moved away as one, so that no look sees a few of them gone and lets those go.
    let (apis, aside) = (world.root().join("apis"), world.aside().join("apis"));
    std::fs::rename(&apis, &aside).unwrap();
    (0..5).for_each(|number| std::fs::remove_dir_all(aside.join(format!("api-{number}"))).unwrap());
    std::fs::rename(&aside, &apis).unwrap();

    world.expect_rest("api-0", "held", "healthy");
    let ran = world.run(&["apply"]).expect(1);
    assert!(ran.out.contains("--allow-deletes"), "{}", ran.out);
    assert_eq!(world.get("api-0", "/").expect(200).text(), "zero");

    world.run(&["apply", "--allow-deletes"]).expect(0);
    world.expect_status("api-0", "/", 401);
    assert!(world.instances("api-0").is_empty());
    assert_eq!(world.run(&["status", "--output", "json"]).json()["apis"].as_array().unwrap().len(), 5);
}
