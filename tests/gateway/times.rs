//! Times: how long an answer and a body may take, and who is given up.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use skep::gateway::Limits;

use crate::world::{AppBody, World, app, eventually, telling_app, text};

/// An answer of a byte now and then, for ever; or of one byte and silence.
fn dripping(every: Option<Duration>, kind: &str) -> Response<AppBody> {
    let drops = futures_util::stream::unfold(true, move |is_first| async move {
        match every {
            _ if is_first => {}
            Some(every) => tokio::time::sleep(every).await,
            None => std::future::pending().await,
        }
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))), false))
    });
    let body = StreamBody::new(drops).map_err(|never| match never {}).boxed();
    Response::builder().header("content-type", kind).body(body).unwrap()
}

#[tokio::test]
async fn an_answer_that_falls_silent_or_never_ends_is_broken_off_and_one_of_events_is_not() {
    let world = World::new().await;
    let brief = "300ms".parse().unwrap();
    let silent = app(async |_| dripping(None, "text/plain")).await;
    let silent = world.route("silent", &[silent], |spec| spec.route.idle = brief);
    let endless = app(async |_| dripping(Some(Duration::from_millis(50)), "text/plain")).await;
    let endless = world.route("endless", &[endless], |spec| spec.route.total = brief);
    let events = app(async |_| dripping(None, "text/event-stream")).await;
    let events = world.route("events", &[events], |spec| (spec.route.idle, spec.route.total) = (brief, brief));
    let mut listener = world.client().await;
    listener.send(world.head("GET /run/events", "")).await;
    assert_eq!(listener.head().await.status, 200);
    for (id, upstream) in [("silent", &silent[0]), ("endless", &endless[0])] {
        let mut client = world.client().await;
        client.send(world.head(&format!("GET /run/{id}"), "")).await;
        assert_eq!(client.head().await.status, 200);
        assert!(client.drain().await, "{id}");
        assert_eq!(upstream.in_flight(), 0, "{id}");
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(events[0].in_flight(), 1);
}

#[tokio::test]
async fn a_body_that_comes_a_byte_now_and_then_is_given_up_and_a_slow_app_is_no_fault_of_its_caller() {
    let world = World::with(Limits { body_silence: Duration::from_millis(500), ..Limits::default() }).await;
    let reading = app(async |request| {
        let _ = request.into_body().collect().await;
        text("read")
    })
    .await;
    let upstreams = world.route("reads", &[reading], |_| ());
    let mut client = world.client().await;
    client.send(world.head("POST /run/reads", "Content-Length: 1000\r\n")).await;
    let mut sent = 0;
    while upstreams[0].in_flight() == 1 || sent == 0 {
        client.send("x").await;
        sent += 1;
        assert!(sent < 200, "a byte each 50 ms is enough");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.reply().await.status, 408);

    let slow = app(async |request| {
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        text(length.to_string())
    })
    .await;
    world.route("slow", &[slow], |_| ());
    let mut client = world.client().await;
    client.send(world.head("POST /run/slow", "Content-Length: 300000\r\n")).await;
    client.send(vec![0; 300_000]).await;
    assert_eq!(client.reply().await.text(), "300000");
}

#[tokio::test]
async fn a_caller_of_http2_that_gives_no_room_for_its_answers_frees_the_instance() {
    let world = World::with(Limits { write_silence: Duration::from_millis(300), ..Limits::default() }).await;
    let upstreams = world.route("open", &[telling_app().await], |spec| spec.route.auth = skep::tree::Auth::None);
    let large = app(async |_| text(vec![0; 16 << 20])).await;
    let large = world.route("large", &[large], |spec| spec.route.auth = skep::tree::Auth::None);
    let field = |name: &str, value: &str| {
        let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
        [&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
    };
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut client = world.client().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    // SETTINGS_INITIAL_WINDOW_SIZE of nought.
    client.send(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    for (stream, path) in [(1, "/run/open/"), (3, "/run/large/")] {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")];
        let head: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        client.send(frame(1, 5, stream, &head)).await;
    }
    eventually(|| large[0].in_flight() == 1).await;
    eventually(|| upstreams[0].in_flight() + large[0].in_flight() == 0).await;
}
