//! Requests and their heads: where they go, which headers go along.

use http::HeaderValue;
use jiff::Timestamp;
use skep::records::{Key, KeyHash, KeyScope, NewKey};
use skep::tree::{ApiId, Auth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, app, echoing_app, raw_app, telling_app, text};

#[tokio::test]
async fn every_method_path_and_query_arrives_as_it_was_sent() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        for (asked, told) in [
            ("/run/hello", "/"),
            ("/run/hello?x=%2F+%00&x=&y=a/../b", "/?x=%2F+%00&x=&y=a/../b"),
            ("/run/hello//a%20b/%C3%A9/?q", "//a%20b/%C3%A9/?q"),
        ] {
            let reply = client.ask(world.head(&format!("{method} {asked}"), "Content-Length: 0\r\n")).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.text().lines().next(), Some(&*format!("{method} {told}")));
        }
    }
}

#[tokio::test]
async fn a_path_that_could_be_understood_in_two_ways_is_refused() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    for path in ["/run/hello/../x", "/run/hello/%2e%2e/x", "/run/hello/a%2fb", "/run/hello/%00", "http://a/run/hello/"]
    {
        let reply = world.client().await.ask(world.head(&format!("GET {path}"), "")).await;
        assert_eq!(reply.status, 400, "{path}");
        assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
    }
    for head in ["GET /run/hello HTTP/1.1\r\n\r\n", "GET /run/hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        assert_eq!(world.client().await.ask(head).await.status, 400);
    }
}

#[tokio::test]
async fn an_app_sees_the_callers_headers_and_ours_but_neither_its_key_nor_its_connection() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let more = "X-Many: 1\r\nx-many: 2\r\nCookie: a=b\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
        X-Forwarded-For: 6.6.6.6\r\nX-Request-ID: mine\r\nForwarded: for=6.6.6.6\r\nTE: gzip\r\nUpgrade: h2c\r\n";
    let reply = world.client().await.ask(world.head("GET /run/hello/x", more)).await;
    let id = reply.header("x-request-id").unwrap();
    let mut told: Vec<_> = reply.text().lines().skip(1).collect();
    told.sort_unstable();
    told.retain(|line| !line.starts_with("traceparent: "));
    let expected = [
        "cookie: a=b",
        "forwarded: for=127.0.0.1;proto=http;host=skep.test",
        "host: skep.test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: skep.test",
        "x-forwarded-prefix: /run/hello",
        "x-forwarded-proto: http",
        "x-many: 1",
        "x-many: 2",
        &format!("x-request-id: {id}"),
    ];
    assert_eq!(told, expected);
    assert_ne!(id, "mine");
}

#[tokio::test]
async fn a_public_api_sees_authorization_that_is_not_our_key() {
    let world = World::new().await;
    world.route("open", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let ask = async |authorization: &str| {
        let head = format!("GET /run/open HTTP/1.1\r\nHost: a\r\n{authorization}\r\n");
        let reply = world.client().await.ask(head).await;
        assert_eq!(reply.status, 200);
        reply.text().lines().find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned))
    };
    assert_eq!(ask("").await, None);
    assert_eq!(ask("Authorization: Basic YTpi\r\n").await.as_deref(), Some("Basic YTpi"));
    assert_eq!(ask(&format!("Authorization: Bearer {}\r\n", world.key)).await, None);
    assert_eq!(ask("Authorization: Bearer skep_of_another_installation\r\n").await, None);
}

