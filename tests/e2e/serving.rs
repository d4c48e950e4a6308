//! From a folder to an answer, and on to the next: the main job.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::apps::saying;
use crate::engine;
use crate::http::{Connection, Request};
use crate::world::World;

#[test]
fn a_saved_file_answers_and_nobody_is_turned_away_meanwhile() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    let old = world.containers("hello");
    assert_eq!(old.len(), 1);

    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = world.address();
    let call = |keeps_alive: bool| {
        let request = Request::get("/run/hello/");
        let mut connection = Connection::open(address).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let reply = if keeps_alive { connection.ask(&request).unwrap() } else { request.send(address) };
            assert!(["one", "two"].contains(&reply.expect(200).text().as_str()));
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let callers = [true, true, false].map(|keeps_alive| scope.spawn(move || call(keeps_alive)));
        let check = || {
            world.code("hello", &saying("two"));
            world.expect_answer("hello", "/", "two");
            world.until("the old instance is gone", || engine::inspect(&old[0]).is_none());
        };
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().unwrap();
        }
        checked.unwrap();
    });
    assert!(answered.load(Ordering::Relaxed) > 0);
    assert_eq!(world.instances("hello").len(), 1);
    assert_eq!(world.get("hello", "/").text(), "two");
    let status = world.expect_rest("hello", "synced", "healthy");
    assert!(world.instances("hello")[0].name.contains(status["serving"].as_str().unwrap()));
}

#[test]
fn containers_outlive_the_daemon_and_the_next_one_takes_them_over() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.code("other", &saying("another"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_answer("other", "/", "another");
    let before = (world.instances("hello"), world.instances("other"));

    assert_eq!(world.interrupt().code(), Some(0));
    assert_eq!((world.instances("hello"), world.instances("other")), before);
    assert!(before.0[0].is_running);
    world.serve();
    // Without a wait: whoever comes during a restart is not refused.
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");
    world.expect_rest("hello", "synced", "healthy");

    world.crash();
    world.serve();
    assert_eq!(world.get("other", "/").expect(200).text(), "another");
    world.expect_rest("other", "synced", "healthy");
    assert_eq!((world.instances("hello"), world.instances("other")), before);
}

/// A world in which `hello` serves, and an install for what comes after it is in flight that takes minutes to fail.
fn installing() -> World {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    world.interrupt();
    // An index that nobody answers for: what is asked of it takes minutes to fail.
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &format!("{settings}build: {{ index_url: \"http://169.254.1.1/simple\" }}\n"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.write("apis/hello/requirements.txt", "itsdangerous\n");
    world.until("the install is in flight", || {
        world.status("hello")["message"].as_str().unwrap_or_default().contains("installing")
    });
    world
}

#[test]
fn what_serves_is_healed_while_its_successor_is_being_installed() {
    let world = installing();
    let before = world.containers("hello");
    engine::kill(&before[0]);
    world.until("what served is there again", || {
        let now = world.instances("hello");
        now.len() == 1 && now[0].is_running && now[0].id != before[0]
    });
    world.expect_answer("hello", "/", "one");
    assert!(world.status("hello")["message"].as_str().unwrap().contains("installing"), "{}", world.status("hello"));
}

#[test]
fn a_newer_change_supersedes_the_one_in_flight() {
    let world = installing();
    thread::sleep(std::time::Duration::from_secs(1));
    std::fs::remove_file(world.root().join("apis/hello/requirements.txt")).unwrap();
    world.code("hello", &saying("two"));
    world.expect_answer("hello", "/", "two");
    assert!(world.log().contains("given up for a newer change"), "{}", world.log());
    world.expect_rest("hello", "synced", "healthy");
}
