//! Floods: callers who send much that asks for nothing, and crowds who take their time. They are sent away, and others
//! are served meanwhile.

use std::sync::Arc;
use std::time::Duration;

use skep::gateway::Limits;
use skep::tree::Auth;
use skep::usage::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{World, app, eventually, telling_app, text};

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The fields of a request without compression (RFC 7541, section 6.2.2).
fn head(path: &str) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a")];
    let field = |(name, value): (&str, &str)| {
        let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
        [&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
    };
    fields.into_iter().flat_map(field).collect()
}

/// Frames that are sent again and again until the connection ends; how many were.
async fn flood(world: &World, before: &[u8], again: &[u8]) -> usize {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    // What it is told, it does not care for.
    let ears = tokio::spawn(async move { while reader.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} });
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..], before].concat();
    writer.write_all(&preface).await.unwrap();
    let mut sent = 0;
    while sent < 1_000_000 && writer.write_all(again).await.is_ok() {
        sent += 1;
    }
    ears.abort();
    sent
}

#[tokio::test]
async fn frames_that_ask_for_nothing_end_their_connection_and_no_other() {
    let world = World::new().await;
    let never = app(async |request| {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        text("never")
    })
    .await;
    let upstreams = world.route("open", &[never], |spec| spec.route.auth = Auth::None);
    world.route("hello", &[telling_app().await], |_| ());
    let mut good = world.client().await;
    let begun = frame(1, 4, 1, &head("/run/open/"));
    for (what, before, again) in [
        ("PING", &[][..], frame(6, 0, 0, b"12345678")),
        ("SETTINGS", &[], frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("PRIORITY", &[], frame(2, 0, 3, &[0, 0, 0, 0, 1])),
        ("an unknown type", &[], frame(77, 0, 0, b"x")),
        ("empty DATA", &begun, frame(0, 0, 1, b"")),
        ("windows", &begun, frame(8, 0, 1, &[0, 0, 0, 1])),
    ] {
        let sent = timeout(Duration::from_secs(60), flood(&world, before, &again)).await.expect(what);
        assert!(sent < 1_000_000, "{what} goes on for ever");
        assert_eq!(good.ask(world.head("GET /run/hello", "")).await.status, 200, "{what}");
    }
    eventually(|| upstreams[0].in_flight() == 0).await;
}

#[tokio::test]
async fn a_crowd_that_takes_its_time_is_given_up_and_others_are_served_meanwhile() {
    const CROWD: usize = 300;
    let brief = Duration::from_secs(1);
    let limits = Limits { head_timeout: brief, body_silence: brief, write_silence: brief, ..Limits::default() };
    let world = Arc::new(World::with(limits).await);
    let large = app(async |request| {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        text(vec![0; 4 << 20])
    })
    .await;
    let upstreams = world.route("slow", &[large], |spec| {
        spec.route.auth = Auth::None;
        spec.route.max_in_flight = 1000;
    });
    world.route("hello", &[telling_app().await], |_| ());
    let mut crowd = JoinSet::new();
    for number in 0..CROWD {
        let beginning = match number % 3 {
            0 => "GET /run/slow HTTP/1.1\r\nHost: ".to_owned(),
            1 => "POST /run/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab".to_owned(),
            _ => "GET /run/slow HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        };
        let mut client = world.client().await;
        crowd.spawn(async move {
            client.send(beginning).await;
            // Nothing is read, until the other side has had enough.
            tokio::time::sleep(Duration::from_secs(4)).await;
            client.drain().await
        });
    }
    let mut good = world.client().await;
    while !crowd.is_empty() {
        assert_eq!(good.ask(world.head("GET /run/hello", "")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
        while let Some(given_up) = crowd.try_join_next() {
            assert!(given_up.unwrap());
        }
    }
    eventually(|| upstreams[0].in_flight() == 0).await;
}

#[tokio::test]
async fn unknown_keys_leave_nothing_behind() {
    let counter = Arc::new(Counter::default());
    let world = World::tallying(Limits::default(), Arc::clone(&counter)).await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    for number in 0..5000 {
        let head = format!("GET /run/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer skep_{number:064}\r\n\r\n");
        assert_eq!(client.ask(head).await.status, 401);
    }
    // One sum of all, or two, where a minute ended meanwhile.
    assert!(counter.waiting() <= 2, "{}", counter.waiting());
}
