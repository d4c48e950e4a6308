//! Two daemons on one installation: one reconciles, both serve, and either can go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::apps::saying;
use crate::http::Request;
use crate::world::World;

fn answers(at: SocketAddr, text: &str) -> bool {
    let reply = Request::get("/run/hello/").send(at);
    reply.status == 200 && reply.text() == text
}

fn role(at: SocketAddr) -> String {
    let health: serde_json::Value = serde_json::from_str(&Request::get("/health").send(at).text()).unwrap();
    health["role"].as_str().unwrap().to_owned()
}

#[test]
fn a_second_daemon_serves_and_takes_over_at_once_when_the_first_is_killed_or_ends() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    let second = world.serve_beside();
    world.until("both serve", || answers(second.address, "one") && answers(world.address(), "one"));
    assert_eq!((role(world.address()).as_str(), role(second.address).as_str()), ("leader", "follower"));

    // A deploy reaches the callers of both, and neither of them loses a request meanwhile.
    world.code("hello", &saying("two"));
    world.until("both serve the new code", || {
        for at in [world.address(), second.address] {
            assert_eq!(Request::get("/run/hello/").send(at).status, 200);
        }
        answers(second.address, "two") && answers(world.address(), "two")
    });
    world.until("the old instance is gone", || world.instances("hello").len() == 1);

    world.crash();
    let killed = Instant::now();
    world.code("hello", &saying("three"));
    world.until("the second one deploys", || {
        assert_eq!(Request::get("/run/hello/").send(second.address).status, 200);
        answers(second.address, "three")
    });
    assert!(killed.elapsed() < Duration::from_secs(60));
    assert_eq!(role(second.address), "leader");

    // The one that comes back stands by; when the other one ends with manners, it goes on at once.
    let third = world.serve_beside();
    world.until("both serve", || answers(third.address, "three"));
    assert_eq!(role(third.address), "follower");
    drop(second);
    world.code("hello", &saying("four"));
    world.until("the third one deploys", || answers(third.address, "four"));
}

#[test]
fn a_leader_that_was_asleep_and_wakes_up_does_no_harm() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    let second = world.serve_beside();
    world.until("both serve", || answers(second.address, "one"));

    let first = Pid::from_raw(world.pid().try_into().unwrap()).unwrap();
    kill_process(first, Signal::STOP).unwrap();
    world.until("the second one leads", || role(second.address) == "leader");
    world.code("hello", &saying("two"));
    world.until("the second one deploys", || answers(second.address, "two"));
    world.until("the old instance is gone", || world.instances("hello").len() == 1);
    let kept = world.containers("hello");

    kill_process(first, Signal::CONT).unwrap();
    world.until("the first one stands by", || role(world.address()) == "follower");
    world.until("both serve the new code", || {
        assert_eq!(Request::get("/run/hello/").send(second.address).status, 200);
        answers(world.address(), "two") && answers(second.address, "two")
    });
    assert_eq!(world.containers("hello"), kept, "nothing was started or removed by the one that woke up");
    world.expect_rest("hello", "synced", "healthy");
}
