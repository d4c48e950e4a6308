//! What dashboards and people ask of a running daemon, and what they get.

use serde_json::{Value, json};

use crate::apps::saying;
use crate::http::{Connection, Reply, Request};
use crate::world::World;

struct Desk {
    world: World,
    key: String,
}

impl Desk {
    fn open() -> Self {
        let world = World::new();
        world.code("hello", &saying("one"));
        world.serve();
        world.expect_rest("hello", "synced", "healthy");
        let key = std::fs::read_to_string(world.state().join("admin.key")).unwrap().trim().to_owned();
        Self { world, key }
    }

    fn ask(&self, method: &str, path: &str) -> Reply {
        self.world.send(&Request::new(method, path).key(&self.key))
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        self.ask("GET", path).expect(200).json()
    }
}

#[test]
fn dashboards_find_the_paths_and_shapes_that_they_know() {
    let desk = Desk::open();
    let all = desk.get("/admin/deployments");
    assert_eq!(all["success"], true);
    let hello = &all["deployments"]["hello"];
    assert_eq!((&hello["status"], &hello["sync"], &hello["ready"]), (&json!("running"), &json!("synced"), &json!(1)));
    assert!(hello["image"].as_str().unwrap().contains("/api-hello:"), "{hello}");
    assert!(hello["port"].is_u64(), "{hello}");

    let one = desk.get("/admin/deployment/hello");
    assert_eq!((&one["success"], &one["api_id"]), (&json!(true), &json!("hello")));
    let health = &one["health"];
    assert_eq!(health["status"], "running");
    let used = health["memory_usage_mb"].as_f64().unwrap();
    assert!((1.0..512.0).contains(&used), "{health}");
    let percent = health["memory_percent"].as_f64().unwrap();
    assert!((percent - used * 100.0 / 512.0).abs() < 0.1, "{health}");
    assert!(health["cpu_percent"].as_f64().unwrap() < 150.0, "{health}");
    desk.ask("GET", "/admin/deployment/nobody").expect(404);

    let found = desk.get("/api/diagnostics/hello");
    assert_eq!((&found["container"]["status"], &found["database"]["status"]), (&json!("running"), &json!("healthy")));

    let reloaded = desk.ask("POST", "/admin/reload/hello").expect(200).json();
    assert_eq!(reloaded, json!({ "success": true, "message": "API hello redeployed" }));
    let reloaded = desk.ask("POST", "/admin/reload").expect(200).json();
    assert_eq!((&reloaded["success"], &reloaded["deployed_apis"]), (&json!(true), &json!(1)));
    let cleaned = desk.ask("POST", "/admin/cleanup").expect(200).json();
    assert_eq!((&cleaned["success"], &cleaned["remaining_deployments"]), (&json!(true), &json!(1)));
    assert_eq!(desk.get("/admin/plan")["apis"], json!([]));
    assert_eq!(desk.get("/admin/history/hello")["revisions"][0]["serves_now"], true);
    assert_eq!(desk.get("/admin/openapi.json")["openapi"], "3.1.0");
}

#[test]
fn what_is_stopped_stays_stopped_over_pushes_and_restarts_until_it_is_started() {
    let desk = Desk::open();
    let world = &desk.world;
    let stop = Request::json("/admin/deployment/hello/stop", &json!({ "why": "it costs too much" })).key(&desk.key);
    let stopped = world.send(&stop).expect(200).json();
    assert_eq!(stopped, json!({ "success": true, "message": "API hello stopped" }));
    let paused = world.expect_status("hello", "/", 503).json();
    assert_eq!(paused["error"], "API is paused");
    world.until("nothing of it runs", || world.instances("hello").is_empty());
    let held = &desk.get("/admin/holds")["holds"]["hello"];
    assert_eq!((&held["stopped"], &held["why"]), (&json!(true), &json!("it costs too much")));
    let plan = world.run(&["plan"]).expect(0).out;
    assert!(plan.contains("stopped by the control surface") && plan.contains("it costs too much"), "{plan}");

    world.code("hello", &saying("two"));
    world.crash();
    world.serve();
    world.expect_rest("hello", "held", "stopped");
    world.expect_status("hello", "/", 503);

    let started = desk.ask("POST", "/admin/deployment/hello/start").expect(200).json();
    assert_eq!(started["message"], "API hello deployed");
    world.expect_answer("hello", "/", "two");
    desk.ask("POST", "/admin/deployment/nobody/start").expect(404);
    desk.ask("POST", "/admin/deployment/nobody/stop").expect(404);
}

