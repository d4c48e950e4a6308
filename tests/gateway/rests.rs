//! Connections on which nobody asks for a while give back what was held for them, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skep::gateway::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::sleep;

use crate::client::Client;
use crate::world::{World, app, echoing_app, raw_app, telling_app, text};

/// How long nobody asks before a connection rests.
const REST: Duration = Duration::from_millis(50);

/// Long enough for it to rest.
const A_WHILE: Duration = Duration::from_millis(200);

async fn world() -> World {
    World::with(Limits { rest: REST, ..Limits::default() }).await
}

#[tokio::test]
async fn what_follows_a_rest_is_answered_however_it_comes() {
    let world = world().await;
    world.route("tell", &[telling_app().await], |_| ());
    world.route("echo", &[echoing_app().await], |_| ());
    let mut client = world.client().await;
    let get = world.head("GET /run/tell", "");
    for cut in [get.len(), 1, 20, get.len() - 1] {
        sleep(A_WHILE).await;
        client.send(&get[..cut]).await;
        // Also in the middle of a head.
        sleep(A_WHILE).await;
        client.send(&get[cut..]).await;
        assert_eq!(client.reply().await.status, 200, "{cut}");
    }
    sleep(A_WHILE).await;
    let post = format!("{}hello", world.head("POST /run/echo", "Content-Length: 5\r\n"));
    client.send(format!("{get}{post}{get}")).await;
    let all = [client.reply().await, client.reply().await, client.reply().await];
    assert_eq!(all.each_ref().map(|reply| reply.status), [200; 3]);
    assert_eq!(all[1].text(), "hello");
    // After a body too, whether or not it rests then.
    sleep(A_WHILE).await;
    assert_eq!(client.ask(&get).await.status, 200);
    // Both lengths, in the first head after a rest.
    sleep(A_WHILE).await;
    let both = world.head("POST /run/echo", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(client.ask(format!("{both}0\r\n\r\n")).await.status, 400);
}

#[tokio::test]
async fn the_rest_of_a_body_is_no_request_however_late_it_comes() {
    let world = world().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let hidden = app(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { text("hidden") }
    })
    .await;
    world.route("hidden", &[hidden], |_| ());
    // Answers before it has read the body, and keeps the connection.
    let early = raw_app(async |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        sleep(Duration::from_secs(5)).await;
    })
    .await;
    world.route("early", &[early], |_| ());
    let smuggled = world.head("GET /run/hidden", "");
    let mut client = world.client().await;
    client.send(world.head("POST /run/early", &format!("Content-Length: {}\r\n", smuggled.len()))).await;
    assert_eq!(client.reply().await.status, 200);
    sleep(A_WHILE).await;
    client.send(&smuggled).await;
    sleep(A_WHILE).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "a body was taken for a request");
}

#[tokio::test]
async fn an_answer_whose_caller_takes_its_time_comes_whole() {
    let world = world().await;
    let large = app(async |request| {
        let length = request.uri().path()[1..].parse().unwrap();
        text(vec![b'x'; length])
    })
    .await;
    world.route("large", &[large], |spec| spec.route.max_in_flight = 1000);
    // Of all lengths, so that the end of some is with the gateway, and not yet with the system, when nothing moves any more.
    let callers = (1..100).map(|number| {
        let world = &world;
        async move {
            let length = number * 48 * 1024;
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut client = Client::over(socket.connect(world.address).await.unwrap());
            client.send(world.head(&format!("GET /run/large/{length}"), "")).await;
            sleep(2 * A_WHILE).await;
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.text().len()), (200, length));
            length
        }
    });
    assert_eq!(futures_util::future::join_all(callers).await.len(), 99);
}

#[tokio::test]
async fn a_connection_that_rests_ends_with_the_daemon_and_where_its_caller_goes() {
    let brief = Duration::from_millis(20);
    let world = World::with(Limits { rest: REST, linger: brief, ..Limits::default() }).await;
    world.route("tell", &[telling_app().await], |_| ());
    let get = world.head("GET /run/tell", "");
    let (mut stays, mut goes) = (world.client().await, world.client().await);
    for client in [&mut stays, &mut goes] {
        assert_eq!(client.ask(&get).await.status, 200);
    }
    sleep(A_WHILE).await;
    drop(goes);
    world.stop.cancel();
    assert!(stays.ends().await);
}
