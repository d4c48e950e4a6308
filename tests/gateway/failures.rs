//! Failures: what callers are told when an app is away, slow, or talks nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep::gateway::RouteState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, app, nowhere, raw_app, telling_app};

#[tokio::test]
async fn an_app_that_cannot_be_reached_or_talks_nonsense_is_a_502_without_details() {
    let world = World::new().await;
    let saying = |words: &'static str| {
        raw_app(async move |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(words.as_bytes()).await;
        })
    };
    for address in [nowhere().await, saying("").await, saying("220 mail ready\r\n").await] {
        let upstreams = world.route("hello", &[address], |_| ());
        let reply = world.client().await.ask(world.head("GET /run/hello", "")).await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
        assert!(!reply.text().contains(&address.port().to_string()), "{}", reply.text());
        assert_eq!(upstreams[0].in_flight(), 0);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let world = World::new().await;
    let address = raw_app(async |mut stream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        let _ = stream.write_all(part.as_bytes()).await;
    })
    .await;
    world.route("hello", &[address], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/hello", "")).await;
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.until("abc\r\n").await, "3\r\nabc\r\n");
    assert!(client.ends().await);
}

#[tokio::test]
async fn an_answer_that_is_all_framing_and_never_ends_is_broken_off() {
    let world = World::new().await;
    let saying = |first: &'static str, then: &'static str| {
        raw_app(async move |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(first.as_bytes()).await;
            let then = then.repeat(1000);
            while stream.write_all(then.as_bytes()).await.is_ok() {}
        })
    };
    let interim = saying("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await;
    world.route("interim", &[interim], |_| ());
    let reply = world.client().await.ask(world.head("GET /run/interim", "")).await;
    assert_eq!(reply.status, 502);

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (id, then) in [("length", "0"), ("chunks", "1\r\nx\r\n")] {
        world.route(id, &[saying(chunked, then).await], |_| ());
        let mut client = world.client().await;
        client.send(world.head(&format!("GET /run/{id}"), "")).await;
        assert_eq!(client.head().await.status, 200);
        assert!(client.drain().await, "{id}");
    }
}

#[tokio::test]
async fn a_replica_that_is_away_costs_no_request() {
    let world = World::new().await;
    world.route("hello", &[nowhere().await, telling_app().await], |_| ());
    for _ in 0..20 {
        let reply = world.client().await.ask(world.head("POST /run/hello", "Content-Length: 2\r\n") + "hi").await;
        assert_eq!(reply.status, 200);
    }
}

#[tokio::test]
async fn an_api_that_is_paused_or_not_ready_says_so_and_when_to_ask_again() {
    let world = World::new().await;
    for (state, error) in [
        (RouteState::Suspended, "API is paused"),
        (RouteState::Unavailable { reason: "it is being built".to_owned() }, "it is being built"),
    ] {
        world.route_to("hello", state, |_| ());
        let reply = world.client().await.ask(world.head("GET /run/hello", "")).await;
        assert_eq!((reply.status, &*reply.error()), (503, error));
        assert!(reply.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    }
}

#[tokio::test]
async fn an_app_that_does_not_begin_to_answer_in_time_is_a_504() {
    let world = World::new().await;
    let silent = app(async |_| std::future::pending().await).await;
    let upstreams = world.route("silent", &[silent], |spec| spec.route.timeout = "300ms".parse().unwrap());
    let began = Instant::now();
    let reply = world.client().await.ask(world.head("GET /run/silent", "")).await;
    assert_eq!((reply.status, &*reply.error()), (504, "the API did not begin to answer within 0.3 s"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(upstreams[0].in_flight(), 0);
}

#[tokio::test]
async fn an_app_that_does_not_read_the_request_is_a_504_too() {
    let world = World::new().await;
    let deaf = raw_app(async |stream| {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let upstreams = world.route("deaf", &[deaf], |spec| spec.route.timeout = "300ms".parse().unwrap());
    let mut client = world.client().await;
    client.send(world.head("POST /run/deaf", &format!("Content-Length: {}\r\n", 32 << 20))).await;
    client.send(vec![0; 32 << 20]).await;
    assert_eq!(client.reply().await.status, 504);
    assert_eq!(upstreams[0].in_flight(), 0);
}

#[tokio::test]
async fn an_app_that_speaks_an_older_http_is_understood() {
    let world = World::new().await;
    let address = raw_app(async |mut stream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold").await;
    })
    .await;
    world.route("old", &[address], |_| ());
    let mut client = world.client().await;
    for _ in 0..2 {
        client.send(world.head("GET /run/old", "")).await;
        let reply = client.reply().await;
        assert_eq!((reply.text(), reply.header("transfer-encoding")), ("old", Some("chunked")));
    }
    // A caller that speaks it is answered in kind, to the end of the connection.
    let mut client = world.client().await;
    client.send(format!("GET /run/old HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", world.key)).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(client.exactly(3).await, b"old");
    assert!(client.ends().await);
}

#[tokio::test]
async fn the_time_for_an_answer_begins_when_the_request_has_been_sent() {
    let world = World::new().await;
    let reading = app(async |request| {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        crate::world::text("read")
    })
    .await;
    world.route("reads", &[reading], |spec| spec.route.timeout = "300ms".parse().unwrap());
    let mut client = world.client().await;
    client.send(world.head("POST /run/reads", "Content-Length: 5\r\n")).await;
    for piece in ["1", "2", "3", "4", "5"] {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.send(piece).await;
    }
    assert_eq!(client.reply().await.status, 200);
}

/// Answers the first request of each connection, and ends the connection when a second one comes.
async fn forgetful(mut stream: TcpStream, asked: Arc<AtomicU64>) {
    let _ = stream.read(&mut [0; 4096]).await;
    asked.fetch_add(1, Ordering::Relaxed);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    let _ = stream.read(&mut [0; 4096]).await;
    asked.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test]
async fn a_harmless_request_on_a_connection_that_had_ended_is_sent_again_and_others_are_not() {
    let world = World::new().await;
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let address = raw_app(move |stream| forgetful(stream, Arc::clone(&count))).await;
    world.route("hello", &[address], |_| ());
    let mut client = world.client().await;
    for _ in 0..5 {
        assert_eq!(client.ask(world.head("GET /run/hello", "")).await.text(), "ok");
    }
    // The first on its own connection; of the others each once in vain and once more.
    assert_eq!(asked.load(Ordering::Relaxed), 9);
    let reply = client.ask(world.head("POST /run/hello", "Content-Length: 2\r\n") + "hi").await;
    assert_eq!(reply.status, 502);
    assert_eq!(asked.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn connections_to_an_app_are_used_again() {
    let world = World::new().await;
    let opened = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&opened);
    let address = raw_app(move |mut stream: TcpStream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    })
    .await;
    world.route("hello", &[address], |_| ());
    let mut client = world.client().await;
    for _ in 0..50 {
        assert_eq!(client.ask(world.head("GET /run/hello", "")).await.status, 200);
        // The connection's task may still be on its way back to the pool.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let opened = opened.load(Ordering::Relaxed);
    assert!(opened <= 5, "{opened} connections for 50 requests one after the other");
}
