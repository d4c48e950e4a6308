//! Answers: how the gateway understands what apps say, byte for byte, and which connections it uses again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::client::Client;
use crate::world::{World, eventually, raw_app};

/// Counts what happens to an app.
#[derive(Default)]
struct Count {
    connections: AtomicU64,
    requests: AtomicU64,
    /// Connections that the other side has ended.
    ended: AtomicU64,
}

impl Count {
    fn of(&self) -> (u64, u64) {
        (self.connections.load(Ordering::Relaxed), self.requests.load(Ordering::Relaxed))
    }
}

/// Reads the head of a request; false where the connection ends before.
async fn heard(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    true
}

/// An app that answers each request with these pieces, one after the other, and keeps its connections open.
async fn saying(pieces: Vec<String>, count: Arc<Count>) -> SocketAddr {
    raw_app(move |mut stream| {
        let (pieces, count) = (pieces.clone(), Arc::clone(&count));
        async move {
            count.connections.fetch_add(1, Ordering::Relaxed);
            while heard(&mut stream).await {
                count.requests.fetch_add(1, Ordering::Relaxed);
                for piece in &pieces {
                    if stream.write_all(piece.as_bytes()).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(if pieces.len() > 1 { 2 } else { 0 })).await;
                }
            }
            count.ended.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await
}

/// A route to such an app.
async fn app_saying(world: &World, text: &str, by: usize) -> Arc<Count> {
    let count = Arc::new(Count::default());
    let pieces = text.as_bytes().chunks(by).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect();
    world.route("app", &[saying(pieces, Arc::clone(&count)).await], |_| ());
    count
}

#[tokio::test]
async fn a_head_that_is_none_or_has_two_meanings_is_a_502_and_the_end_of_its_connection() {
    let world = World::new().await;
    let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\nhello");
    for text in [
        head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        head("Content-Length: 5\r\nContent-Length: 4\r\n"),
        head("Content-Length: 5, 4\r\n"),
        head("Content-Length: +5\r\n"),
        head("Content-Length: 0x5\r\n"),
        head("Content-Length: 99999999999999999999\r\n"),
        head("Content-Length:\r\n"),
        head("Transfer-Encoding: gzip, chunked\r\n"),
        head("Transfer-Encoding: chunked, identity\r\n"),
        head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        head("Transfer-Encoding: xchunked\r\n"),
        head("X: a\r\n more\r\nContent-Length: 5\r\n"),
        head("X: a\rContent-Length: 5\r\n"),
        head("X: a\nContent-Length: 5\r\n"),
        head("X : a\r\nContent-Length: 5\r\n"),
        head("X: a\0\r\nContent-Length: 5\r\n"),
        head("Content-Length: 5\n"),
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".to_owned(),
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/3.0 200 OK\r\n\r\n".to_owned(),
        "hello".to_owned(),
        head(&"X: a\r\n".repeat(101)),
        head(&format!("X: {}\r\n", "a".repeat(64 << 10))),
    ] {
        for by in [usize::MAX, text.len() / 2 + 1] {
            let count = app_saying(&world, &text, by).await;
            let reply = world.client().await.ask(world.head("GET /run/app", "")).await;
            assert_eq!(reply.status, 502, "{text:?}");
            eventually(|| count.ended.load(Ordering::Relaxed) == 1).await;
            assert_eq!(count.of(), (1, 1), "{text:?}");
        }
    }
}

#[tokio::test]
async fn a_body_whose_chunks_cannot_be_read_breaks_off_and_ends_its_connection() {
    let world = World::new().await;
    for chunks in [
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        ";\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0\r\nX-Sum: 5\n\r\n",
        "0\r\nX Sum: 5\r\n\r\n",
        "0\r\nX: a\r\n more\r\n\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let count = app_saying(&world, &text, usize::MAX).await;
        let mut client = world.client().await;
        client.send(world.head("GET /run/app", "")).await;
        assert_eq!(client.head().await.status, 200, "{chunks:?}");
        let mut rest = Vec::new();
        while let Ok(byte) = tokio::time::timeout(Duration::from_secs(10), client.stream.read_u8()).await.unwrap() {
            rest.push(byte);
        }
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{chunks:?} looks whole");
        eventually(|| count.ended.load(Ordering::Relaxed) == 1).await;
    }
}

#[tokio::test]
async fn every_way_to_end_an_answer_is_understood_and_its_connection_used_again_where_it_may() {
    let world = World::new().await;
    for (method, text, body, is_kept) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
            "hello",
            true,
        ),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3 \r\nllo\r\n000\r\n\r\n",
            "hello",
            true,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false),
        ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "hello",
            true,
        ),
        // More than was announced: the rest is no part of anything.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, HTTP/1.1 200 OK\r\n\r\n", "hello", false),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", true),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "", false),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", true),
    ] {
        for by in [usize::MAX, 7, 1] {
            let count = app_saying(&world, text, by).await;
            let mut client = world.client().await;
            for _ in 0..3 {
                client.send(world.head(&format!("{method} /run/app"), "")).await;
                let reply = if body.is_empty() { client.head().await } else { client.reply().await };
                assert!(matches!(reply.status, 200 | 204 | 304), "{text:?}");
                assert_eq!(reply.text(), body, "{text:?}");
                assert!(reply.all("content-length").len() <= 1, "{text:?}");
                // Until it is back, and what else the app has to say has come.
                tokio::time::sleep(Duration::from_millis(if by == 1 { 60 } else { 20 })).await;
            }
            let connections = if is_kept { 1 } else { 3 };
            assert_eq!(count.of(), (connections, 3), "{method} {text:?} by {by}");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_on_which_the_app_has_said_or_ended_something_is_not_used() {
    let world = World::new().await;
    for (before, ends) in [("", true), ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", false), ("\r\n", false)] {
        let (requests, go) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let (count, wait) = (Arc::clone(&requests), Arc::clone(&go));
        let address = raw_app(move |mut stream| {
            let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
            async move {
                while heard(&mut stream).await {
                    count.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright").await.unwrap();
                    wait.acquire().await.unwrap().forget();
                    let _ = stream.write_all(before.as_bytes()).await;
                    if ends {
                        break;
                    }
                }
            }
        })
        .await;
        world.route("app", &[address], |_| ());
        let mut client = world.client().await;
        // One that may not come twice.
        let post = world.head("POST /run/app", "Content-Length: 2\r\n") + "hi";
        for number in 1..5 {
            assert_eq!(client.ask(&post).await.text(), "right", "{before:?}");
            assert_eq!(requests.load(Ordering::Relaxed), number);
            go.add_permits(1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn idle_connections_that_nobody_takes_are_closed() {
    let world = World::new().await;
    let count = app_saying(&world, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", usize::MAX).await;
    assert_eq!(world.client().await.ask(world.head("GET /run/app", "")).await.status, 200);
    assert_eq!(count.ended.load(Ordering::Relaxed), 0);
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if count.ended.load(Ordering::Relaxed) == 1 {
            return;
        }
    }
    panic!("it is open after half a minute");
}

/// Answers at once, much, and takes in the request meanwhile and all of it, whoever reads the answer.
async fn hasty(stream: TcpStream, received: Arc<AtomicU64>) {
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        let mut head = [0; 1024];
        let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        head.fill(b'x');
        for _ in 0..32 << 10 {
            let _ = writer.write_all(b"400\r\n").await;
            let _ = writer.write_all(&head).await;
            let _ = writer.write_all(b"\r\n").await;
        }
        let _ = writer.write_all(b"0\r\n\r\n").await;
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        received.fetch_add(read as u64, Ordering::Relaxed);
    }
    let _ = writing.await;
}

#[tokio::test]
async fn a_request_is_sent_to_its_end_also_while_nobody_reads_the_answer_that_has_begun() {
    const WHOLE: u64 = 64 << 20;
    let world = World::new().await;
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    let address = raw_app(move |stream| hasty(stream, Arc::clone(&count))).await;
    for framing in ["Content-Length: 67108864\r\n", "Transfer-Encoding: chunked\r\n"] {
        let upstreams = world.route("hasty", &[address], |spec| spec.route.max_body = "1GiB".parse().unwrap());
        received.store(0, Ordering::Relaxed);
        let mut client = world.client().await;
        client.send(world.head("POST /run/hasty", framing)).await;
        let mut piece = vec![b'y'; 1 << 20];
        if framing.starts_with('T') {
            piece = [b"100000\r\n", &piece[..], b"\r\n"].concat();
        }
        for _ in 0..WHOLE >> 20 {
            client.send(&piece).await;
        }
        if framing.starts_with('T') {
            client.send("0\r\n\r\n").await;
        }
        // All of it has come to the app, though nothing of the answer has been read.
        eventually(|| received.load(Ordering::Relaxed) >= WHOLE).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.body.len()), (200, 32 << 20));
        drop(client);
        eventually(|| upstreams[0].in_flight() == 0).await;
    }
}

#[tokio::test]
async fn an_app_that_refuses_a_large_body_unread_is_heard_where_it_can_be() {
    let world = World::new().await;
    let address = raw_app(async |mut stream| {
        heard(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch").await;
        // What comes after that is thrown away, as those do who want to be heard.
        let _ = stream.shutdown().await;
        let mut buffer = vec![0; 64 << 10];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    })
    .await;
    world.route("small", &[address], |_| ());
    let mut client = world.client().await;
    client.send(world.head("POST /run/small", "Content-Length: 33554432\r\n")).await;
    let sending = async { (client.stream.write_all(&vec![0; 4 << 20]).await, client).1 };
    let mut client = sending.await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.text()), (413, "much"));
}

#[tokio::test]
async fn requests_arrive_whole_and_in_order_however_they_are_framed() {
    let world = World::new().await;
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let notes = Arc::clone(&heard);
    let address = raw_app(move |mut stream| {
        let notes = Arc::clone(&notes);
        async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let text = {
                    let mut notes = notes.lock().unwrap();
                    notes.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    notes.clone()
                };
                if text.ends_with("\r\n0\r\n\r\n") || text.ends_with("\r\n\r\n!hi") || text.starts_with("GET") {
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                }
            }
        }
    })
    .await;
    world.route("app", &[address], |_| ());
    let mut client = world.client().await;
    let ask = async |client: &mut Client, line: &str, more: &str, body: &[&str]| {
        heard.lock().unwrap().clear();
        client.send(world.head(line, more)).await;
        for piece in body {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.send(piece).await;
        }
        assert_eq!(client.head().await.status, 204);
        let text = heard.lock().unwrap().clone();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let framing = head.lines().filter(|line| line.starts_with("content-l") || line.starts_with("transfer-e"));
        (
            head.lines().next().unwrap().to_owned(),
            framing.map(str::to_owned).collect::<Vec<_>>().join(","),
            body.to_owned(),
        )
    };
    let told =
        |line: &str, framing: &str, body: &str| (format!("{line} HTTP/1.1"), framing.to_owned(), body.to_owned());
    assert_eq!(ask(&mut client, "GET /run/app/a?b=%2F", "", &[]).await, told("GET /a?b=%2F", "", ""));
    assert_eq!(
        ask(&mut client, "POST /run/app", "Content-Length: 3\r\n", &["!", "hi"]).await,
        told("POST /", "content-length: 3", "!hi")
    );
    let chunked = "Transfer-Encoding: chunked\r\nTrailer: X-Sum, Host\r\nTE: trailers\r\n";
    assert_eq!(
        ask(&mut client, "PUT /run/app", chunked, &["3;a=b\r\nabc\r\n", "00a\r\n0123456789\r\n", "0\r\n\r\n"]).await,
        told("PUT /", "transfer-encoding: chunked", "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n")
    );
    // With trailers: those that it announces, and none that would say something else of the request.
    heard.lock().unwrap().clear();
    client.send(world.head("PUT /run/app", chunked)).await;
    client.send("0\r\nX-Sum: 3\r\nX-Other: 4\r\nHost: b\r\n\r\n").await;
    eventually(|| heard.lock().unwrap().ends_with("0\r\nx-sum: 3\r\n\r\n")).await;
}