#[test]
fn nobody_learns_anything_without_the_admin_key() {
    let desk = Desk::open();
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/admin/deployments"),
        ("GET", "/admin/nothing"),
        ("POST", "/admin/deployment/hello/stop"),
        ("GET", "/api/diagnostics/hello"),
        ("DELETE", "/admin/holds/hello"),
    ] {
        desk.world.send(&Request::new(method, path)).expect(401);
        desk.world.send(&Request::new(method, path).key("wrong")).expect(401);
    }
    for path in [
        "//admin/deployments",
        "///admin/keys",
        "//metrics",
        "/./admin/keys",
        "//api/diagnostics/hello",
        "/%61dmin/keys",
    ] {
        let answer = desk.world.send(&Request::new("GET", path));
        assert!(matches!(answer.status, 400 | 401 | 404), "{path}: {answer:?}");
    }
    desk.ask("GET", "/admin/nothing").expect(404);
    let refused = desk.ask("GET", "/admin/deployment/hello/stop").expect(405);
    assert_eq!(refused.header("allow"), Some("POST"));
}

#[test]
fn requests_and_steps_are_counted() {
    let desk = Desk::open();
    for _ in 0..3 {
        desk.world.get("hello", "/").expect(200);
    }
    let text = desk.ask("GET", "/metrics").expect(200).text();
    let value = |line: &str| text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok());
    assert!(value("skep_http_requests_total{api=\"hello\",code=\"200\"}").unwrap() >= 3.0, "{text}");
    assert_eq!(value("skep_routed_instances{api=\"hello\"}"), Some(1.0), "{text}");
    assert_eq!(value("skep_apis{state=\"serving\"}"), Some(1.0), "{text}");
    assert!(value("skep_step_duration_seconds_count{step=\"start\"}").unwrap() >= 1.0, "{text}");
    let json = desk.world.send(&Request::get("/metrics").key(&desk.key).header("accept", "application/json"));
    assert!(json.expect(200).json()["skep_http_requests_total"].is_array());
}

