//! Whoever only watches keeps no daemon from ending.

use std::net::TcpListener;
use std::process::Stdio;

use crate::apps::saying;
use crate::http::{Connection, Request};
use crate::pull::{ADMIN_KEY, follow};
use crate::world::{Ran, World};

#[test]
fn a_daemon_that_is_told_to_end_waits_for_nobody_who_only_watches() {
    let world = World::new();
    world.code("hello", &saying("one"));
    // A remote that takes calls and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    follow(&world, &[format!("name: stuck, url: 'http://{}/a.git', every: 1h", silent.local_addr().unwrap())]);
    world.expect_answer("hello", "/", "one");
    let _called = silent.accept().unwrap();
    let mut watchers = ["/admin/events", "/admin/logs/hello"].map(|path| {
        let mut watcher = Connection::open(world.address()).unwrap();
        let request = Request::get(path).key(ADMIN_KEY).header("accept", "text/event-stream");
        watcher.send(&request).unwrap();
        assert_eq!(watcher.head().unwrap().status, 200, "{path}");
        watcher
    });
    let mut waits = Connection::open(world.address()).unwrap();
    waits.send(&Request::post("/admin/pull/stuck", "").key(ADMIN_KEY)).unwrap();
    let mut pull = world.command(&["pull", "stuck"]);
    pull.env("ADMIN_API_KEY", ADMIN_KEY).stdout(Stdio::piped()).stderr(Stdio::piped());
    let pull = pull.spawn().unwrap();
    let mut is_asked = || world.send(&Request::get("/metrics").key(ADMIN_KEY)).status == 200;
    world.until("the daemon answers beside all that", &mut is_asked);

    assert!(world.interrupt().success());
    let log = world.log();
    assert!(!log.contains("did not finish in time"), "{log}");
    // Each of them hears of it as an end, and not as a broken connection.
    for watcher in &mut watchers {
        while watcher.chunk().unwrap().is_some() {}
    }
    let waited = waits.reply("POST").unwrap().expect(503).text();
    assert!(waited.contains("the daemon ends"), "{waited}");
    let pulled = Ran::of(pull.wait_with_output().unwrap());
    assert_eq!(pulled.code, 1, "{pulled:#?}");
}
