//! What collectors elsewhere are told: spans by OTLP, errors by Sentry's protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::apps::saying;
use crate::http::Request;
use crate::world::World;

/// A collector: takes in whatever is posted, and keeps it.
struct Collector {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<Posted>>>,
}

/// A path, and what was posted there.
type Posted = (String, Vec<u8>);

impl Collector {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&posted);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let path = line.split(' ').nth(1).unwrap().to_owned();
                let mut length = 0;
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    if header.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                kept.lock().unwrap().push((path, body));
                let mut stream = stream;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
            }
        });
        Self { address, posted }
    }

    fn has(&self, path: &str, bytes: &[u8]) -> bool {
        let posted = self.posted.lock().unwrap();
        posted.iter().any(|(at, body)| at == path && body.windows(bytes.len()).any(|window| window == bytes))
    }
}

#[test]
fn requests_and_steps_are_told_as_spans_and_errors_as_events() {
    let (traces, sentry) = (Collector::open(), Collector::open());
    let world = World::new();
    world.code("hello", &saying("one"));
    let endpoint = format!("http://{}", traces.address);
    let dsn = format!("http://0123456789abcdef0123456789abcdef@{}/7", sentry.address);
    world.serve_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("SENTRY_DSN", &dsn)]);
    world.expect_rest("hello", "synced", "healthy");
    assert_eq!(world.send(&Request::get("/health")).json()["sentry_enabled"], true);

    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let request = Request::get("/run/hello/").header("traceparent", format!("00-{trace}-{parent}-01"));
    let answer = world.send(&request).expect(200);
    let request_id = answer.header("x-request-id").unwrap();
    let silent = Request::get("/run/hello/").header("traceparent", format!("00-{}-{parent}-00", "ab".repeat(16)));
    world.send(&silent).expect(200);
    let sent = |bytes: &[u8]| traces.has("/v1/traces", bytes);
    world.until("the request and the steps are told", || {
        sent(request_id.as_bytes()) && sent(b"GET /run/{id}/{path}") && sent(b"step build") && sent(b"step route")
    });
    assert!(sent(&hex::decode(trace).unwrap()) && sent(&hex::decode(parent).unwrap()));
    assert!(!sent(&[0xab; 16]), "its caller did not want it");

    assert!(sentry.posted.lock().unwrap().is_empty(), "nothing went wrong");
    world.write("skep.yaml", "defaults: [\n");
    world.until("the error is told", || sentry.has("/api/7/envelope/", b"skep.yaml cannot be used"));
    let refused = world.command(&["serve"]).env("SENTRY_DSN", "nonsense").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("SENTRY_DSN: this is no DSN"), "{refused:?}");
}
