//! Versions: HTTP/2 from callers, by prior knowledge and over TLS, and HTTP/1.1 beside it on the same port.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use skep::gateway::{Limits, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::Client;
use crate::world::{World, app, echoing_app, eventually, telling_app, text};

/// The flags of a frame of fields that is the last of its stream.
const END: u8 = 5;

pub type Caller = SendRequest<BoxBody<Bytes, std::convert::Infallible>>;

/// A caller that speaks HTTP/2 over a stream; the second is done when the connection has ended.
async fn speak<S>(stream: S) -> (Caller, tokio::task::JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (caller, connection) = Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    (caller, tokio::spawn(connection))
}

pub async fn caller(world: &World) -> Caller {
    speak(TcpStream::connect(world.address).await.unwrap()).await.0
}

pub fn full(body: impl Into<Bytes>) -> BoxBody<Bytes, std::convert::Infallible> {
    Full::new(body.into()).boxed()
}

fn request(world: &World, method: &str, path: &str) -> http::request::Builder {
    let key = format!("Bearer {}", world.key);
    Request::builder().method(method).uri(format!("http://skep.test{path}")).header("authorization", key)
}

async fn ask(
    caller: &mut Caller,
    request: Request<BoxBody<Bytes, std::convert::Infallible>>,
) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = caller.send_request(request).await.unwrap().into_parts();
    assert_eq!(parts.version, Version::HTTP_2);
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn an_app_sees_a_request_of_http2_as_one_of_http1() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |_| ());
    let mut caller = caller(&world).await;
    let asked = request(&world, "GET", "/run/hello/x?y=%2F")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-forwarded-for", "6.6.6.6")
        .header("te", "trailers");
    let (status, headers, told) = ask(&mut caller, asked.body(full("")).unwrap()).await;
    assert_eq!(status, 200);
    let id = headers["x-request-id"].to_str().unwrap();
    let mut told: Vec<_> = told.lines().filter(|line| !line.starts_with("traceparent: ")).collect();
    told[1..].sort_unstable();
    let expected = [
        "GET /x?y=%2F",
        "connection: te",
        "cookie: a=1; b=2",
        "host: skep.test",
        "te: trailers",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: skep.test",
        "x-forwarded-prefix: /run/hello",
        "x-forwarded-proto: http",
        &format!("x-request-id: {id}"),
    ];
    told.retain(|line| !line.starts_with("forwarded: "));
    assert_eq!(told, expected);
    for gone in ["connection", "transfer-encoding", "keep-alive"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn refusals_neighbours_and_keys_are_the_same_in_both_versions() {
    let world = World::new().await;
    world.route("hello", &[telling_app().await], |spec| spec.route.max_body = "1KiB".parse().unwrap());
    let mut caller = caller(&world).await;
    let strange = Request::builder().uri("http://skep.test/run/hello").body(full("")).unwrap();
    let (status, headers, body) = ask(&mut caller, strange).await;
    assert_eq!((status.as_u16(), headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert!(body.contains(headers["x-request-id"].to_str().unwrap()));
    for (path, expected) in [("/run/hello/../x", 400), ("/run/hello/%2f", 400), ("/health", 200), ("/panic", 500)] {
        let asked = request(&world, "GET", path).body(full("")).unwrap();
        assert_eq!(ask(&mut caller, asked).await.0, expected, "{path}");
    }
    let two_hosts = request(&world, "GET", "/run/hello").header("host", "elsewhere").body(full("")).unwrap();
    assert_eq!(ask(&mut caller, two_hosts).await.0, 400);
    // Nobody has to send what is refused, and the connection goes on.
    let large = request(&world, "POST", "/run/hello").body(full(vec![0; 8 << 20])).unwrap();
    let (status, headers, _) = ask(&mut caller, large).await;
    assert_eq!((status.as_u16(), headers.contains_key("connection")), (413, false));
    let asked = request(&world, "GET", "/run/hello").body(full("")).unwrap();
    assert_eq!(ask(&mut caller, asked).await.0, 200);
    // And HTTP/1.1 on the same port.
    assert_eq!(world.client().await.ask(world.head("GET /run/hello", "")).await.status, 200);
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways_and_requests_side_by_side() {
    let world = World::new().await;
    world.route("echo", &[echoing_app().await], |_| ());
    let caller = caller(&world).await;
    let asked: Vec<_> = (0..20_usize)
        .map(|n| {
            let mut caller = caller.clone();
            let body = vec![u8::try_from(n).unwrap(); n * 100_000];
            let asked = request(&world, "POST", "/run/echo").body(full(body.clone())).unwrap();
            tokio::spawn(async move {
                let answer = caller.send_request(asked).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.into_body().collect().await.unwrap().to_bytes() == body, "{n}");
            })
        })
        .collect();
    for asked in asked {
        asked.await.unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = [http_body::Frame::data(Bytes::from("abc")), http_body::Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>))).boxed();
    let asked = request(&world, "GET", "/run/echo").header("te", "trailers").header("trailer", "x-sum");
    let answer = caller.clone().send_request(asked.body(body).unwrap()).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "42");
    assert_eq!(answer.to_bytes(), "abc");
}

#[tokio::test]
async fn a_shutdown_says_goodbye_and_lets_what_has_begun_finish() {
    let world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let slow = app(move |_| {
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await.unwrap().forget();
            text("late")
        }
    })
    .await;
    let upstreams = world.route("slow", &[slow], |_| ());
    let (mut caller, ended) = speak(TcpStream::connect(world.address).await.unwrap()).await;
    let asked = request(&world, "GET", "/run/slow").body(full("")).unwrap();
    let mut asking = caller.clone();
    let answer = tokio::spawn(async move { ask(&mut asking, asked).await });
    eventually(|| upstreams[0].in_flight() == 1).await;
    world.stop.cancel();
    // The goodbye has come when no more is taken.
    let refused = async {
        loop {
            let next = request(&world, "GET", "/health").body(full("")).unwrap();
            if caller.ready().await.is_err() || caller.send_request(next).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.expect("no goodbye");
    gate.add_permits(1);
    assert_eq!(answer.await.unwrap().2, "late");
    ended.await.unwrap().unwrap();
    world.served.await.unwrap();
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_ends_and_one_with_an_open_request_does_not() {
    let brief = Duration::from_millis(300);
    let world = World::with(Limits { head_timeout: brief, ..Limits::default() }).await;
    let late = app(async |_| {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        text("late")
    })
    .await;
    world.route("late", &[late], |_| ());
    let (mut caller, ended) = speak(TcpStream::connect(world.address).await.unwrap()).await;
    let asked = request(&world, "GET", "/run/late").body(full("")).unwrap();
    assert_eq!(ask(&mut caller, asked).await.2, "late");
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is still open").unwrap().unwrap();
    // Nor does one stay that says nothing, half a preface, or nothing after it.
    for beginning in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}"] {
        let mut client = world.client().await;
        client.send(beginning).await;
        assert!(client.drain().await, "{beginning:?}");
    }
}

#[tokio::test]
async fn a_caller_that_begins_requests_only_to_give_them_up_is_sent_away_and_others_are_not() {
    let world = Arc::new(World::new().await);
    let begun = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&begun);
    let never = app(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Response<_>>()
    })
    .await;
    let upstreams = world.route("never", &[never], |_| ());
    world.route("hello", &[telling_app().await], |_| ());
    let good = caller(&world).await;
    let (bad, ended) = speak(TcpStream::connect(world.address).await.unwrap()).await;
    let flood = async {
        loop {
            let mut bad = bad.clone();
            let asked = request(&world, "GET", "/run/never").body(full("")).unwrap();
            if bad.ready().await.is_err() {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(5), bad.send_request(asked)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flood).await.expect("it may go on for ever");
    drop(ended);
    let begun = begun.load(Ordering::Relaxed);
    assert!(begun < 200, "{begun} requests reached the app");
    eventually(|| upstreams[0].in_flight() == 0).await;
    let asked = request(&world, "GET", "/run/hello").body(full("")).unwrap();
    assert_eq!(ask(&mut good.clone(), asked).await.0, 200);
}

#[tokio::test]
async fn frames_that_a_request_does_not_survive_do_not_reach_an_app() {
    let world = World::new().await;
    let reached = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reached);
    let address = app(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(text("ok"))
    })
    .await;
    world.route("open", &[address], |spec| spec.route.auth = skep::tree::Auth::None);
    // Fields without compression (RFC 7541, section 6.2.2): the pseudo-fields, and one more.
    let field = |name: &str, value: &str| {
        let lengths = [u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()];
        [&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
    };
    let head = |more: &[(&str, &str)]| {
        let fixed = [(":method", "POST"), (":scheme", "http"), (":path", "/run/open/"), (":authority", "a")];
        fixed.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect::<Vec<u8>>()
    };
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    for (what, bytes) in [
        ("connection", frame(1, END, 1, &head(&[("connection", "close")]))),
        ("transfer-encoding", frame(1, END, 1, &head(&[("transfer-encoding", "chunked")]))),
        ("upgrade", frame(1, END, 1, &head(&[("upgrade", "websocket")]))),
        ("upper case", frame(1, END, 1, &head(&[("X-Upper", "1")]))),
        ("line feed", frame(1, END, 1, &head(&[("x-line", "a\nb: c")]))),
        ("NUL", frame(1, END, 1, &head(&[("x-nul", "a\0b")]))),
        ("two lengths", frame(1, END, 1, &head(&[("content-length", "0"), ("content-length", "1")]))),
        ("a length and no body", frame(1, END, 1, &head(&[("content-length", "3")]))),
        ("an even stream", frame(1, END, 2, &head(&[]))),
        ("no settings first, but data", frame(0, 1, 1, b"abc")),
    ] {
        let mut client = world.client().await;
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(frame(4, 0, 0, b"")).await;
        client.send(bytes).await;
        client.send(frame(6, 0, 0, b"12345678")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(reached.load(Ordering::Relaxed), 0, "{what}");
    }
    // The same without any of this does.
    let mut client = world.client().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(frame(4, 0, 0, b"")).await;
    client.send(frame(1, END, 1, &head(&[]))).await;
    eventually(|| reached.load(Ordering::Relaxed) == 1).await;
    // Fields without end, in frame after frame, end the connection.
    let mut client = world.client().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(frame(4, 0, 0, b"")).await;
    client.send(frame(1, 0, 1, &head(&[]))).await;
    let more = frame(9, 0, 1, &field("x-more", &"x".repeat(120)).repeat(100));
    for _ in 0..10_000 {
        if client.stream.write_all(&more).await.is_err() {
            break;
        }
    }
    assert!(client.stream.write_all(&more).await.is_err(), "130 MB of fields were taken");
}

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/certificates")
}

