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

#[test]
fn a_broken_skep_yaml_is_told_wherever_somebody_asks_and_stops_no_command_that_is_wanted_then() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    let key = world.run(&["keys", "create", "--name", "leaked", "--output", "json"]).expect(0).json();
    let id = key["key"]["id"].as_str().unwrap();
    world.run(&["hold", "hello"]).expect(0);
    let admin_key = std::fs::read_to_string(world.state().join("admin.key")).unwrap();
    let admin_key = admin_key.trim();
    let sound = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    let health = || world.send(&Request::get("/health")).expect(200).json();
    assert_eq!(health()["status"], "healthy");

    world.write("skep.yaml", &format!("{sound}gatewy: {{}}\n"));
    world.until("health says so", || health()["status"] == "degraded");
    let told = health()["settings"].as_str().unwrap().to_owned();
    assert!(told.contains("skep.yaml") && !told.contains("gatewy"), "anybody may read it: {told}");
    let admin = |request: Request| world.send(&request.key(admin_key)).expect(200).json();
    let told = admin(Request::get("/health"))["settings"].as_str().unwrap().to_owned();
    assert!(told.starts_with("skep.yaml:") && told.contains("gatewy"), "{told}");
    let plan = admin(Request::get("/admin/plan"));
    let findings = plan["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["path"] == "skep.yaml"), "{plan}");
    let reloaded = admin(Request::post("/admin/reload", Vec::new()));
    assert_eq!((&reloaded["success"], &reloaded["settings"]), (&false.into(), &told.into()), "{reloaded}");
    world.expect_answer("hello", "/", "one");

    // What is wanted while something is wrong.
    for command in [
        ["events", "hello"].as_slice(),
        &["usage"],
        &["history", "hello"],
        &["logs", "hello"],
        &["release", "hello"],
        &["keys", "list"],
        &["keys", "revoke", id],
    ] {
        let ran = world.run(command).expect(0);
        assert!(ran.err.contains("skep.yaml:") && ran.err.contains("gatewy"), "{command:?}: {}", ran.err);
    }

    // Of what is no YAML nothing is sound, and nobody guesses.
    world.write("skep.yaml", &format!("{sound}\tdefaults: {{}}\n"));
    assert!(world.run(&["keys", "list"]).expect(1).err.contains("skep.yaml:"));

    world.write("skep.yaml", &sound);
    world.until("all is well again", || health()["status"] == "healthy");
    assert_eq!(admin(Request::post("/admin/reload", Vec::new()))["success"], true);
}
