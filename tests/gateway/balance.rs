//! Balance: which replica a request goes to, and what happens where all have enough to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::client::Reply;
use crate::world::{World, app, eventually, nowhere, raw_app, text};

/// An app that answers as often as the gate has permits.
async fn gated_app(gate: &Arc<Semaphore>, name: &'static str) -> SocketAddr {
    let gate = Arc::clone(gate);
    app(move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            text(name)
        }
    })
    .await
}

fn ask(world: &Arc<World>) -> tokio::task::JoinHandle<Reply> {
    let world = Arc::clone(world);
    tokio::spawn(async move { world.client().await.ask(world.head("GET /run/hello", "")).await })
}

#[tokio::test]
async fn an_instance_answers_as_many_as_it_may_as_many_wait_and_others_are_sent_away_at_once() {
    let world = Arc::new(World::new().await);
    let gate = Arc::new(Semaphore::new(0));
    let upstreams = world.route("hello", &[gated_app(&gate, "ok").await], |spec| spec.route.max_in_flight = 2);
    let mut asked: Vec<_> = (0..2).map(|_| ask(&world)).collect();
    eventually(|| upstreams[0].in_flight() == 2).await;
    asked.extend((0..2).map(|_| ask(&world)));
    // Those in line cannot be seen from here; they need a moment to get there.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = ask(&world).await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    assert!(refused.error().contains("more to do"), "{}", refused.text());
    assert_eq!(refused.json()["request_id"].as_str(), refused.header("x-request-id"));
    assert_eq!(upstreams[0].in_flight(), 2);
    gate.add_permits(100);
    for reply in asked {
        assert_eq!(reply.await.unwrap().text(), "ok");
    }
    assert_eq!(upstreams[0].in_flight(), 0);
}

#[tokio::test]
async fn a_line_that_does_not_move_is_left_and_a_caller_who_leaves_it_takes_no_place() {
    let world = Arc::new(World::new().await);
    let gate = Arc::new(Semaphore::new(0));
    let upstreams = world.route("hello", &[gated_app(&gate, "ok").await], |spec| spec.route.max_in_flight = 1);
    let first = ask(&world);
    eventually(|| upstreams[0].in_flight() == 1).await;
    assert_eq!(ask(&world).await.unwrap().status, 503);
    // One more stands in line, goes away, and is not in the way of the next.
    let mut gone = world.client().await;
    gone.send(world.head("GET /run/hello", "")).await;
    eventually(|| upstreams[0].queued() == 1).await;
    drop(gone);
    eventually(|| upstreams[0].queued() == 0).await;
    let next = ask(&world);
    eventually(|| upstreams[0].queued() == 1).await;
    gate.add_permits(2);
    assert_eq!((first.await.unwrap().status, next.await.unwrap().status), (200, 200));
}

#[tokio::test]
async fn who_waits_for_a_place_goes_along_when_the_route_moves() {
    let world = Arc::new(World::new().await);
    let (shut, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(100)));
    let old = world.route("hello", &[gated_app(&shut, "old").await], |spec| spec.route.max_in_flight = 1);
    let first = ask(&world);
    eventually(|| old[0].in_flight() == 1).await;
    let waiting = ask(&world);
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.route("hello", &[gated_app(&open, "new").await], |spec| spec.route.max_in_flight = 1);
    assert_eq!(waiting.await.unwrap().text(), "new");
    assert!(!old[0].try_seal());
    shut.add_permits(1);
    assert_eq!(first.await.unwrap().text(), "old");
    eventually(|| old[0].try_seal()).await;
}

#[tokio::test]
async fn no_place_is_lost_under_many_callers() {
    let world = Arc::new(World::new().await);
    let address = app(async |_| {
        tokio::task::yield_now().await;
        text("ok")
    })
    .await;
    let upstreams = world.route("hello", &[address, address], |spec| spec.route.max_in_flight = 4);
    let callers: Vec<_> = (0..12)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut client = world.client().await;
                for _ in 0..200 {
                    assert_eq!(client.ask(world.head("GET /run/hello", "")).await.status, 200);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    eventually(|| upstreams.iter().all(|upstream| upstream.in_flight() == 0)).await;
}

#[tokio::test]
async fn streams_of_events_and_tunnels_take_no_place_and_still_count_for_the_drain() {
    let world = World::new().await;
    let events = app(async |_| {
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, hyper::Error>>();
        let body = StreamBody::new(never).boxed();
        Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap()
    })
    .await;
    let upstreams = world.route("events", &[events], |spec| spec.route.max_in_flight = 1);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = world.client().await;
        client.send(world.head("GET /run/events", "")).await;
        assert_eq!(client.head().await.status, 200);
        clients.push(client);
    }
    assert_eq!(upstreams[0].in_flight(), 5);
    assert!(!upstreams[0].try_seal());
    drop(clients);
    eventually(|| upstreams[0].try_seal()).await;

    let socket = raw_app(async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]).await;
        let yes = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(yes.as_bytes()).await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let upstreams = world.route("socket", &[socket], |spec| spec.route.max_in_flight = 1);
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = world.client().await;
        client.send(world.head("GET /run/socket", "Connection: upgrade\r\nUpgrade: websocket\r\n")).await;
        assert_eq!(client.head().await.status, 101);
        clients.push(client);
    }
    assert_eq!(upstreams[0].in_flight(), 5);
    drop(clients);
    eventually(|| upstreams[0].try_seal()).await;
}

/// Serves at that address from now on.
async fn come_back(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback").await;
            });
        }
    });
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_is_left_aside_for_a_while_and_then_tried_again() {
    let world = Arc::new(World::new().await);
    let away = [nowhere().await, nowhere().await];
    let stays = app(async |_| text("stays")).await;
    world.route("hello", &[away[0], stays, away[1]], |_| ());
    let began = Instant::now();
    for _ in 0..60 {
        assert_eq!(ask(&world).await.unwrap().text(), "stays");
    }
    for address in away {
        come_back(address).await;
    }
    // Nobody tries before the time aside is over; a host that stood still for so long proves nothing.
    let early: Vec<_> = futures_util::future::join_all((0..20).map(|_| ask(&world))).await;
    if began.elapsed() < Duration::from_millis(900) {
        assert!(early.into_iter().all(|reply| reply.unwrap().text() == "stays"));
    }
    let mut came_back = 0;
    for _ in 0..400 {
        came_back += u32::from(ask(&world).await.unwrap().text() == "back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(came_back > 20, "{came_back}");
}

#[tokio::test]
async fn the_only_replica_is_never_left_aside() {
    let world = Arc::new(World::new().await);
    let away = nowhere().await;
    world.route("hello", &[away], |_| ());
    for _ in 0..6 {
        assert_eq!(ask(&world).await.unwrap().status, 502);
    }
    come_back(away).await;
    assert_eq!(ask(&world).await.unwrap().text(), "back");
    // Nor both of two that are both away.
    let both = [nowhere().await, nowhere().await];
    world.route("hello", &both, |_| ());
    for _ in 0..12 {
        assert_eq!(ask(&world).await.unwrap().status, 502);
    }
    come_back(both[0]).await;
    assert_eq!(ask(&world).await.unwrap().text(), "back");
}
