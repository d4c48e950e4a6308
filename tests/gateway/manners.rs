//! Manners: from where callers may come, and what pages of other origins are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use skep::gateway::{Body, Gateway, Limits, RouteState};
use skep::tree::spec::RateLimit;
use skep::tree::{Auth, Cors, Seconds};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Reply};
use crate::versions::{caller, full};
use crate::world::{World, app, telling_app, text};

/// Versions of HTTP that callers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

pub const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

/// Asks with just these headers, on a connection of its own.
pub async fn ask(world: &World, version: Version, line: &str, headers: &[(&str, &str)]) -> Reply {
    let (method, path) = line.split_once(' ').unwrap();
    if version == Version::Http1 {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut client = world.client().await;
        client.send(format!("{line} HTTP/1.1\r\nHost: skep.test\r\n{headers}\r\n")).await;
        return if method == "HEAD" { client.head().await } else { client.reply().await };
    }
    let request = Request::builder().method(method).uri(format!("http://skep.test{path}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = caller(world).await.send_request(request.body(full("")).unwrap()).await.unwrap();
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let lines = |map: &HeaderMap| map.iter().map(|(name, value)| (name.to_string(), text(value))).collect::<Vec<_>>();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().map(lines).into_iter().flatten();
    Reply {
        status: parts.status.as_u16(),
        headers: lines(&parts.headers),
        trailers: trailers.map(|(name, value)| format!("{name}: {value}\r\n")).collect(),
        body: body.to_bytes().into(),
    }
}

fn limit(requests: u32) -> RateLimit {
    RateLimit { requests, per: Seconds::new(3600), burst: requests }
}

fn networks(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn who_comes_from_elsewhere_is_refused_before_keys_and_limits() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.key);
    let at = telling_app().await;
    for (id, allow, deny) in [
        ("out", &["10.0.0.0/8"][..], &[][..]),
        ("denied", &["127.0.0.0/8"], &["127.0.0.1/32"]),
        ("let-in", &["10.0.0.0/8", "127.0.0.0/8"], &["127.0.0.2/32"]),
    ] {
        world.route(id, &[at], |spec| {
            (spec.route.allow, spec.route.deny) = (networks(allow), networks(deny));
            spec.route.address_limit = Some(limit(1));
        });
    }
    for id in ["out", "denied"] {
        for headers in [&[][..], &[("authorization", "Bearer skep_wrong")], &[("authorization", &*bearer)]] {
            let reply = ask(&world, Version::Http1, &format!("GET /run/{id}"), headers).await;
            assert_eq!((reply.status, reply.error().as_str()), (403, "this API is not for callers from that address"));
            assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
            assert_eq!(reply.header("content-type"), Some("application/json"));
            assert_eq!(reply.header("ratelimit"), None);
        }
    }
    let let_in = async |headers: &[(&str, &str)]| ask(&world, Version::Http1, "GET /run/let-in", headers).await.status;
    assert_eq!(let_in(&[]).await, 401);
    assert_eq!(let_in(&[("authorization", &bearer)]).await, 200);
    assert_eq!(let_in(&[("authorization", &bearer)]).await, 429);
}

#[tokio::test]
async fn a_caller_of_ipv4_is_one_on_a_socket_that_speaks_both() {
    let world = World::new().await;
    let at = telling_app().await;
    for (id, allow) in [("four", "127.0.0.0/8"), ("six", "::/0")] {
        world.route(id, &[at], |spec| spec.route.allow = networks(&[allow]));
    }
    let gateway = Gateway::new(Arc::clone(&world.routes), Arc::clone(&world.keys), Limits::default());
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let other = Arc::new(async |_| Response::new(Body::empty()));
    tokio::spawn(Arc::new(gateway).serve(listener, other, stop.clone()));
    for (host, four, six) in [("127.0.0.1", 200, 403), ("[::1]", 403, 200)] {
        let at = format!("{host}:{port}").parse().unwrap();
        assert_eq!(Client::connect(at).await.ask(world.head("GET /run/four", "")).await.status, four, "{host}");
        assert_eq!(Client::connect(at).await.ask(world.head("GET /run/six", "")).await.status, six, "{host}");
    }
    stop.cancel();
}

pub fn cors(origin: &str) -> Arc<Cors> {
    Arc::new(Cors {
        origins: vec![origin.parse().unwrap()],
        methods: vec!["GET".parse().unwrap(), "PUT".parse().unwrap()],
        headers: vec!["Authorization".to_owned()],
        expose: vec!["X-Sum".to_owned()],
        credentials: false,
        max_age: Seconds::new(60),
    })
}

/// What an answer says of CORS, its names short and in their order.
fn told(reply: &Reply) -> Vec<String> {
    let of_cors =
        |(name, value): &(String, String)| Some(format!("{}: {value}", name.strip_prefix("access-control-")?));
    let mut told: Vec<_> = reply.headers.iter().filter_map(of_cors).collect();
    told.sort();
    told
}

const PAGE: (&str, &str) = ("origin", "https://app.test");
const WISH: (&str, &str) = ("access-control-request-method", "PUT");

#[tokio::test]
async fn a_preflight_is_answered_here_without_a_key_and_counts_for_its_address() {
    for version in BOTH {
        let world = World::new().await;
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        let at = app(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { text("") }
        })
        .await;
        world.route("shared", &[at], |spec| {
            spec.route.cors = Some(cors("https://app.test"));
            spec.route.address_limit = Some(limit(2));
            // No caller has shown itself yet.
            spec.rate_limit = Some(limit(1));
        });
        let reply = ask(&world, version, "OPTIONS /run/shared/x?y", &[PAGE, WISH]).await;
        assert_eq!((reply.status, reply.header("vary")), (204, Some("origin")));
        let expected = [
            "allow-headers: Authorization",
            "allow-methods: GET, PUT",
            "allow-origin: https://app.test",
            "max-age: 60",
        ];
        assert_eq!(told(&reply), expected);
        assert_eq!((reply.body.len(), reply.header("content-length"), reply.header("content-type")), (0, None, None));
        // One from elsewhere is told nothing, and no cache may take that for the answer to all.
        let reply = ask(&world, version, "OPTIONS /run/shared", &[("origin", "https://evil.test"), WISH]).await;
        assert_eq!((reply.status, reply.header("vary"), told(&reply)), (204, Some("origin"), vec![]));
        let reply = ask(&world, version, "OPTIONS /run/shared", &[PAGE, WISH]).await;
        assert_eq!((reply.status, reply.header("ratelimit")), (429, Some("\"address\";r=0;t=3600")));
        assert_eq!(
            told(&reply),
            [
                "allow-headers: Authorization",
                "allow-methods: GET, PUT",
                "allow-origin: https://app.test",
                "max-age: 60"
            ]
        );
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_page_can_read_every_answer_and_errors_of_ours_and_hears_of_cors_from_us_alone() {
    for version in BOTH {
        let world = World::new().await;
        let at = app(async |_| {
            let mut response = text("hi");
            for (name, value) in [
                ("access-control-allow-origin", "https://app.own"),
                ("access-control-allow-origin", "*"),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", "x-own"),
                ("vary", "Accept-Language"),
                ("x-sum", "1"),
            ] {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            response
        })
        .await;
        let share = |id: &str, requests| {
            world.route(id, &[at], |spec| {
                spec.route.cors = Some(cors("https://*.a.test"));
                spec.route.total_limit = Some(limit(requests));
            });
        };
        share("shared", 100);
        share("busy", 1);
        let paused = |spec: &mut skep::tree::Spec| {
            spec.route.cors = Some(cors("https://*.a.test"));
            spec.route.maintenance = "Back at 9.".to_owned();
        };
        world.route_to("paused", RouteState::Suspended, paused);
        let page = ("origin", "https://app.a.test");
        let bearer = format!("Bearer {}", world.key);
        let key = ("authorization", &*bearer);
        let expected = ["allow-origin: https://app.a.test", "expose-headers: X-Sum"];

        let reply = ask(&world, version, "GET /run/shared", &[page, key]).await;
        assert_eq!((reply.status, reply.text(), reply.header("x-sum")), (200, "hi", Some("1")));
        assert_eq!(told(&reply), expected);
        assert_eq!(reply.all("vary"), ["Accept-Language", "origin"]);
        for headers in [&[key][..], &[key, ("origin", "https://a.test")], &[key, ("origin", "http://app.a.test")]] {
            let reply = ask(&world, version, "GET /run/shared", headers).await;
            assert_eq!((reply.status, told(&reply)), (200, vec![]));
            assert_eq!(reply.all("vary"), ["Accept-Language", "origin"]);
        }

        let strange = ask(&world, version, "GET /run/shared", &[page]).await;
        ask(&world, version, "GET /run/busy", &[page, key]).await;
        let busy = ask(&world, version, "GET /run/busy", &[page, key]).await;
        let paused = ask(&world, version, "GET /run/paused", &[page, key]).await;
        assert_eq!([strange.status, busy.status, paused.status], [401, 429, 503]);
        assert_eq!((paused.error().as_str(), paused.header("retry-after")), ("Back at 9.", Some("60")));
        for reply in [strange, busy, paused] {
            assert_eq!((told(&reply), reply.all("vary")), (expected.map(str::to_owned).into(), vec!["origin"]));
        }
        // It is asked like any other where it is no preflight, and where there is no such API, nothing is said.
        let reply = ask(&world, version, "OPTIONS /run/shared", &[page, key]).await;
        assert_eq!((reply.status, reply.text()), (200, "hi"));
        assert_eq!(ask(&world, version, "OPTIONS /run/shared", &[page]).await.status, 401);
        let reply = ask(&world, version, "OPTIONS /run/nobody", &[page, WISH]).await;
        assert_eq!((reply.status, told(&reply)), (401, vec![]));
    }
}

#[tokio::test]
async fn without_the_setting_all_of_cors_is_the_apps() {
    for version in BOTH {
        let world = World::new().await;
        let at = app(async |request: Request<hyper::body::Incoming>| {
            let asked = request.headers()["access-control-request-method"].clone();
            let mut response = text(request.method().to_string());
            response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("https://app.own"));
            response.headers_mut().insert("access-control-allow-methods", asked);
            response
        })
        .await;
        world.route("plain", &[at], |_| ());
        world.route("open", &[at], |spec| spec.route.auth = Auth::None);
        let bearer = format!("Bearer {}", world.key);
        let reply = ask(&world, version, "OPTIONS /run/plain", &[PAGE, WISH]).await;
        assert_eq!((reply.status, told(&reply), reply.header("vary")), (401, vec![], None));
        for reply in [
            ask(&world, version, "OPTIONS /run/plain", &[PAGE, WISH, ("authorization", &bearer)]).await,
            ask(&world, version, "OPTIONS /run/open", &[PAGE, WISH]).await,
        ] {
            assert_eq!((reply.status, reply.text(), reply.header("vary")), (200, "OPTIONS", None));
            assert_eq!(told(&reply), ["allow-methods: PUT", "allow-origin: https://app.own"]);
        }
    }
}
