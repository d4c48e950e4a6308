//! What is counted of each request when it has ended: of which API, whose, with which status, and how many bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use skep::gateway::{Limits, RouteState};
use skep::records::{KeyScope, NewKey};
use skep::tree::{Auth, KeyTerms, Size};
use skep::usage::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, app, echoing_app, eventually, raw_app, text};

/// Requests, bytes in and bytes out, by API, caller and status.
type Sums = BTreeMap<(String, String, u16), Sum>;
type Sum = (u64, u64, u64);

/// What is counted, once `count` requests are.
async fn counted(counter: &Counter, count: u64) -> Sums {
    let sums = std::cell::RefCell::new(Sums::new());
    eventually(|| {
        let mut sums = sums.borrow_mut();
        for (what, tally) in counter.take() {
            assert!(tally.slowest > 0 && tally.micros >= tally.slowest);
            let api = what.api.unwrap().to_string();
            let sum = sums.entry((api, what.by.word().to_owned(), what.status)).or_default();
            *sum = (sum.0 + tally.requests, sum.1 + tally.bytes_in, sum.2 + tally.bytes_out);
        }
        sums.values().map(|sum| sum.0).sum::<u64>() >= count
    })
    .await;
    sums.into_inner()
}

async fn world() -> (World, Arc<Counter>) {
    let counter = Arc::new(Counter::default());
    (World::tallying(Limits::default(), Arc::clone(&counter)).await, counter)
}

fn expected(sums: &[(&str, &str, u16, Sum)]) -> Sums {
    sums.iter().map(|(api, by, status, sum)| (((*api).to_owned(), (*by).to_owned(), *status), *sum)).collect()
}

#[tokio::test]
async fn requests_are_counted_by_api_key_and_status_with_the_bytes_of_their_bodies() {
    let (world, counter) = world().await;
    let made = |name: &str| NewKey::generate(name, KeyScope::All, Timestamp::now());
    let (one, two, mut reader) = (made("one"), made("two"), made("reader"));
    reader.key.terms = KeyTerms { methods: vec!["GET".parse().unwrap()], ..KeyTerms::default() };
    world.keys.set(vec![one.key.clone(), two.key.clone(), reader.key.clone()]);
    let echo = echoing_app().await;
    world.route("echo", &[echo], |spec| spec.route.max_body = Size(5000));
    world.route("open", &[app(async |_| text("twelve bytes")).await], |spec| spec.route.auth = Auth::None);
    world.route_to("off", RouteState::Suspended, |_| ());

    let mut client = world.client().await;
    let mut ask = async |line: &str, secret: &str, body: &[u8]| {
        let mut head = format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n", body.len());
        if !secret.is_empty() {
            head += &format!("Authorization: Bearer {secret}\r\n");
        }
        client.ask([format!("{head}\r\n").as_bytes(), body].concat()).await
    };
    let mut out = 0;
    for _ in 0..3 {
        assert_eq!(ask("POST /run/echo/x", &one.secret, &[7; 1000]).await.status, 200);
    }
    assert_eq!(ask("POST /run/echo/x", &two.secret, &[7; 10]).await.status, 200);
    assert_eq!(ask("GET /run/open", "", b"").await.status, 200);
    for (line, secret, status) in
        [("GET /run/echo", "", 401), ("POST /run/echo", &*reader.secret, 403), ("GET /run/off", &*one.secret, 503)]
    {
        let reply = ask(line, secret, b"").await;
        assert_eq!(reply.status, status);
        out = reply.body.len() as u64;
    }
    // For no API.
    assert_eq!(ask("GET /run/nobody", &one.secret, b"").await.status, 401);
    assert_eq!(ask("GET /run/echo/../x", &one.secret, b"").await.status, 400);

    let (one, two, reader) = (&*one.key.id, &*two.key.id, &*reader.key.id);
    let mut sums = counted(&counter, 8).await;
    assert_eq!(sums.get(&("off".to_owned(), one.to_owned(), 503)).map(|sum| sum.2), Some(out));
    for sum in sums.iter_mut().filter(|((_, _, status), _)| *status >= 400).map(|(_, sum)| sum) {
        sum.2 = 0;
    }
    let expected = expected(&[
        ("echo", "none", 401, (1, 0, 0)),
        ("echo", one, 200, (3, 3000, 3000)),
        ("echo", two, 200, (1, 10, 10)),
        ("echo", reader, 403, (1, 0, 0)),
        ("off", one, 503, (1, 0, 0)),
        ("open", "none", 200, (1, 0, 12)),
    ]);
    assert_eq!(sums, expected);
}

#[tokio::test]
async fn what_breaks_off_counts_once_with_the_bytes_that_came() {
    let (world, counter) = world().await;
    // Sends 1000 of the bytes that it has promised, and no more.
    let stops = raw_app(async |mut stream: tokio::net::TcpStream| {
        let mut head = vec![0; 64];
        stream.read_exact(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n").await.unwrap();
        stream.write_all(&[7; 1000]).await.unwrap();
        let _ = stream.read_to_end(&mut head).await;
    });
    world.route("stops", &[stops.await], |spec| spec.route.auth = Auth::None);
    let never = app(async |_| std::future::pending().await).await;
    world.route("never", &[never], |spec| spec.route.auth = Auth::None);
    let mut client = world.client().await;
    client.send("GET /run/stops HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    client.exactly(1000).await;
    assert_eq!(counter.take(), [], "it has not ended");
    drop(client);
    let mut client = world.client().await;
    client.send("GET /run/never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    drop(client);
    let sums = counted(&counter, 2).await;
    assert_eq!(sums, expected(&[("never", "none", 499, (1, 0, 0)), ("stops", "none", 200, (1, 0, 1000))]));
}

#[tokio::test]
async fn a_tunnel_counts_both_ways_also_where_it_breaks_off() {
    let (world, counter) = world().await;
    let room = raw_app(async |mut stream: tokio::net::TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        stream.write_all(agreed).await.unwrap();
        let mut said = [0; 300];
        stream.read_exact(&mut said).await.unwrap();
        stream.write_all(&[8; 20]).await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        // Until the caller has all of it; then it is reset.
        let _ = stream.read_u8().await;
    });
    world.route("room", &[room.await], |spec| spec.route.auth = Auth::None);
    let mut client = world.client().await;
    let head = "GET /run/room HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.head().await.status, 101);
    client.send([7; 300]).await;
    assert_eq!(client.exactly(25).await.len(), 25);
    client.send([9]).await;
    let sums = counted(&counter, 1).await;
    assert_eq!(sums, expected(&[("room", "none", 101, (1, 301, 25))]));
}
