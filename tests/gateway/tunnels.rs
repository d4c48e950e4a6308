//! Tunnels: what happens when an app and its caller leave HTTP.

use std::time::Duration;

use skep::gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{World, eventually, raw_app, telling_app};

const HANDSHAKE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\
    Sec-WebSocket-Version: 13\r\n";

/// Agrees to any upgrade that is asked for, then sends back what it is sent.
async fn agreeing(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-key: abc\r\n"), "{head}");
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: xyz\r\n\r\nfirst";
    stream.write_all(agreed.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let _ = tokio::io::copy(&mut read, &mut write).await;
}

#[tokio::test]
async fn a_websocket_passes_both_ways_and_counts_until_it_ends() {
    let world = World::new().await;
    let upstreams = world.route("room", &[raw_app(agreeing).await], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/room/ws", HANDSHAKE)).await;
    let head = client.head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-accept"), Some("xyz"));
    assert_eq!((head.header("connection"), head.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(client.exactly(5).await, b"first");
    for message in [&b"\x81\x85abcd"[..], &[0; 1_000_000]] {
        client.send(message).await;
        assert_eq!(client.exactly(message.len()).await, message);
    }
    assert_eq!(upstreams[0].in_flight(), 1);
    assert!(!upstreams[0].try_seal());
    drop(client);
    eventually(|| upstreams[0].in_flight() == 0).await;
}

#[tokio::test]
async fn a_websocket_is_left_alone_where_answers_are_compressed_and_shared() {
    let world = World::new().await;
    world.route("room", &[raw_app(agreeing).await], |spec| {
        spec.route.compress = true;
        spec.route.cors = Some(crate::manners::cors("https://app.test"));
    });
    let mut client = world.client().await;
    let more = format!("{HANDSHAKE}Origin: https://app.test\r\nAccept-Encoding: gzip\r\n");
    client.send(world.head("GET /run/room/ws", &more)).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-encoding")), (101, None));
    assert_eq!(client.exactly(5).await, b"first");
    client.send(b"\x81\x85abcd").await;
    assert_eq!(client.exactly(6).await, b"\x81\x85abcd");
}

#[tokio::test]
async fn an_app_that_does_not_agree_answers_as_to_any_request() {
    let world = World::new().await;
    let upstreams = world.route("plain", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    assert_eq!(client.ask(world.head("GET /run/plain", HANDSHAKE)).await.status, 200);
    assert_eq!(client.ask(world.head("GET /run/plain", "")).await.status, 200);
    eventually(|| upstreams[0].in_flight() == 0).await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_answer() {
    let world = World::new().await;
    let address = raw_app(async |mut stream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let upstreams = world.route("pushy", &[address], |_| ());
    let more = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    let reply = world.client().await.ask(world.head("GET /run/pushy", more)).await;
    assert_eq!(reply.status, 502);
    assert_eq!(upstreams[0].in_flight(), 0);
}

#[tokio::test]
async fn a_shutdown_lets_answers_finish_and_ends_tunnels_at_the_limit() {
    let world = World::with(Limits { shutdown: Duration::from_millis(600), ..Limits::default() }).await;
    world.route("room", &[raw_app(agreeing).await], |_| ());
    let slow = crate::world::app(async |_| {
        tokio::time::sleep(Duration::from_millis(200)).await;
        crate::world::text("done")
    })
    .await;
    let upstreams = world.route("slow", &[slow], |_| ());
    let mut tunnel = world.client().await;
    tunnel.send(world.head("GET /run/room/ws", HANDSHAKE)).await;
    assert_eq!(tunnel.head().await.status, 101);
    tunnel.exactly(5).await;
    let mut idle = world.client().await;
    assert_eq!(idle.ask(world.head("GET /health", "")).await.status, 200);
    let mut client = world.client().await;
    client.send(world.head("GET /run/slow", "")).await;
    eventually(|| upstreams[0].in_flight() == 1).await;

    world.stop.cancel();
    assert!(idle.ends().await);
    assert_eq!(client.reply().await.text(), "done");
    assert!(client.ends().await);
    assert!(TcpStream::connect(world.address).await.is_err());
    tunnel.send("still here").await;
    assert_eq!(tunnel.exactly(10).await, b"still here");
    assert!(tunnel.ends().await);
    tokio::time::timeout(Duration::from_secs(5), world.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_asks_on_an_open_connection_as_the_daemon_ends_is_answered_and_sent_elsewhere() {
    let world = World::with(Limits { linger: Duration::from_secs(20), ..Limits::default() }).await;
    world.route("quick", &[crate::world::app(async |_| crate::world::text("done")).await], |_| ());
    let mut client = world.client().await;
    let reply = client.ask(world.head("GET /run/quick", "")).await;
    assert_eq!((reply.status, reply.header("connection")), (200, None));
    world.stop.cancel();
    // Nobody is accepted any more, so it has begun to end.
    eventually(|| std::net::TcpStream::connect(world.address).is_err()).await;
    let reply = client.ask(world.head("GET /run/quick", "")).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(client.ends().await);
    tokio::time::timeout(Duration::from_secs(5), world.served).await.unwrap().unwrap();
}
