//! Admission: who is let in, how often, and with how large a body.

use std::time::Duration;

use jiff::Timestamp;
use skep::gateway::Limits;
use skep::records::{Key, KeyScope, NewKey};
use skep::tree::spec::RateLimit;
use skep::tree::{ApiId, Auth, Seconds};
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

/// A request with that key.
fn with(secret: &str, line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {secret}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn an_expired_key_is_answered_as_an_unknown_one_is() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut key = NewKey::generate("brief", KeyScope::All, Timestamp::now());
    key.key.terms.expires = Some(Timestamp::now() + Duration::from_millis(300));
    world.keys.set(vec![key.key]);
    let mut client = world.client().await;
    assert_eq!(client.ask(with(&key.secret, "GET /run/hello")).await.status, 200);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let expired = anonymous(client.ask(with(&key.secret, "GET /run/hello")).await);
    assert_eq!(expired.status, 401);
    assert_eq!(anonymous(client.ask(with("skep_wrong", "GET /run/hello")).await), expired);
}

#[tokio::test]
async fn a_key_that_is_used_out_of_its_scope_is_refused_with_the_reason() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    world.route("open", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let mut key = NewKey::generate("reader", KeyScope::All, Timestamp::now());
    key.key.terms.methods = vec!["GET".parse().unwrap()];
    key.key.terms.paths = vec!["/items".parse().unwrap()];
    world.keys.set(vec![key.key]);
    let mut client = world.client().await;
    for line in ["GET /run/hello/items?all=1", "GET /run/hello/items/1"] {
        assert_eq!(client.ask(with(&key.secret, line)).await.status, 200, "{line}");
    }
    for (line, word) in [
        ("POST /run/hello/items", "method"),
        ("GET /run/hello/itemsets", "path"),
        ("GET /run/hello", "path"),
        ("GET /run/hello/%69tems", "path"),
    ] {
        let reply = client.ask(with(&key.secret, line)).await;
        assert_eq!((reply.status, reply.error()), (403, format!("this key is not for that {word}")), "{line}");
    }
    assert_eq!(client.ask(with(&key.secret, "GET /run/unknown/other")).await.status, 401);
    // Whoever may call without a key may call with one, and the app does not see it.
    let reply = client.ask(with(&key.secret, "GET /run/open/other")).await;
    assert!(reply.status == 200 && !reply.text().contains("authorization"), "{}", reply.text());
}

#[tokio::test]
async fn a_keys_limit_is_of_all_apis_together_and_goes_on_when_it_is_rotated() {
    let world = World::new().await;
    for id in ["one", "two"] {
        world.route(id, &[telling_app().await], |_| ());
    }
    let mut key = NewKey::generate("free", KeyScope::All, Timestamp::now());
    key.key.terms.limit = Some("3/1h".parse().unwrap());
    let next = key.key.rotate(Timestamp::now());
    world.keys.set(vec![key.key, next.key]);
    let mut client = world.client().await;
    let first = client.ask(with(&key.secret, "GET /run/one")).await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"key\";q=3;w=3600"));
    assert_eq!(first.header("ratelimit"), Some("\"key\";r=2;t=1200"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("2"));
    assert_eq!(client.ask(with(&key.secret, "GET /run/two")).await.status, 200);
    assert_eq!(client.ask(with(&next.secret, "GET /run/two")).await.status, 200);
    for secret in [&key.secret, &next.secret] {
        let reply = client.ask(with(secret, "GET /run/one")).await;
        assert_eq!((reply.status, reply.header("ratelimit")), (429, Some("\"key\";r=0;t=3600")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_api_counts_all_callers_and_each_address_exactly() {
    let world = std::sync::Arc::new(World::new().await);
    let address = telling_app().await;
    let limit = |requests| Some(RateLimit { requests, per: Seconds::new(3600), burst: requests });
    world.route("all", &[address], |spec| spec.route.total_limit = limit(100));
    world.route("each", &[address], |spec| {
        spec.route.address_limit = limit(70);
        spec.rate_limit = limit(50);
    });
    let keys: Vec<NewKey> = (0..8).map(|_| NewKey::generate("k", KeyScope::All, Timestamp::now())).collect();
    world.keys.set(keys.iter().map(|key| key.key.clone()));
    for (id, expected) in [("all", 100), ("each", 70)] {
        let asking = keys.iter().map(|key| {
            let (world, line) = (std::sync::Arc::clone(&world), with(&key.secret, &format!("GET /run/{id}")));
            tokio::spawn(async move {
                let mut client = world.client().await;
                let mut passed = 0;
                for _ in 0..40 {
                    passed += usize::from(client.ask(&line).await.status == 200);
                }
                passed
            })
        });
        let mut passed = 0;
        for asking in asking.collect::<Vec<_>>() {
            passed += asking.await.unwrap();
        }
        assert_eq!(passed, expected, "{id}");
    }
}