#[test]
fn events_and_output_are_streamed_while_somebody_watches() {
    let desk = Desk::open();
    let last = desk.get("/admin/events?limit=1")["events"][0]["number"].as_u64().unwrap();
    let mut stream = Connection::open(desk.world.address()).unwrap();
    let key = &desk.key;
    let head = format!(
        "GET /admin/events?api=hello&after={last} HTTP/1.1\r\nhost: here\r\naccept: text/event-stream\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    stream.write(head.as_bytes()).unwrap();
    assert_eq!(stream.head().unwrap().header("content-type"), Some("text/event-stream"));
    desk.world.code("hello", &saying("two"));
    let mut heard = String::new();
    while !heard.contains("event: serving") {
        heard.push_str(&String::from_utf8(stream.chunk().unwrap().expect("it goes on")).unwrap());
    }
    assert!(heard.contains("\"api\":\"hello\""), "{heard}");
    let lines = desk.get("/admin/logs/hello?tail=5");
    assert!(!lines["lines"].as_array().unwrap().is_empty(), "{lines}");
}

#[test]
fn keys_are_made_rotated_and_revoked_over_the_surface() {
    let desk = Desk::open();
    let world = &desk.world;
    world.settings("hello", "route: { auth: key }\n");
    world.expect_status("hello", "/", 401);
    let post = |path: &str, body: &Value, status: u16| {
        world.send(&Request::json(path, body).key(&desk.key)).expect(status).json()
    };
    let ask = |key: &Value| world.send(&Request::get("/run/hello/").key(key.as_str().unwrap())).status;

    let wish = json!({ "name": "shop", "apis": ["hello"], "expires": "90d", "methods": ["get"], "limit": "100/1m" });
    let made = post("/admin/keys", &wish, 201);
    assert_eq!(ask(&made["secret"]), 200);
    let id = made["key"]["id"].as_str().unwrap();
    let known = &desk.get("/admin/keys")["keys"];
    assert_eq!((&known[0]["id"], &known[0]["name"]), (&json!(id), &json!("shop")));
    assert!(!known.to_string().contains(made["secret"].as_str().unwrap()), "{known}");

    let rotated = post(&format!("/admin/keys/{id}/rotate"), &json!({ "overlap": "1h" }), 201);
    assert_eq!((ask(&made["secret"]), ask(&rotated["secret"])), (200, 200));
    assert_eq!(rotated["key"]["methods"], json!(["GET"]));
    desk.ask("DELETE", &format!("/admin/keys/{id}")).expect(200);
    assert_eq!((ask(&made["secret"]), ask(&rotated["secret"])), (401, 200));

    for (body, why) in [
        (json!({}), "missing field `name`"),
        (json!({ "name": "" }), "1 to 100 characters"),
        (json!({ "name": "x", "apis": [] }), "opens nothing"),
        (json!({ "name": "x", "plan": "gold" }), "no plan"),
        (json!({ "name": "x", "expires": "1999-01-01" }), "over already"),
        (json!({ "name": "x", "scope": "all" }), "unknown field"),
    ] {
        let error = post("/admin/keys", &body, 400)["error"].to_string();
        assert!(error.contains(why), "{body}: {error}");
    }
    desk.ask("POST", "/admin/keys").expect(400);
    desk.ask("DELETE", "/admin/keys/k_00000000").expect(404);
    // Who asks twice is not told that it went wrong.
    desk.ask("DELETE", &format!("/admin/keys/{id}")).expect(200);
    world.send(&Request::new("GET", "/admin/keys")).expect(401);
}

#[test]
fn one_document_describes_what_a_caller_may_call() {
    let world = World::new();
    let items = "from fastapi import FastAPI\nfrom pydantic import BaseModel\n\napp = FastAPI(title='Shop')\n\n\n\
        class Item(BaseModel):\n    name: str\n\n\n@app.get('/items')\nasync def items() -> list[Item]:\n    return []\n";
    world.code("hello", items);
    world.code("secret", items);
    world.settings("secret", "route: { auth: key }\n");
    world.code("plain", &saying("plain"));
    world.code("elsewhere", items);
    world.settings("elsewhere", "route: { deny: [127.0.0.0/8] }\n");
    world.serve();
    for id in ["hello", "secret", "plain", "elsewhere"] {
        world.expect_rest(id, "synced", "healthy");
    }
    let paths = |document: &Value| document["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let public = world.send(&Request::get("/openapi.json")).expect(200).json();
    assert!(paths(&public).contains(&"/run/hello/items".to_owned()), "{public}");
    assert!(!public.to_string().contains("secret"), "{public}");
    let root = world.send(&Request::get("/")).expect(200).json();
    assert_eq!(root["public_apis"], json!(["hello", "plain"]));
    assert!(!public.to_string().contains("elsewhere"), "whom an address list keeps out is not told either: {public}");
    let schema =
        &public["paths"]["/run/hello/items"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(schema["items"]["$ref"], "#/components/schemas/hello.Item");
    assert!(public["components"]["schemas"]["hello.Item"].is_object());
    assert_eq!(public["servers"], json!([{ "url": "/" }]));
    // What it says, is so.
    world.send(&Request::get("/run/hello/items")).expect(200);

    let key = world.run(&["keys", "create", "--name", "k", "--api", "secret"]).expect(0).out.trim().to_owned();
    let all = world.send(&Request::get("/openapi.json").key(&key)).expect(200).json();
    let operation = &all["paths"]["/run/secret/items"]["get"];
    assert_eq!(operation["security"], json!([{ "skep.key": [] }]), "{all}");

    world.code("hello", &items.replace("/items", "/things"));
    world.until("the new revision is described", || {
        paths(&world.send(&Request::get("/openapi.json")).json()).contains(&"/run/hello/things".to_owned())
    });
}

#[test]
fn the_surface_may_have_an_address_of_its_own() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve_with(&[("SKEP_ADMIN_LISTEN", "127.0.0.1:0")]);
    world.expect_rest("hello", "synced", "healthy");
    let control = world.address();
    let gateway = world.wait("it says where it listens", || {
        let log = world.log();
        log.rsplit_once("on http://")?.1.split_whitespace().next()?.parse().ok()
    });
    assert_ne!(control, gateway);
    let key = std::fs::read_to_string(world.state().join("admin.key")).unwrap().trim().to_owned();
    for path in ["/admin/deployments", "/metrics", "/api/diagnostics/hello"] {
        Request::get(path).key(&key).send(control).expect(200);
        Request::get(path).send(control).expect(401);
        Request::get(path).key(&key).send(gateway).expect(404);
    }
    for address in [control, gateway] {
        assert_eq!(Request::get("/health").send(address).expect(200).json()["status"], "healthy");
    }
    assert_eq!(Request::get("/run/hello/").send(gateway).expect(200).text(), "one");
    Request::get("/run/hello/").send(control).expect(401);
    // Commands find it.
    world.code("hello", &saying("two"));
    world.run(&["apply"]).expect(0);
    assert_eq!(Request::get("/run/hello/").send(gateway).expect(200).text(), "two");
}