#[tokio::test]
async fn a_caller_sees_the_apps_headers_and_ours_but_not_its_connection() {
    let world = World::new().await;
    let address = app(async |_| {
        let mut response = text("hi");
        for (name, value) in [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("server", "uvicorn"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("x-request-id", "the app's"),
            ("etag", "\"e\""),
        ] {
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        *response.status_mut() = http::StatusCode::IM_A_TEAPOT;
        response
    })
    .await;
    world.route("hello", &[address], |_| ());
    let reply = world.client().await.ask(world.head("GET /run/hello", "")).await;
    assert_eq!(reply.status, 418);
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.all("server"), ["uvicorn"]);
    assert_eq!(reply.all("etag"), ["\"e\""]);
    assert_eq!(reply.all("date").len(), 1);
    assert_eq!(reply.all("x-request-id").len(), 1);
    assert_ne!(reply.all("x-request-id"), ["the app's"]);
    assert!(reply.header("x-process-time").unwrap().parse::<f64>().unwrap() >= 0.0);
    for gone in ["connection", "x-hop", "keep-alive"] {
        assert_eq!(reply.header(gone), None);
    }
}

#[tokio::test]
async fn head_is_answered_with_the_length_and_without_the_body() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    client.send(world.head("HEAD /run/hello", "")).await;
    let reply = client.head().await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-length").unwrap().parse::<u64>().unwrap() > 0);
    // What follows on the same connection is the next answer, not a body.
    client.send("HEAD /run/hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reply = client.head().await;
    assert_eq!(reply.status, 401);
    assert_eq!(client.ask(world.head("GET /run/hello", "")).await.status, 200);
}

#[tokio::test]
async fn what_is_not_below_run_goes_to_the_neighbour_and_its_panic_ends_nothing() {
    let world = World::new().await;
    let mut client = world.client().await;
    for path in ["/health", "/run", "/run/", "/admin/x?y=1"] {
        let reply = client.ask(world.head(&format!("GET {path}"), "")).await;
        assert_eq!((reply.status, reply.text()), (200, &*format!("other {path}")));
        assert!(reply.header("x-request-id").is_some() && reply.header("x-process-time").is_some());
    }
    let reply = client.ask(world.head("GET /panic", "")).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(client.ask(world.head("GET /health", "")).await.status, 200);
}

#[tokio::test]
async fn a_trace_is_continued_where_it_is_sound_and_begun_with_the_id_of_the_request_where_not() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut client = world.client().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let more = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n");
    let reply = client.ask(world.head("GET /run/hello", &more)).await;
    assert!(reply.text().contains(&format!("traceparent: 00-{trace}-")), "{}", reply.text());
    assert!(!reply.text().contains("00f067aa0ba902b7") && reply.text().contains("tracestate: a=1"));

    let reply = client.ask(world.head("GET /run/hello", "traceparent: 00-mine\r\ntracestate: a=1\r\n")).await;
    let id = reply.header("x-request-id").unwrap().replace('-', "");
    assert!(reply.text().contains(&format!("traceparent: 00-{id}-")), "{}", reply.text());
    assert!(!reply.text().contains("tracestate"));
}

#[tokio::test]
async fn who_asks_is_told_what_took_how_long_behind_what_the_app_says() {
    let world = World::new().await;
    let slow = app(async |_| {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut response = text("ok");
        response.headers_mut().insert("server-timing", HeaderValue::from_static("db;dur=1"));
        response
    })
    .await;
    world.route("slow", &[slow], |_| ());
    let mut client = world.client().await;
    let reply = client.ask(world.head("GET /run/slow", "")).await;
    assert_eq!(reply.all("server-timing"), ["db;dur=1"]);
    let reply = client.ask(world.head("GET /run/slow", "X-Server-Timing: 1\r\n")).await;
    let told = reply.all("server-timing");
    assert_eq!(told[0], "db;dur=1");
    let names: Vec<_> = told[1].split(", ").map(|metric| metric.split_once(";dur=").unwrap()).collect();
    assert_eq!(names.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["gateway", "reach", "app"]);
    let app: f64 = names[2].1.parse().unwrap();
    assert!(app >= 49.0, "{told:?}");
}

#[tokio::test]
async fn a_host_of_one_api_is_whole_its_own_and_moves_with_its_route() {
    let world = World::new().await;
    let address = telling_app().await;
    let claim = |id: &str, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        world.route(id, &[address], |spec| spec.route.hosts = hosts);
    };
    claim("thumbs", &["thumbs.test", "t.test"]);
    claim("other", &[]);
    let key = format!("Authorization: Bearer {}\r\n", world.key);
    let ask = async |host: &str, path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{key}\r\n");
        let reply = world.client().await.ask(head).await;
        let first = reply.text().lines().next().unwrap_or_default().to_owned();
        (reply.status, first, reply.text().contains("x-forwarded-prefix: "))
    };
    for (path, told) in [
        ("/", "/"),
        ("/health?x=1", "/health?x=1"),
        ("/run/other/x", "/run/other/x"),
        ("/run/thumbs/openapi.json", "/openapi.json"),
        ("/run/thumbs", "/"),
        ("/run/thumbsup", "/run/thumbsup"),
    ] {
        assert_eq!(ask("Thumbs.test:8663", path).await, (200, format!("GET {told}"), false), "{path}");
    }
    assert_eq!(ask("t.test", "/a/../b").await.0, 400);
    assert_eq!(ask("else.test", "/health").await.1, "other /health");
    assert_eq!(ask("else.test", "/run/thumbs/x").await, (200, "GET /x".to_owned(), true));
    // A key is wanted there as anywhere.
    let reply = world.client().await.ask("GET / HTTP/1.1\r\nHost: thumbs.test\r\n\r\n").await;
    assert_eq!(reply.status, 401);
    // Of two that claim it, the first by id has it; and who gives it up has it no more.
    claim("albums", &["t.test"]);
    let reply = world.client().await.ask(format!("GET /run/albums/x HTTP/1.1\r\nHost: t.test\r\n{key}\r\n")).await;
    assert_eq!(reply.text().lines().next(), Some("GET /x"));
    claim("albums", &[]);
    assert_eq!(ask("t.test", "/run/albums/x").await.1, "GET /run/albums/x");
    claim("thumbs", &[]);
    assert_eq!(ask("t.test", "/health").await.1, "other /health");
}

