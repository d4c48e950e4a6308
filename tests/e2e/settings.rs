//! Settings that only the gateway needs take effect without a restart.

use crate::apps::saying;
use crate::http::Request;
use crate::world::World;

#[test]
fn a_settings_only_change_restarts_nothing_and_takes_effect() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    let before = world.containers("hello");

    world.settings("hello", "route: { timeout: 100ms, max_body: 1KiB }\n");
    let late = world.expect_status("hello", "/slow", 504).json();
    assert!(late["error"].as_str().unwrap().contains("0.1 s"), "{late}");
    assert!(late["request_id"].is_string());
    let large = world.send(&Request::post("/run/hello/", vec![b'x'; 2048])).expect(413).json();
    assert!(large["error"].as_str().unwrap().contains("1024 bytes"), "{large}");
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");

    world.settings("hello", "rate_limit: { requests: 2, per: 1h }\n");
    let refused = world.expect_status("hello", "/", 429);
    let number = |name: &str| refused.header(name).unwrap_or_else(|| panic!("no {name}")).parse::<u64>().unwrap();
    assert_eq!(number("x-ratelimit-limit"), 2);
    assert_eq!(number("x-ratelimit-remaining"), 0);
    assert!(number("x-ratelimit-reset") > 0);
    assert!((1..=3600).contains(&number("retry-after")));

    world.settings("hello", "route: { public: false }\n");
    world.expect_status("hello", "/", 401);
    let of = |request: Request| {
        let reply = world.send(&request).expect(401);
        let mut body = reply.json();
        assert!(body.as_object_mut().unwrap().remove("request_id").is_some());
        (body, reply.header("www-authenticate").map(ToOwned::to_owned))
    };
    let none = of(Request::get("/run/hello/"));
    assert_eq!(of(Request::get("/run/hello/").key("skep_wrong")), none);
    assert_eq!(of(Request::get("/run/nobody/")), none);
    assert_eq!(of(Request::get("/run/nobody/").key("skep_wrong")), none);
    assert_eq!(none.1.as_deref(), Some("Bearer"));

    world.settings("hello", "");
    world.expect_answer("hello", "/", "one");
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.containers("hello"), before, "something was restarted");
}
