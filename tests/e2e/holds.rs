//! What somebody asks to be left as it is, and how it goes on.

use crate::apps::saying;
use crate::push::{ADMIN_KEY, Dev, begin, said};
use crate::world::{Ran, World};

#[test]
fn a_rollback_serves_the_earlier_revision_over_restarts_until_the_next_push() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    world.code("hello", &saying("two"));
    world.expect_answer("hello", "/", "two");
    world.expect_rest("hello", "synced", "healthy");

    let ran = world.run(&["rollback", "hello", "--why", "two is wrong", "--by", "ada"]).expect(0);
    assert!(ran.out.contains("rolled back to") && ran.out.contains("ada"), "{}", ran.out);
    world.expect_answer("hello", "/", "one");
    let status = world.expect_rest("hello", "held", "healthy");
    assert!(status["message"].as_str().unwrap().contains("two is wrong"), "{status}");
    let plan = world.run(&["plan"]).expect(0).out;
    assert!(plan.contains("rolled back to") && plan.contains("ada"), "{plan}");

    world.crash();
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "held", "healthy");

    world.code("hello", &saying("three"));
    world.expect_answer("hello", "/", "three");
    world.expect_rest("hello", "synced", "healthy");
    let listed = world.run(&["rollback", "hello", "--list"]).expect(0).out;
    assert_eq!(listed.lines().count(), 3, "{listed}");
}

#[test]
fn what_is_held_is_healed_and_not_changed_until_it_is_released() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.run(&["apply"]).expect(0);
    world.run(&["hold", "nobody"]).expect(1);
    world.run(&["hold", "hello", "--until", "2h"]).expect(0);
    // Held before the change was deployed: it is the next good push, and goes ahead.
    world.code("hello", &saying("two"));
    world.run(&["hold", "hello", "--why", "not before Monday"]).expect(0);
    world.serve();
    world.expect_answer("hello", "/", "one");
    let before = world.containers("hello");
    crate::engine::kill(&before[0]);
    world.until("the held one is healed", || {
        let now = world.instances("hello");
        now.len() == 1 && now[0].is_running && now[0].id != before[0]
    });
    world.expect_answer("hello", "/", "one");
    let status = world.expect_rest("hello", "held", "healthy");
    assert!(status["message"].as_str().unwrap().contains("not before Monday"), "{status}");
    world.run(&["release", "hello"]).expect(0);
    world.expect_answer("hello", "/", "two");
    world.run(&["release", "hello"]).expect(1);
}

#[test]
fn what_is_held_fails_nobody_while_it_serves_what_its_folder_says() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("other", "one");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);
    let run = |arguments: &[&str]| Ran::of(world.command(arguments).env("ADMIN_API_KEY", ADMIN_KEY).output().unwrap());
    run(&["hold", "other", "--why", "no surprises"]).expect(0);
    dev.code("hello", "two");
    dev.push(&[]).expect(0);
    run(&["apply"]).expect(0);
    run(&["plan", "--detailed-exitcode"]).expect(0);
    assert_eq!(world.status("other")["sync"], "held");

    // What a hold keeps from serving is not as the tree says; it is called held, and not ill.
    run(&["rollback", "hello", "--why", "two is wrong"]).expect(0);
    dev.code("other", "two");
    let held = ["Held, and not as its folder says: hello, rolled back to ", "two is wrong"];
    let pushed = dev.push(&[]).expect(1);
    said(&pushed, &held);
    assert!(!pushed.err.contains("Not as the tree says"), "{pushed:#?}");
    said(&run(&["apply"]).expect(1), &held);
    run(&["plan", "--detailed-exitcode"]).expect(2);
    run(&["release", "hello"]).expect(0);
    run(&["apply"]).expect(0);
}

#[test]
fn a_renamed_api_is_created_before_it_is_removed() {
    let world = World::new();
    world.code("old-name", &saying("one"));
    world.serve();
    world.expect_answer("old-name", "/", "one");
    world.expect_rest("old-name", "synced", "healthy");
    std::fs::rename(world.root().join("apis/old-name"), world.root().join("apis/new-name")).unwrap();
    expect_to_take_over(&world, "old-name", "new-name");

    // As git does it: what goes is removed first, and what is new is written then, and takes its time.
    std::fs::remove_dir_all(world.root().join("apis/new-name")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    world.code("newer-name", &saying("one"));
    expect_to_take_over(&world, "new-name", "newer-name");

    // The same without a daemon, in one go.
    world.interrupt();
    std::fs::rename(world.root().join("apis/newer-name"), world.root().join("apis/newest-name")).unwrap();
    let ran = world.run(&["apply"]).expect(0);
    assert!(ran.out.contains("newest-name"), "{}", ran.out);
    assert!(world.instances("newer-name").is_empty() && world.instances("newest-name").len() == 1);
}

/// That at every moment one of them answers, until the later name does and the earlier one is gone.
fn expect_to_take_over(world: &World, old: &str, new: &str) {
    let get = |id| world.get(id, "/").status;
    world.until("the new name answers", || {
        let (before, now) = (get(old), get(new));
        assert!(before == 200 || now == 200 || get(new) == 200, "neither answers: {before}, {now}");
        now == 200
    });
    world.until("the old one is gone", || world.instances(old).is_empty());
    world.expect_rest(new, "synced", "healthy");
}