/// Opens TLS, and says which protocol was agreed on.
async fn open(world: &World, offers: &[&str]) -> std::io::Result<(TlsStream<TcpStream>, Option<String>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates().join("ca.pem")).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offers.iter().map(|offer| offer.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(world.address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect("skep.test".try_into().unwrap(), stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol().map(|agreed| String::from_utf8(agreed.to_vec()).unwrap());
    Ok((stream, agreed))
}

/// A world that has the certificate `one`, in files that a test may change.
async fn secure_world() -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one.pem", "one.key"] {
        std::fs::copy(certificates().join(name), folder.path().join(name)).unwrap();
    }
    let tls = Tls::load(&folder.path().join("one.pem"), &folder.path().join("one.key")).unwrap();
    (World::with_tls(Limits::default(), Some(tls)).await, folder)
}

#[tokio::test]
async fn over_tls_both_versions_are_offered_and_the_app_is_told_https() {
    let (world, _files) = secure_world().await;
    world.route("hello", &[telling_app().await], |_| ());
    let (stream, agreed) = open(&world, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(agreed.as_deref(), Some("h2"));
    let (mut caller, _) = speak(stream).await;
    let asked = request(&world, "GET", "/run/hello").body(full("")).unwrap();
    let (status, _, told) = ask(&mut caller, asked).await;
    assert_eq!(status, 200);
    assert!(told.contains("x-forwarded-proto: https\n"), "{told}");
    for (offers, expected) in [(&["http/1.1"][..], Some("http/1.1")), (&[], None)] {
        let (mut stream, agreed) = open(&world, offers).await.unwrap();
        assert_eq!(agreed.as_deref(), expected);
        stream.write_all(world.head("GET /run/hello", "Connection: close\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("x-forwarded-proto: https\n"), "{answer}");
    }
    // This host may do without: our own commands do.
    let reply = world.client().await.ask(world.head("GET /run/hello", "")).await;
    assert!(reply.text().contains("x-forwarded-proto: http\n"));
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let (world, files) = secure_world().await;
    let shown = async || {
        let (stream, _) = open(&world, &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let [one, two] =
        ["one.pem", "two.pem"].map(|name| CertificateDer::from_pem_file(certificates().join(name)).unwrap());
    assert_eq!(shown().await, one);
    // A certificate whose key has not come yet.
    std::fs::copy(certificates().join("two.pem"), files.path().join("one.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown().await, one);
    std::fs::write(files.path().join("one.key"), "no key").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown().await, one);
    std::fs::copy(certificates().join("two.key"), files.path().join("one.key")).unwrap();
    for _ in 0..100 {
        if shown().await == two {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the new certificate is not in use after ten seconds");
}

#[test]
fn a_pair_that_cannot_be_used_is_an_error_that_names_its_file() {
    let at = |name: &str| certificates().join(name);
    for (certificate, key, named) in [
        ("one.pem", "two.key", "one.pem"),
        ("one.key", "one.key", "one.key holds no certificate"),
        ("one.pem", "one.pem", "one.pem holds no private key"),
        ("none.pem", "one.key", "none.pem"),
    ] {
        let error = Tls::load(&at(certificate), &at(key)).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_handshake_where_there_is_no_certificate_gets_no_further() {
    let world = World::new().await;
    let failed = tokio::time::timeout(Duration::from_secs(10), open(&world, &[])).await.expect("it hangs");
    assert!(failed.is_err());
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_others_have_theirs() {
    let world = World::with(Limits { connections_per_address: 3, ..Limits::default() }).await;
    let mut open: Vec<Client> = Vec::new();
    for _ in 0..3 {
        let mut client = world.client().await;
        assert_eq!(client.ask(world.head("GET /health", "")).await.status, 200);
        open.push(client);
    }
    assert!(world.client().await.ends().await);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(socket.connect(world.address).await.unwrap());
    assert_eq!(other.ask(world.head("GET /health", "")).await.status, 200);
    open.pop();
    for _ in 0..100 {
        let mut client = world.client().await;
        let _ = client.stream.write_all(world.head("GET /health", "").as_bytes()).await;
        let mut first = [0; 12];
        if client.stream.read_exact(&mut first).await.is_ok() {
            assert_eq!(&first, b"HTTP/1.1 200");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a connection that has ended still counts");
}

#[tokio::test]
async fn a_caller_that_takes_nothing_in_is_given_up_and_frees_the_instance() {
    let world = World::with(Limits { write_silence: Duration::from_millis(300), ..Limits::default() }).await;
    let large = app(async |_: Request<Incoming>| text(vec![0; 64 << 20])).await;
    let upstreams = world.route("large", &[large], |_| ());
    let mut client = world.client().await;
    client.send(world.head("GET /run/large", "")).await;
    eventually(|| upstreams[0].in_flight() == 1).await;
    eventually(|| upstreams[0].in_flight() == 0).await;
}
