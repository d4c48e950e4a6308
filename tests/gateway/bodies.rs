//! Bodies: streamed both ways as they come, byte for byte, without being held.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::world::{World, app, echoing_app, eventually, telling_app, text};

/// More than all socket and read-ahead buffers between two ends may hold on loopback, far less than what is sent.
const MUCH: u64 = 64 << 20;

#[tokio::test]
async fn a_multipart_upload_arrives_byte_for_byte() {
    let world = World::new().await;
    world.route("echo", &[echoing_app().await], |_| ());
    let mut form = b"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n".to_vec();
    form.extend((0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    form.extend(b"\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nagain\r\n--b--\r\n");
    let more = format!("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n", form.len());
    let mut request = world.head("POST /run/echo/files", &more).into_bytes();
    request.extend(&form);
    let reply = world.client().await.ask(request).await;
    assert_eq!(reply.header("content-type"), Some("multipart/form-data; boundary=b"));
    assert!(reply.body == form);
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways_whatever_the_method() {
    let world = World::new().await;
    world.route("echo", &[echoing_app().await], |_| ());
    let mut client = world.client().await;
    for method in ["POST", "GET"] {
        let more = "Transfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: X-Sum\r\n";
        client.send(world.head(&format!("{method} /run/echo"), more)).await;
        client.send("3\r\nabc\r\n").await;
        let head = client.head().await;
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        // The first chunk is back before the second is sent.
        assert_eq!(client.until("abc\r\n").await, "3\r\nabc\r\n");
        client.send("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n").await;
        assert_eq!(client.until("\r\n\r\n").await, "2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n");
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_asked_for_only_when_it_is_wanted() {
    let world = World::new().await;
    world.route("echo", &[echoing_app().await], |spec| spec.route.max_body = "1KiB".parse().unwrap());
    let expect = |length| format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
    let mut client = world.client().await;
    client.send(world.head("POST /run/echo", &expect(5))).await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    let reply = client.ask("hello").await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));

    let reply = client.ask(world.head("POST /run/echo", &expect(5000))).await;
    assert_eq!(reply.status, 413);
    assert!(client.ends().await);
    let mut client = world.client().await;
    let reply = client.ask(format!("POST /run/echo HTTP/1.1\r\nHost: a\r\n{}\r\n", expect(5))).await;
    assert_eq!(reply.status, 401);
    assert!(client.ends().await);
}

#[tokio::test]
async fn an_event_reaches_the_caller_before_the_next_one_exists() {
    let world = World::new().await;
    let next = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&next);
    let address = app(move |_| {
        let wait = Arc::clone(&wait);
        async move {
            let events = futures_util::stream::iter(0..3).then(move |n| {
                let wait = Arc::clone(&wait);
                async move {
                    wait.acquire().await.unwrap().forget();
                    Ok(Frame::data(Bytes::from(format!("data: {n}\n\n"))))
                }
            });
            Response::new(BodyExt::boxed(StreamBody::new(events)))
        }
    })
    .await;
    world.route("events", &[address], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/events", "")).await;
    assert_eq!(client.head().await.status, 200);
    for n in 0..3 {
        next.add_permits(1);
        assert_eq!(client.until("\n\n\r\n").await, format!("9\r\ndata: {n}\n\n\r\n"));
    }
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn an_upload_that_the_app_does_not_read_is_not_taken_in_and_then_arrives_whole() {
    const WHOLE: u64 = 256 << 20;
    let world = World::new().await;
    let (start, arrived) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let (wait, count) = (Arc::clone(&start), Arc::clone(&arrived));
    let address = app(move |request| {
        let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
        async move {
            wait.acquire().await.unwrap().forget();
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                count.fetch_add(frame.unwrap().into_data().unwrap().len() as u64, Ordering::Relaxed);
            }
            text("thanks")
        }
    })
    .await;
    world.route("slow", &[address], |spec| spec.route.max_body = "1GiB".parse().unwrap());
    let client = world.client().await;
    let head = world.head("POST /run/slow", &format!("Content-Length: {WHOLE}\r\n"));
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        let mut client = client;
        client.send(head).await;
        let piece = vec![7; 1 << 20];
        for _ in 0..WHOLE >> 20 {
            client.stream.write_all(&piece).await.unwrap();
            count.fetch_add(1 << 20, Ordering::Relaxed);
        }
        client.reply().await
    });
    // Sending comes to a halt, since nobody holds what is not read.
    let mut before = u64::MAX;
    while before != sent.load(Ordering::Relaxed) {
        before = sent.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < MUCH, "{before} bytes were taken in that nobody had read");
    start.add_permits(1);
    assert_eq!(sending.await.unwrap().text(), "thanks");
    assert_eq!(arrived.load(Ordering::Relaxed), WHOLE);
}

#[tokio::test]
async fn an_answer_that_the_caller_does_not_read_is_not_taken_in_and_its_end_frees_the_instance() {
    let world = World::new().await;
    let made = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&made);
    let address = app(move |_| {
        let count = Arc::clone(&count);
        async move {
            let endless = futures_util::stream::repeat_with(move || {
                count.fetch_add(65536, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from_static(&[0; 65536])))
            });
            Response::new(BodyExt::boxed(StreamBody::new(endless)))
        }
    })
    .await;
    let upstreams = world.route("endless", &[address], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/endless", "")).await;
    assert_eq!(client.head().await.status, 200);
    let mut before = u64::MAX;
    while before != made.load(Ordering::Relaxed) {
        before = made.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < MUCH, "{before} bytes were made that nobody had read");
    assert_eq!(upstreams[0].in_flight(), 1);
    assert!(!upstreams[0].try_seal());
    drop(client);
    eventually(|| upstreams[0].in_flight() == 0).await;
    assert!(upstreams[0].try_seal());
}

#[tokio::test]
async fn a_caller_that_goes_before_the_answer_begins_frees_the_instance() {
    let world = World::new().await;
    let address = app(async |_| std::future::pending().await).await;
    let upstreams = world.route("silent", &[address], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/silent", "")).await;
    eventually(|| upstreams[0].in_flight() == 1).await;
    drop(client);
    eventually(|| upstreams[0].in_flight() == 0).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_has_ended_is_passed_on() {
    let world = World::new().await;
    world.route("early", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    let reply = client.ask(world.head("POST /run/early", "Content-Length: 1000000\r\n") + "only this").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn chunks_of_a_byte_that_come_together_are_written_together() {
    const CHUNKS: usize = 2000;
    // Answers with what it has read of a body, and how often it had to; in a thread of its own, so that it reads what is written
    // when it is written.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut read, mut times, mut buffer) = (Vec::new(), 0, [0; 65536]);
        while !read.ends_with(b"\r\n0\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection ended");
            read.extend_from_slice(&buffer[..count]);
            times += 1;
        }
        let text = format!("{} {times}", String::from_utf8_lossy(&read).matches("1\r\nx\r\n").count());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    });
    let world = World::new().await;
    world.route("app", &[app], |_| ());
    let mut client = world.client().await;
    client.send(world.head("POST /run/app", "Transfer-Encoding: chunked\r\n")).await;
    let reply = client.ask("1\r\nx\r\n".repeat(CHUNKS) + "0\r\n\r\n").await;
    let text = reply.text();
    let (chunks, times) = text.split_once(' ').unwrap();
    assert_eq!(chunks.parse(), Ok(CHUNKS));
    assert!(times.parse::<usize>().unwrap() < CHUNKS / 10, "{text}");
}
