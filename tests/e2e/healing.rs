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

#[test]
fn what_a_hand_changes_on_a_container_is_put_right_in_place() {
    let world = World::new();
    world.settings("hello", "resources: { memory: 128MiB }\n");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let before = world.containers("hello");
    let (id, network) = (before[0].as_str(), format!("skep-{}-internet", world.owner()));
    let name = engine::inspect(id).unwrap().name.unwrap();
    let name = name.trim_start_matches('/');

    // One after the other: what changes while something is put right is put right along with it, without a word.
    let said = |what: &str| {
        world.until(what, || events(&world, "found").iter().any(|message| message.contains(what)));
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    engine::pause(id);
    world.expect_answer("hello", "/", "one");
    said("paused it");
    engine::rename(id, &format!("{name}-x"));
    world.until("it has its name again", || engine::inspect(name).is_some());
    said("renamed it to skep-hello-");
    let quota = engine::inspect(id).unwrap().host_config.unwrap().cpu_quota;
    engine::limit(id, 64 << 20, 2_000);
    world.until("it has its limits again", || {
        let host = engine::inspect(id).unwrap().host_config.unwrap();
        host.memory == Some(128 << 20) && host.cpu_quota == quota
    });
    said("memory limit to 64MiB, from 128MiB");
    engine::disconnect(&network, id);
    world.until("it is on its network again", || world.get("hello", "/").status == 200);
    engine::disconnect(&network, id);
    engine::remove_network(&network);
    world.until("it is on a network of ours again", || world.get("hello", "/").status == 200);
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before, "it is the same process all the while");

    said("lost its network");
}

#[test]
fn names_that_were_exchanged_and_a_network_of_others_are_put_right_in_place() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.settings("hello", "replicas: 2\n");
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let named = || -> Vec<(String, String)> {
        let found = world.containers("hello").into_iter().map(|id| (engine::inspect(&id).unwrap().name.unwrap(), id));
        let mut all: Vec<(String, String)> = found.collect();
        all.sort();
        all
    };
    let before = named();
    let [(one, first), (two, second)] = &before[..] else { panic!("{before:?}") };
    engine::rename(first, "skep-e2e-somewhere-else");
    engine::rename(second, one.trim_start_matches('/'));
    engine::rename(first, two.trim_start_matches('/'));
    world.until("each has its own name again", || named() == before);
    world.expect_rest("hello", "synced", "healthy");

    // What changes while something is put right is put right along with it, without a word.
    std::thread::sleep(std::time::Duration::from_millis(500));
    engine::connect("bridge", first);
    let networks = || engine::inspect(first).unwrap().network_settings.unwrap().networks.unwrap();
    world.until("it is on its own network alone", || networks().len() == 1 && !networks().contains_key("bridge"));
    let is_told = || events(&world, "found").iter().any(|message| message.contains("network bridge"));
    world.until("somebody is told", is_told);
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(named(), before, "they are the same processes all the while");
}

#[test]
fn an_image_or_a_row_that_somebody_deletes_or_edits_comes_back() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let before = world.containers("hello");
    let image = engine::inspect(&before[0]).unwrap().config.unwrap().image.unwrap();
    engine::remove_image(&image);
    world.until("the image is there again", || engine::has_image(&image));

    let records = rusqlite::Connection::open(world.state().join("records.db")).unwrap();
    records.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let row = || {
        records.query_row("SELECT name, health FROM apis WHERE id = 'hello'", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
    };
    world.until("the row says what is", || row().unwrap() == ("hello".to_owned(), "healthy".to_owned()));
    // What is edited while skep itself is writing is written over without a word.
    std::thread::sleep(std::time::Duration::from_secs(2));
    records.execute("UPDATE apis SET name = 'Mallory', health = 'stopped'", []).unwrap();
    world.until("the row is right again", || row().unwrap() == ("hello".to_owned(), "healthy".to_owned()));
    std::thread::sleep(std::time::Duration::from_secs(1));
    records.execute("DELETE FROM apis", []).unwrap();
    world.until("the row is there again", || row().is_ok());
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before);
    let found = events(&world, "found");
    for what in [
        "is gone",
        "edited its row in the records: health: \"healthy\" → \"stopped\", name: ",
        "its row in the records is gone",
    ] {
        assert!(found.iter().any(|message| message.contains(what)), "{what} is not among {found:#?}");
    }
}

#[test]
fn what_nothing_needs_goes_and_a_full_disk_stops_builds_and_nothing_else() {
    let world = World::new();
    let with =
        |policy: &str| world.write("skep.yaml", &format!("policy: {policy}\n{}", World::apart(crate::world::SETTINGS)));
    with("{ keep: { revisions: 1 } }\nlook_every: 1s");
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    let first = engine::inspect(&world.containers("hello")[0]).unwrap().config.unwrap().image.unwrap();
    world.code("hello", &saying("two"));
    world.expect_answer("hello", "/", "two");
    world.expect_rest("hello", "synced", "healthy");
    let second = engine::inspect(&world.containers("hello")[0]).unwrap().config.unwrap().image.unwrap();
    world.until("the image of the first revision is gone", || !engine::has_image(&first));
    assert!(engine::has_image(&second));

    with("{ min_free_disk: 1024GiB }");
    world.code("hello", &saying("three"));
    world.until("the status says why nothing is built", || {
        world.status("hello")["message"].as_str().unwrap_or_default().contains("nothing is built below")
    });
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");
    with("{ min_free_disk: 1MiB }");
    world.expect_answer("hello", "/", "three");
}

/// The messages of all events of that kind.
fn events(world: &World, kind: &str) -> Vec<String> {
    let printed = world.run(&["events", "hello", "--output", "json"]).expect(0).out;
    let all = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    all.filter(|event| event["kind"] == kind).map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}