#[tokio::test]
async fn nothing_that_only_we_say_comes_from_a_caller_in_whatever_way_a_server_would_read_it() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let forged = ["X_Forwarded_For", "X-Forwarded-Server", "x_request_id", "X_Real_IP", "X_Skep_Subject"];
    let lines: String = forged.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let reply = world.client().await.ask(world.head("GET /run/hello/", &lines)).await;
    assert!(reply.status == 200 && !reply.text().contains("forged"), "{}", reply.text());

    // After the body no more than in the head.
    let raw = raw_app(async |mut stream| {
        let mut all = Vec::new();
        while !all.ends_with(b"\r\n\r\n") || !all.windows(3).any(|part| part == b"0\r\n") {
            if stream.read_buf(&mut all).await.unwrap_or_default() == 0 {
                return;
            }
        }
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", all.len());
        let _ = stream.write_all(&[answer.as_bytes(), &all].concat()).await;
    })
    .await;
    world.route("raw", &[raw], |spec| spec.route.auth = Auth::None);
    let names = [
        "X-Skep-Subject",
        "X_Skep_Claim_Email",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-Id",
        "Cookie",
        "Connection",
    ];
    let named = format!("Transfer-Encoding: chunked\r\nTrailer: X-Sum, {}\r\n", names.join(", "));
    let trailers: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let request = format!("{}2\r\n{{}}\r\n0\r\n{trailers}X-Sum: 7\r\n\r\n", world.head("POST /run/raw/", &named));
    let reply = world.client().await.ask(request).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("forged") && reply.text().ends_with("x-sum: 7\r\n\r\n"), "{}", reply.text());
}

#[tokio::test]
async fn what_two_could_read_differently_is_refused_also_where_it_follows_another_request_at_once() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    world.route("echo", &[echoing_app().await], |spec| spec.route.auth = Auth::None);
    let both =
        "POST /run/echo/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let bare = "GET /run/hello/ HTTP/1.1\nHost: a\r\n\r\n";
    let get = "GET /run/hello/ HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /run/echo/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\n\n";
    let chunked = "POST /run/echo/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\n\n\r\n0\r\n\r\n";
    for bad in [both, bare] {
        for before in [vec![], vec![get], vec![post], vec![chunked], vec![get, chunked, post]] {
            let mut client = world.client().await;
            client.send(format!("{}{bad}", before.concat())).await;
            for _ in &before {
                assert_eq!(client.reply().await.status, 200, "{before:?} {bad:?}");
            }
            assert_eq!(client.reply().await.status, 400, "{before:?} {bad:?}");
        }
    }
    for host in ["a b", "a/b", "a@b", "a,b", "a:abc", "[::1"] {
        let head = format!("GET /run/hello/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(world.client().await.ask(head).await.status, 400, "{host}");
    }
    let connect = world.head("CONNECT /run/hello/", "");
    assert_eq!(world.client().await.ask(connect).await.status, 400);
}

#[tokio::test]
async fn the_rest_of_a_body_that_comes_late_is_not_taken_for_a_head() {
    let world = World::new().await;
    let early = raw_app(async |mut stream| {
        let mut head = [0; 4096];
        while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            let mut all = vec![0; 70];
            let _ = stream.read_exact(&mut all).await;
        }
    })
    .await;
    world.route("early", &[early], |spec| spec.route.auth = Auth::None);
    world.route("hello", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let rest = "\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.client().await;
    let more = format!("Content-Length: {}\r\n", 70);
    client.send(format!("{}{}", world.head("POST /run/early/", &more), "x".repeat(70 - rest.len()))).await;
    assert_eq!(client.reply().await.status, 200);
    client.send(format!("{rest}{}", world.head("GET /run/hello/", ""))).await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn no_app_sees_a_key_whatever_it_looks_like_and_opens() {
    let world = World::new().await;
    world.route("open", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let old = NewKey::generate("old", KeyScope::Apis(vec![ApiId::new("other").unwrap()]), Timestamp::now()).key;
    let old = Key { hash: KeyHash::of(b"partner-secret-of-the-old-system"), ..old };
    world.keys.set(vec![old]);
    world.keys.withhold("the-admin-key");
    for (shown, goes_on) in [("partner-secret-of-the-old-system", false), ("the-admin-key", false), ("theirs", true)] {
        let head = format!("GET /run/open/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {shown}\r\n\r\n");
        let reply = world.client().await.ask(head).await;
        assert_eq!((reply.status, reply.text().contains(shown)), (200, goes_on), "{}", reply.text());
    }
}
