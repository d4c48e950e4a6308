//! The APIs that this repository carries, served by skep and called as their users would.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::http::{Connection, Request};
use crate::websocket::WebSocket;
use crate::world::World;

const PICTURE: &[u8] = include_bytes!("apps/picture.png");

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A form with one file.
fn upload(target: &str, file: &str, content: &[u8]) -> Request {
    let mut body = format!(
        "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend(content);
    body.extend(b"\r\n--limit--\r\n");
    Request::post(target, body).header("content-type", "multipart/form-data; boundary=limit")
}

#[test]
fn the_apis_of_this_repository_do_what_they_are_for() {
    let world = World::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("apis"), &world.root().join("apis"));
    world.write("skep.yaml", &World::apart("defaults:\n"));
    world.serve();
    let key = world.run(&["keys", "create", "--name", "tests"]).expect(0).out.trim().to_owned();
    let ids: Vec<String> = fs::read_dir(world.root().join("apis"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(ids.len(), 8, "an API without a call below is not tested: {ids:?}");
    for id in &ids {
        world.expect_rest(id, "synced", "healthy");
    }
    let ask = |request: Request| world.send(&request.key(&key));

    let hello = ask(Request::get("/run/hello?name=Ada")).expect(200);
    assert_eq!(hello.json(), json!({ "message": "Hello, Ada!" }));

    let thumbnail = ask(upload("/run/thumbnails/thumbnail?width=64&height=64&format=png", "p.png", PICTURE));
    let thumbnail = thumbnail.expect(200);
    assert_eq!(thumbnail.header("content-type"), Some("image/png"));
    assert_eq!(&thumbnail.body[..8], &PICTURE[..8]);
    // Width and height, as they stand in the first chunk of a PNG; the proportions are kept.
    assert_eq!(&thumbnail.body[16..24], [0, 0, 0, 64, 0, 0, 0, 48]);
    ask(upload("/run/thumbnails/thumbnail", "p.png", b"no picture")).expect(415);

    let table = b"city,inhabitants\nUlm,126949\nBonn,\nTrier,110000\n";
    let stats = ask(upload("/run/csv-stats/stats", "t.csv", table)).expect(200).json();
    assert_eq!(stats["rows"], 3);
    assert_eq!(stats["columns"][1]["mean"], 118_474.5, "{stats:#}");
    assert_eq!(stats["columns"][1]["missing"], 1);

    let guess = ask(Request::json("/run/slow-start/guess", &json!({ "text": "Der Bär ist nicht aus dem Wald." })));
    assert_eq!(guess.expect(200).json()["language"], "de");

    let order = json!({ "customer": "Ada", "lines": [{ "sku": "MUG-01", "quantity": 2, "unit_price": "19.99" }] });
    let take = || ask(Request::json("/run/orders/orders", &order).header("idempotency-key", "once"));
    let first = take().expect(201).json();
    assert_eq!(first["totals"]["total"], "44.88", "{first:#}");
    assert_eq!(take().expect(200).json(), first);
    ask(Request::json("/run/orders/quotes", &json!({ "customer": "Ada", "lines": [] }))).expect(422);

    // Public: no key.
    let text = json!({ "text": "Ring me on +44 20 7946 0958 or ada@example.org." });
    let redacted = world.send(&Request::json("/run/redact/redact", &text)).expect(200).json();
    assert_eq!(redacted["text"], "Ring me on [phone] or [email].");
    assert_eq!(world.instances("redact").len(), 2);

    let request = format!(
        "GET /run/ticker/stream?count=3&interval=0.01 HTTP/1.1\r\nhost: skep.test\r\nlast-event-id: 7\r\n\
         authorization: Bearer {key}\r\n\r\n"
    );
    let mut connection = Connection::open(world.address()).unwrap();
    connection.write(request.as_bytes()).unwrap();
    let stream = connection.reply("GET").unwrap().expect(200).text();
    let ticks: Vec<&str> = stream.lines().filter(|line| line.starts_with("id:")).collect();
    assert_eq!(ticks, ["id: 8", "id: 9", "id: 10"], "{stream}");

    let heard = |socket: &mut WebSocket| {
        let event: serde_json::Value = serde_json::from_str(&socket.hear()).unwrap();
        format!("{} {} {}", event["who"], event["kind"], event["text"]).replace('"', "")
    };
    let mut ada = WebSocket::open(world.address(), "/run/rooms/rooms/den?name=Ada");
    assert_eq!(heard(&mut ada), "Ada joined ");
    let mut bob = WebSocket::open(world.address(), "/run/rooms/rooms/den?name=Bob");
    assert_eq!(heard(&mut bob), "Bob joined ");
    assert_eq!(heard(&mut ada), "Bob joined ");
    bob.say("Good morning");
    assert_eq!(heard(&mut ada), "Bob said Good morning");
    assert_eq!(heard(&mut bob), "Bob said Good morning");
    drop(bob);
    assert_eq!(heard(&mut ada), "Bob left ");
    let page = world.get("rooms", "/").expect(200).text();
    assert!(page.contains("/run/rooms"), "{page}");

    assert!(world.run(&["check"]).expect(0).out.contains("8 APIs"));
    assert_eq!(world.plan()["apis"], json!([]));
}
