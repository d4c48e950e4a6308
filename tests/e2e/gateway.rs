//! What passes through the gateway to FastAPI and back, compared with what FastAPI gets where nothing is in between.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use crate::engine;
use crate::http::{Connection, Request};
use crate::websocket::WebSocket;
use crate::world::World;

/// Longer than any buffer that anybody would have.
const GIBIBYTE: usize = 1 << 30;

static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());

/// One world for all tests of this file that run at the same time: they only ask.
fn world() -> Arc<World> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = shared.upgrade() {
        return world;
    }
    let world = Arc::new(World::new());
    *shared = Arc::downgrade(&world);
    world.code("telling", include_str!("apps/telling.py"));
    world.settings("telling", "route: { max_body: 2GiB, timeout: 2m }\n");
    world.serve();
    world.expect_rest("telling", "synced", "healthy");
    world
}

/// Where the app itself listens.
fn app(world: &World) -> SocketAddr {
    let container = engine::inspect(&world.containers("telling")[0]).unwrap();
    let networks = container.network_settings.unwrap().networks.unwrap();
    let address = networks.into_values().find_map(|network| network.ip_address).unwrap();
    format!("{address}:8000").parse().unwrap()
}

/// Asks once through the gateway and once without it; both answers must say the same.
#[track_caller]
fn ask_both(world: &World, request: impl Fn(&str) -> Request) -> Value {
    let through = request("/run/telling").send(world.address()).expect(200);
    let direct = request("").send(app(world)).expect(200);
    let told = |reply: &crate::http::Reply| {
        let headers = reply.headers.iter().filter(|(name, _)| name.starts_with("x-told") || name == "content-type");
        headers.cloned().collect::<Vec<_>>()
    };
    assert_eq!(told(&through), told(&direct));
    assert_eq!(through.json(), direct.json());
    through.json()
}

#[test]
fn queries_headers_and_bodies_arrive_as_they_were_sent() {
    let world = world();
    let told = ask_both(&world, |prefix| {
        Request::get(format!("{prefix}/echo/a%20b/c;d?x=1&x=2&y=%C3%A4&z=a+b&empty=&bare&q=%2F%26"))
            .header("X-Test", "one")
            .header("X-Test", "two, three")
            .header("X-Test-Empty", "")
    });
    assert_eq!(told["raw_query"], "x=1&x=2&y=%C3%A4&z=a+b&empty=&bare&q=%2F%26");
    assert_eq!(told["headers"], json!([["x-test", "one"], ["x-test", "two, three"], ["x-test-empty", ""]]));
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let told = ask_both(&world, |prefix| Request {
            method: method.to_owned(),
            ..Request::post(format!("{prefix}/echo/{method}"), [0, 255, 13, 10]).header("Content-Type", "x/y")
        });
        assert_eq!(told["method"], method);
    }
    let head = world.send(&Request::new("HEAD", "/run/telling/head")).expect(200);
    assert_eq!((head.header("content-length"), head.header("x-head")), (Some("1234"), Some("yes")));
    assert!(head.body.is_empty());
    let get = world.get("telling", "/head").expect(405);
    assert_eq!(get.header("allow"), Some("HEAD"));
}

#[test]
fn two_files_of_one_name_stay_two_files() {
    let world = world();
    let boundary = "----a boundary";
    let mut body = Vec::new();
    for (name, content) in [("ä.bin", [0u8, 13, 10, 255].repeat(100_000)), ("b.txt", b"short".to_vec())] {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    let field = "Content-Disposition: form-data; name=\"note\"\r\n\r\nwith both";
    body.extend(format!("--{boundary}\r\n{field}\r\n--{boundary}--\r\n").into_bytes());
    let told = ask_both(&world, |prefix| {
        Request::post(format!("{prefix}/form"), body.clone())
            .header("Content-Type", format!("multipart/form-data; boundary=\"{boundary}\""))
    });
    let parts = told.as_array().unwrap();
    assert_eq!(parts.len(), 3, "{told:#}");
    assert_eq!((&parts[0][0], &parts[0][1], &parts[0][3]), (&"files".into(), &"ä.bin".into(), &400_000.into()));
    assert_eq!((&parts[1][0], &parts[1][1], &parts[1][3]), (&"files".into(), &"b.txt".into(), &5.into()));
    assert_eq!(parts[2], json!(["note", "with both"]));
}

#[test]
fn fastapis_own_pages_work_behind_the_prefix() {
    let world = world();
    let docs = world.get("telling", "/docs").expect(200).text();
    assert!(docs.contains("'/run/telling/openapi.json'"), "{docs}");
    let schema = world.get("telling", "/openapi.json").expect(200).json();
    assert_eq!(schema["servers"], json!([{ "url": "/run/telling" }]));
    let redirect = world.get("telling", "/sub?x=1").expect(307);
    assert_eq!(redirect.header("location"), Some("http://skep.test/run/telling/sub/?x=1"));
    assert_eq!(world.get("telling", "/sub/").expect(200).json(), "sub");
    assert_eq!(world.get("telling", "/nothing").expect(404).json(), json!({ "detail": "Not Found" }));
}

#[test]
fn a_websocket_talks_both_ways() {
    let world = world();
    let mut socket = WebSocket::open(world.address(), "/run/telling/ws?name=Ada");
    assert_eq!(socket.protocol.as_deref(), Some("telling"));
    for word in ["one", "two"] {
        socket.say(word);
        assert_eq!(socket.hear(), format!("Ada: {word}"));
    }
}

#[test]
fn an_event_arrives_before_the_stream_ends() {
    let world = world();
    let mut connection = Connection::open(world.address()).unwrap();
    connection.write(b"GET /run/telling/events HTTP/1.1\r\nhost: skep.test\r\n\r\n").unwrap();
    let head = connection.head().unwrap().expect(200);
    assert!(head.header("content-type").unwrap().starts_with("text/event-stream"));
    assert_eq!(connection.chunk().unwrap().unwrap(), b"data: first\n\n");
    // Only now may the app go on.
    world.send(&Request::post("/run/telling/go", "")).expect(200);
    assert_eq!(connection.chunk().unwrap().unwrap(), b"data: last\n\n");
    assert_eq!(connection.chunk().unwrap(), None);
}

#[test]
fn a_large_upload_passes_through_and_does_not_stay() {
    let world = world();
    let resident = |field: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let block = vec![b'x'; 1 << 20];
    for is_chunked in [false, true] {
        let framing =
            if is_chunked { "transfer-encoding: chunked".to_owned() } else { format!("content-length: {GIBIBYTE}") };
        let before = resident("VmRSS");
        let mut connection = Connection::open(world.address()).unwrap();
        let head = format!("POST /run/telling/count HTTP/1.1\r\nhost: skep.test\r\n{framing}\r\n\r\n");
        connection.write(head.as_bytes()).unwrap();
        for _ in 0..GIBIBYTE / block.len() {
            if is_chunked {
                connection.write(format!("{:x}\r\n", block.len()).as_bytes()).unwrap();
            }
            connection.write(&block).unwrap();
            if is_chunked {
                connection.write(b"\r\n").unwrap();
            }
        }
        if is_chunked {
            connection.write(b"0\r\n\r\n").unwrap();
        }
        assert_eq!(connection.reply("POST").unwrap().expect(200).json(), json!({ "bytes": GIBIBYTE }));
        // The peak: what was resident at any moment, also in between.
        let growth = resident("VmHWM").saturating_sub(before);
        assert!(growth < 32 << 20, "the daemon grew by {growth} bytes; chunked: {is_chunked}");
    }
}
