//! Callers that shut their side of the connection and wait for their answers, which callers that have gone don't.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::world::{World, app, echoing_app, eventually, telling_app, text};

/// What one is told, before an answer that takes its time, who waits for it with half a connection.
const INTERIM: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// Longer than what is waited before that is said twice.
const SLOW: Duration = Duration::from_millis(700);

/// All that comes to who sends this and no more.
async fn told(mut client: Client, text: impl AsRef<[u8]>) -> String {
    client.send(text).await;
    client.stream.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(Duration::from_secs(10), client.stream.read_to_string(&mut all)).await.unwrap().unwrap();
    all
}

#[tokio::test]
async fn who_shuts_its_side_is_answered_however_long_that_takes() {
    let world = World::new().await;
    world.route("tell", &[telling_app().await], |_| ());
    world.route("echo", &[echoing_app().await], |_| ());
    let slow = app(async |_| {
        sleep(SLOW).await;
        text("at last")
    });
    let upstreams = world.route("slow", &[slow.await], |_| ());
    // At once, nothing but the answer, and the end of the connection.
    let get = world.head("GET /run/tell", "");
    let many = async {
        for _ in 0..50 {
            let all = told(world.client().await, &get).await;
            assert!(all.starts_with("HTTP/1.1 200"), "{all}");
        }
    };
    timeout(Duration::from_secs(20), many).await.expect("each waits for a look, and none is woken by its end");
    // With a body, and with one in chunks.
    let post = world.head("POST /run/echo", "Content-Length: 5\r\n") + "hello";
    assert!(told(world.client().await, post).await.ends_with("hello"));
    let post = world.head("POST /run/echo", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n";
    assert!(told(world.client().await, post).await.contains("hello"));
    // One after the other.
    let all = told(world.client().await, format!("{get}{get}")).await;
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    // Late.
    let all = told(world.client().await, world.head("GET /run/slow", "")).await;
    let answer = all.trim_start_matches(INTERIM);
    assert!(all.starts_with(INTERIM) && answer.starts_with("HTTP/1.1 200") && answer.ends_with("at last"), "{all}");
    let all = told(world.client().await, world.head("GET /run/slow", "").replace("HTTP/1.1", "HTTP/1.0")).await;
    assert!(all.starts_with("HTTP/1.0 200") && all.ends_with("at last"), "{all}");
    eventually(|| upstreams[0].in_flight() == 0).await;
}

/// Events so far from each other.
async fn events(pause: Duration) -> std::net::SocketAddr {
    app(move |_| async move {
        let events = futures_util::stream::iter(0..4).then(move |count| async move {
            sleep(pause).await;
            Ok(Frame::data(Bytes::from(format!("data: {count}\n\n"))))
        });
        Response::new(BodyExt::boxed(StreamBody::new(events)))
    })
    .await
}

#[tokio::test]
async fn who_has_shut_its_side_is_sent_a_stream_to_its_end() {
    let world = World::new().await;
    // Its head comes with the first event, after two interim answers.
    let late = app(async |_| {
        sleep(SLOW).await;
        let events = futures_util::stream::iter(0..2).then(async |count| {
            sleep(Duration::from_millis(2500) * count).await;
            Ok(Frame::data(Bytes::from(format!("data: {count}\n\n"))))
        });
        Response::new(BodyExt::boxed(StreamBody::new(events)))
    });
    // Its head comes at once, and each event after so long that nobody knows who is still there.
    let early = app(async |_| {
        let events = futures_util::stream::iter(0..3).then(async |count| {
            sleep(Duration::from_millis(1500) * count.min(1)).await;
            Ok(Frame::data(Bytes::from(format!("data: {count}\n\n"))))
        });
        Response::new(BodyExt::boxed(StreamBody::new(events)))
    });
    world.route("late", &[late.await], |_| ());
    world.route("early", &[early.await], |_| ());
    world.route("events", &[events(Duration::from_millis(300)).await], |_| ());
    let (late, early, soon) = tokio::join!(
        told(world.client().await, world.head("GET /run/late", "")),
        told(world.client().await, world.head("GET /run/early", "")),
        told(world.client().await, world.head("GET /run/events", ""))
    );
    assert!(early.contains("data: 2") && early.ends_with("0\r\n\r\n"), "{early}");
    for last in ["data: 0", "data: 1", "0\r\n\r\n"] {
        assert!(late.contains(last), "{late}");
    }
    assert!(soon.contains("data: 3") && soon.ends_with("0\r\n\r\n"), "{soon}");
}

#[tokio::test]
async fn a_large_answer_comes_whole_to_who_has_shut_its_side_and_reads_slowly() {
    const LENGTH: usize = 5 << 20;
    let world = World::new().await;
    let large = app(async |_| text(vec![b'x'; LENGTH])).await;
    world.route("large", &[large], |_| ());
    // With so little room that what the gateway holds at the end waits to be sent, for longer than anybody looks.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = Client::over(socket.connect(world.address).await.unwrap());
    client.send(world.head("GET /run/large", "")).await;
    client.stream.shutdown().await.unwrap();
    let (mut length, mut part) = (0, vec![0; 64 << 10]);
    loop {
        // Nothing goes on meanwhile, since nobody reads: at first, and near the end.
        let waits = length == 0 || (LENGTH - (200 << 10)..LENGTH).contains(&length);
        sleep(Duration::from_millis(if waits { 1500 } else { 0 })).await;
        match timeout(Duration::from_secs(10), client.stream.read(&mut part)).await.unwrap().unwrap() {
            0 => break,
            read => length += read,
        }
    }
    assert!(length > LENGTH, "{length}");
}

#[tokio::test]
async fn who_goes_frees_the_instance_before_and_in_the_middle_of_an_answer() {
    let world = World::new().await;
    let silent = world.route("silent", &[app(async |_| std::future::pending().await).await], |_| ());
    let events = world.route("events", &[events(Duration::from_secs(60)).await], |_| ());
    let post = world.head("POST /run/silent", "Content-Length: 5\r\n") + "hello";
    let old = world.head("GET /run/silent", "").replace("HTTP/1.1", "HTTP/1.0");
    for text in [world.head("GET /run/silent", ""), post, old] {
        let mut client = world.client().await;
        client.send(text).await;
        eventually(|| silent[0].in_flight() == 1).await;
        drop(client);
        eventually(|| silent[0].in_flight() == 0).await;
    }
    let mut client = world.client().await;
    client.send(world.head("GET /run/events", "")).await;
    assert_eq!(client.head().await.status, 200);
    drop(client);
    eventually(|| events[0].in_flight() == 0).await;
    // Nor is one waited for that has not said all that it wanted to.
    let mut client = world.client().await;
    client.send(world.head("POST /run/silent", "Content-Length: 5\r\n") + "hel").await;
    eventually(|| silent[0].in_flight() == 1).await;
    client.stream.shutdown().await.unwrap();
    eventually(|| silent[0].in_flight() == 0).await;
}
