//! Admission: who is let in, how often, and with how large a body.

use std::time::Duration;

use jiff::Timestamp;
use skep::gateway::Limits;
use skep::records::{Key, KeyScope, NewKey};
use skep::tree::spec::RateLimit;
use skep::tree::{ApiId, Seconds};
use tokio::io::AsyncWriteExt;

use crate::client::Reply;
use crate::world::{World, echoing_app, telling_app};

/// Takes out of an answer what differs from request to request.
fn anonymous(mut reply: Reply) -> Reply {
    let id = reply.header("x-request-id").unwrap().to_owned();
    assert!(reply.text().contains(&id));
    reply.body = reply.text().replace(&id, "").into_bytes();
    reply.headers.retain(|(name, _)| !["x-request-id", "x-process-time", "date"].contains(&name.as_str()));
    reply
}

#[tokio::test]
async fn no_key_a_wrong_one_and_an_unknown_api_are_answered_alike() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let now = Timestamp::now();
    let narrow = NewKey::generate("narrow", KeyScope::Apis(vec![ApiId::new("other").unwrap()]), now);
    let revoked = NewKey::generate("revoked", KeyScope::All, now);
    let good = NewKey::generate("good", KeyScope::Apis(vec![ApiId::new("hello").unwrap()]), now);
    let all = NewKey::generate("all", KeyScope::All, now);
    let gone = Key { revoked: Some(now), ..revoked.key };
    world.keys.set(vec![narrow.key, gone, good.key, all.key]);
    let ask = async |id: &str, authorization: String| {
        let head = format!("GET /run/{id} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n");
        world.client().await.ask(head).await
    };
    let bearer = |secret: &str| format!("Authorization: Bearer {secret}\r\n");
    assert_eq!(ask("hello", bearer(&good.secret)).await.status, 200);

    let first = anonymous(ask("hello", String::new()).await);
    assert_eq!(first.status, 401);
    assert_eq!(first.header("www-authenticate"), Some("Bearer"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    for (id, authorization) in [
        ("hello", bearer("skep_wrong")),
        ("hello", bearer(&narrow.secret)),
        ("hello", bearer(&revoked.secret)),
        ("hello", "Authorization: Basic YTpi\r\n".to_owned()),
        ("hello", bearer(&good.secret).repeat(2)),
        ("unknown", String::new()),
        ("unknown", bearer(&good.secret)),
        ("unknown", bearer(&all.secret)),
        ("NO-ID%20", bearer(&all.secret)),
    ] {
        assert_eq!(anonymous(ask(id, authorization.clone()).await), first, "{id} {authorization}");
    }
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_and_its_sender_sees_the_answer() {
    let world = World::new().await;
    world.route("echo", &[echoing_app().await], |spec| spec.route.max_body = "1MiB".parse().unwrap());
    let mut client = world.client().await;
    client.send(world.head("POST /run/echo", &format!("Content-Length: {}\r\n", 16 << 20))).await;
    // As many clients do, this one sends all before it reads.
    client.stream.write_all(&vec![0; 16 << 20]).await.unwrap();
    let reply = client.reply().await;
    assert_eq!(reply.status, 413);
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(reply.error().contains("1048576 bytes"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_cut_off() {
    let world = World::new().await;
    let reading = crate::world::app(async |request| {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        crate::world::text("read")
    })
    .await;
    let upstreams = world.route("reads", &[reading], |spec| spec.route.max_body = "1KiB".parse().unwrap());
    let mut client = world.client().await;
    client.send(world.head("POST /run/reads", "Transfer-Encoding: chunked\r\n")).await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    client.send(&chunk).await;
    client.send("1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 413);
    assert_eq!(upstreams[0].in_flight(), 0);
    // Exactly as much as is allowed passes.
    let mut client = world.client().await;
    client.send(world.head("POST /run/reads", "Transfer-Encoding: chunked\r\n")).await;
    assert_eq!(client.ask(chunk + "0\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn a_caller_over_its_limit_is_told_so_and_when_to_come_back() {
    let world = World::new().await;
    let address = telling_app().await;
    let limit = RateLimit { requests: 60, per: Seconds::new(3600), burst: 2 };
    world.route("hello", &[address], |spec| spec.rate_limit = Some(limit));
    let mut client = world.client().await;
    for remaining in ["1", "0"] {
        let reply = client.ask(world.head("GET /run/hello", "")).await;
        assert_eq!((reply.status, reply.header("x-ratelimit-remaining")), (200, Some(remaining)));
        assert_eq!(reply.header("x-ratelimit-limit"), Some("60"));
    }
    let reply = client.ask(world.head("GET /run/hello", "")).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.error(), "Rate limit exceeded");
    assert_eq!(reply.json()["limit"], 60);
    assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(Some(reply.json()["reset"].to_string().as_str()), reply.header("x-ratelimit-reset"));
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");

    // Another key has its own allowance; and what is counted outlives a change of the route.
    world.route("hello", &[address], |spec| spec.rate_limit = Some(limit));
    assert_eq!(client.ask(world.head("GET /run/hello", "")).await.status, 429);
    let other = NewKey::generate("other", KeyScope::All, Timestamp::now());
    world.keys.set(vec![other.key]);
    let head = format!("GET /run/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", other.secret);
    assert_eq!(client.ask(head).await.status, 200);
}

#[tokio::test]
async fn a_head_or_a_body_that_stops_coming_is_given_up() {
    let brief = Duration::from_millis(200);
    let limits = Limits { head_timeout: brief, body_silence: brief, ..Limits::default() };
    let world = World::with(limits).await;
    let upstreams = world.route("echo", &[telling_app().await], |_| ());
    let reading = crate::world::app(async |request| {
        use http_body_util::BodyExt;
        let _ = request.into_body().collect().await;
        crate::world::text("read")
    })
    .await;
    let more = world.route("reads", &[reading], |_| ());
    let mut client = world.client().await;
    client.send("GET /run/echo HTTP/1.1\r\nHost:").await;
    assert!(client.ends().await);

    let mut client = world.client().await;
    let reply = client.ask(world.head("POST /run/reads", "Content-Length: 10\r\n") + "12345").await;
    assert_eq!(reply.status, 408);
    assert_eq!((upstreams[0].in_flight(), more[0].in_flight()), (0, 0));
}
