//! What callers have asked is counted, and written down once, whatever becomes of the daemon and of the records.

use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::http::Request;
use crate::world::World;

/// Answers 404 to `/missing`, and else with eleven bytes.
const APP: &str = r#"
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    status, body = (404, b"none") if scope["path"].endswith("/missing") else (200, b"twelve less")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
"#;

struct Counted {
    world: World,
}

impl Counted {
    /// Two APIs; `hello` wants a key, and `open` does not.
    fn begin() -> Self {
        let world = World::new();
        world.code("hello", APP);
        world.settings("hello", "route: { auth: key }\n");
        world.code("open", APP);
        world.serve();
        world.expect_rest("hello", "synced", "healthy");
        world.expect_rest("open", "synced", "healthy");
        Self { world }
    }

    fn key(&self, name: &str) -> String {
        self.world.run(&["keys", "create", "--name", name]).expect(0).out.trim().to_owned()
    }

    #[track_caller]
    fn usage(&self, arguments: &[&str]) -> Value {
        self.world.run(&[&["usage", "--output", "json"], arguments].concat()).expect(0).json()
    }

    /// How many requests the records have.
    #[track_caller]
    fn total(&self) -> u64 {
        self.usage(&[])["total"]["requests"].as_u64().unwrap()
    }

    #[track_caller]
    fn ask(&self, count: u64) {
        for _ in 0..count {
            self.world.get("open", "/").expect(200);
        }
    }
}

#[test]
fn every_request_is_counted_by_api_key_and_status_and_shown_on_both_ways() {
    let counted = Counted::begin();
    let world = &counted.world;
    let (web, app) = (counted.key("website"), counted.key("app"));
    for _ in 0..7 {
        world.send(&Request::get("/run/hello/").key(&web)).expect(200);
    }
    for _ in 0..3 {
        world.send(&Request::get("/run/hello/missing").key(&web)).expect(404);
    }
    for _ in 0..5 {
        world.send(&Request::post("/run/hello/", vec![7; 1000]).key(&app)).expect(200);
    }
    world.send(&Request::get("/run/hello/")).expect(401);
    counted.ask(4);
    world.until("all are written down", || counted.total() == 20);

    let by_api = counted.usage(&[]);
    let part = |usage: &Value, name: &str, is: &str| {
        usage["usage"].as_array().unwrap().iter().find(|part| part[name] == is).cloned().unwrap_or_default()
    };
    let hello = part(&by_api, "api", "hello");
    assert_eq!(
        (&hello["requests"], &hello["client_errors"], &hello["server_errors"]),
        (&16.into(), &4.into(), &0.into())
    );
    assert_eq!(hello["bytes_in"], 5000);
    assert!(hello["latency"]["p99"].as_f64().unwrap() > 0.0, "{hello}");
    let open = part(&by_api, "api", "open");
    assert_eq!((&open["requests"], &open["bytes_out"]), (&4.into(), &44.into()));

    let by_key = counted.usage(&["hello", "--by", "key"]);
    let requests = |name: &str| part(&by_key, "name", name)["requests"].clone();
    assert_eq!((requests("website"), requests("app")), (10.into(), 5.into()), "{by_key}");
    assert_eq!(part(&by_key, "key", "none")["requests"], 1);
    let by_status = counted.usage(&["hello", "--by", "status"]);
    let statuses: Vec<_> =
        by_status["usage"].as_array().unwrap().iter().map(|part| [&part["status"], &part["requests"]]).collect();
    assert_eq!(serde_json::json!(statuses), serde_json::json!([[200, 12], [401, 1], [404, 3]]));

    // A key that is revoked keeps its name.
    let id = part(&by_key, "name", "website")["key"].as_str().unwrap().to_owned();
    world.run(&["keys", "revoke", &id]).expect(0);
    let text = world.run(&["usage", "--key", &id, "--by", "key"]).expect(0).out;
    assert!(text.contains(&format!("website ({id})")) && text.contains("10"), "{text}");
    assert!(world.run(&["usage", "--since", "2100-01-01"]).expect(0).out.starts_with("Nothing was asked since"));
    world.run(&["usage", "--by", "colour"]).expect(2);

    let admin = std::fs::read_to_string(world.state().join("admin.key")).unwrap().trim().to_owned();
    let get = |path: &str| world.send(&Request::get(path).key(&admin));
    let mut answer = get("/admin/usage?api=hello&by=key&since=24h").expect(200).json();
    // Each knows the moment at which it was asked.
    answer["since"] = by_key["since"].clone();
    assert_eq!(answer, by_key);
    get("/admin/usage?by=colour").expect(400);
    get("/admin/usage?since=yesterday").expect(400);
    world.send(&Request::get("/admin/usage")).expect(401);
}

#[test]
fn a_daemon_that_is_killed_again_and_again_loses_no_request_of_more_than_a_second_ago_and_counts_none_twice() {
    let counted = Counted::begin();
    let world = &counted.world;
    let mut sure = 0;
    for round in 0..4 {
        counted.ask(25);
        sure += 25;
        std::thread::sleep(Duration::from_secs(1));
        // These may be lost.
        let late = round * 10;
        counted.ask(late);
        world.crash();
        let total = counted.total();
        assert!((sure..=sure + late).contains(&total), "{total} are there, of {sure} and {late}");
        world.serve();
        sure = total;
        world.until("the app is found again", || {
            sure += 1;
            world.get("open", "/").status == 200
        });
    }
    // One that is told to end writes down what it has counted, to the last request.
    counted.ask(25);
    assert!(world.interrupt().success());
    assert_eq!(counted.total(), sure + 25);
}

#[test]
fn while_the_records_are_locked_callers_are_served_and_all_that_was_counted_is_there_once_in_the_end() {
    let counted = Counted::begin();
    let world = &counted.world;
    counted.ask(10);
    world.until("the first are written down", || counted.total() == 10);
    let other = Connection::open(world.state().join("records.db")).unwrap();
    let admin = std::fs::read_to_string(world.state().join("admin.key")).unwrap().trim().to_owned();
    let metric = |name: &str| {
        let text = world.send(&Request::get("/metrics").key(&admin)).expect(200).text();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap()
    };

    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..20 {
        counted.ask(10);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Two tries have failed by then, and each has waited for five seconds.
    world.until("writing has failed twice", || metric("skep_usage_write_failures_total") >= 2);
    assert!(metric("skep_usage_waiting") > 0);
    counted.ask(10);
    let written: i64 = other.query_row("SELECT sum(requests) FROM usage", [], |row| row.get(0)).unwrap();
    assert_eq!(written, 10, "nothing can be written");
    other.execute_batch("COMMIT").unwrap();
    world.until("all are written down", || counted.total() >= 220);
    world.until("nothing waits", || metric("skep_usage_waiting") == 0);
    assert_eq!(counted.total(), 220);
    assert!(world.log().contains("what was counted is written down again"), "{}", world.log());
}

#[test]
fn two_daemons_count_side_by_side() {
    let counted = Counted::begin();
    let world = &counted.world;
    let second = world.serve_beside();
    let before = counted.total();
    let request = Request::get("/run/open/");
    let mut asked = 0;
    world.until("both serve", || {
        asked += 1;
        request.send(second.address).status == 200
    });
    for _ in 0..20 {
        counted.ask(1);
        request.send(second.address).expect(200);
    }
    // The second one ends with manners, and so writes down what it has counted.
    drop(second);
    world.until("all are written down", || counted.total() == before + asked + 40);
}
