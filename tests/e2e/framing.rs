//! Framing: bytes that two readers of HTTP could take for different requests, in the order of RFC 9112 and RFC 9113. A
//! real uvicorn behind the gateway notes each request that it hears, and it hears only those that the gateway meant.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::world::World;

/// How long nothing comes after the last answer.
const QUIET: Duration = Duration::from_millis(400);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent, the statuses of the answers, and what uvicorn hears of it.
struct Case {
    what: &'static str,
    sent: Vec<u8>,
    statuses: Vec<u16>,
    heard: Vec<String>,
}

/// It is refused, and uvicorn hears nothing.
fn refused(what: &'static str, sent: impl AsRef<[u8]>) -> Case {
    Case { what, sent: sent.as_ref().to_vec(), statuses: vec![400], heard: Vec::new() }
}

/// It is passed on as that.
fn passes(what: &'static str, sent: impl AsRef<[u8]>, heard: &[&str]) -> Case {
    let heard: Vec<String> = heard.iter().map(|&heard| heard.to_owned()).collect();
    Case { what, sent: sent.as_ref().to_vec(), statuses: vec![200; heard.len()], heard }
}

/// A `GET` with those lines behind its `Host`.
fn get(lines: &str) -> String {
    format!("GET /run/noting/a HTTP/1.1\r\nHost: skep\r\n{lines}\r\n")
}

/// A `POST` with those lines behind its `Host`, and what follows its head.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /run/noting/a HTTP/1.1\r\nHost: skep\r\n{lines}\r\n{rest}")
}

/// A whole request that hides in another one.
const HIDDEN: &str = "GET /run/noting/hidden HTTP/1.1\r\nHost: skep\r\n\r\n";

/// Section by section of RFC 9112.
fn http1() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    vec![
        // 2.2, message parsing.
        passes("2.2: an empty line before the request", format!("\r\n{}", get("")), &["GET /run/noting/a "]),
        refused("2.2: a bare CR in a field", get("X-A: 1\rX-Smuggled: 1\r\n")),
        refused("2.2: white space before the first field", "GET /run/noting/a HTTP/1.1\r\n Host: skep\r\n\r\n"),
        refused("2.2: a NUL in a field", get("X-A: 1\x002\r\n")),
        // 2.3, version.
        refused("2.3: a version that is none", "GET /run/noting/a HTTP/1.1.1\r\nHost: skep\r\n\r\n"),
        refused("2.3: another protocol", "GET /run/noting/a HTCPCP/1.0\r\nHost: skep\r\n\r\n"),
        // 3, request line.
        refused("3: two spaces in the line", "GET  /run/noting/a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3: a space in the target", "GET /run/noting/a b HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3: a tab in the line", "GET\t/run/noting/a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.1: a method that is no token", "GE(T /run/noting/a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        // 3.2, target.
        refused("3.2.2: the absolute form", "GET http://skep/run/noting/a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2.3: the authority form", "CONNECT skep:80 HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2: a dot segment", "GET /run/noting/x/../a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2: one that is encoded", "GET /run/noting/x/%2e%2E/a HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2: an encoded slash", "GET /run/noting/x%2fa HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2: an encoded NUL", "GET /run/noting/x%00 HTTP/1.1\r\nHost: skep\r\n\r\n"),
        refused("3.2: no host", "GET /run/noting/a HTTP/1.1\r\n\r\n"),
        refused("3.2: two hosts", get("Host: other\r\n")),
        // 5, fields.
        refused("5.1: white space before the colon", post("Content-Length : 5\r\n", "hello")),
        refused("5.1: a name that is no token", get("X-(A): 1\r\n")),
        refused("5.1: no name", get(": 1\r\n")),
        refused("5.1: no colon", get("X-A\r\n")),
        refused("5.2: a field that is folded", get("X-A: 1\r\n X-Smuggled: 1\r\n")),
        refused("5.2: a length that is folded", post("Content-Length:\r\n 5\r\n", "hello")),
        // 6.1, transfer-encoding.
        refused("6.1: both lengths", post(&format!("Content-Length: 5\r\n{chunked}"), &format!("0\r\n\r\n{HIDDEN}"))),
        refused(
            "6.1: in the other order",
            post(&format!("{chunked}Content-Length: 5\r\n"), &format!("0\r\n\r\n{HIDDEN}")),
        ),
        refused("6.1: an unknown coding", post("Transfer-Encoding: xchunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        refused(
            "6.1: one after chunked",
            post("Transfer-Encoding: chunked, identity\r\n", &format!("0\r\n\r\n{HIDDEN}")),
        ),
        refused("6.1: one before chunked", post("Transfer-Encoding: gzip, chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        refused("6.1: chunked twice", post(&format!("{chunked}{chunked}"), &format!("0\r\n\r\n{HIDDEN}"))),
        refused("6.1: a control character", post("Transfer-Encoding: \x0bchunked\r\n", &format!("0\r\n\r\n{HIDDEN}"))),
        refused(
            "6.1: in HTTP/1.0",
            format!("POST /run/noting/a HTTP/1.0\r\nHost: skep\r\n{chunked}\r\n0\r\n\r\n{HIDDEN}"),
        ),
        // 6.2, content-length.
        refused("6.2: two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")),
        refused("6.2: two in one line", post("Content-Length: 5, 6\r\n", "hello!")),
        refused("6.2: a sign", post("Content-Length: +5\r\n", "hello")),
        refused("6.2: below nought", post("Content-Length: -1\r\n", HIDDEN)),
        refused("6.2: in hexadecimal", post("Content-Length: 0x5\r\n", "hello")),
        refused("6.2: larger than any number", post("Content-Length: 99999999999999999999\r\n", "hello")),
        passes(
            "6.2: a body is what its length says",
            post("Content-Length: 5\r\n", "hello"),
            &["POST /run/noting/a hello"],
        ),
        passes(
            "6.3: a body of a GET is a body",
            get(&format!("Content-Length: {}\r\n", HIDDEN.len())) + HIDDEN,
            &[&format!("GET /run/noting/a {HIDDEN}")],
        ),
        // 7.1, chunks.
        passes(
            "7.1: chunks, their extensions and trailers",
            post(chunked, "5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"),
            &["POST /run/noting/a hello"],
        ),
        broken("7.1: a size that is none", &post(chunked, &format!("5x\r\nhello\r\n0\r\n\r\n{HIDDEN}"))),
        broken("7.1: a size with a sign", &post(chunked, &format!("-5\r\nhello\r\n0\r\n\r\n{HIDDEN}"))),
        broken(
            "7.1: a size that wraps around",
            &post(chunked, &format!("10000000000000005\r\nhello\r\n0\r\n\r\n{HIDDEN}")),
        ),
        broken("7.1: a chunk longer than its size", &post(chunked, &format!("3\r\nhello\r\n0\r\n\r\n{HIDDEN}"))),
        broken("7.1.1: a line feed in an extension", &post(chunked, &format!("5;a\nb\r\nhello\r\n0\r\n\r\n{HIDDEN}"))),
        broken("7.1: no size", &post(chunked, &format!("\r\nhello\r\n0\r\n\r\n{HIDDEN}"))),
        // 9.3, one after the other.
        passes(
            "9.3.2: two at once",
            get("") + &post("Content-Length: 2\r\n", "hi"),
            &["GET /run/noting/a ", "POST /run/noting/a hi"],
        ),
        // 11.1, hop by hop: what a caller names in `Connection` cannot take our headers away, nor add any.
        passes(
            "9.1: names in Connection",
            get("Connection: host, content-length, X-Smuggled\r\nX-Smuggled: 1\r\n"),
            &["GET /run/noting/a "],
        ),
    ]
}

/// Its head is sound and its body is not: it may have begun when that shows, and nothing comes of what follows it.
fn broken(what: &'static str, sent: &str) -> Case {
    Case { what, sent: sent.as_bytes().to_vec(), statuses: vec![400], heard: vec!["POST /run/noting/a ".to_owned()] }
}

/// Frames of HTTP/2 (RFC 9113) whose request an app must not hear, or hear as another one.
fn http2() -> Vec<Case> {
    let head = |more: &[(&str, &str)]| {
        let fixed = [(":method", "POST"), (":scheme", "http"), (":path", "/run/noting/a"), (":authority", "skep")];
        let kept = fixed.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        let fields = kept.chain(more.iter().copied());
        fields.flat_map(|(name, value)| field(name, value)).collect::<Vec<u8>>()
    };
    let whole = |more: &[(&str, &str)]| frame(1, 5, &head(more));
    let with_body =
        |more: &[(&str, &str)], body: &str| [frame(1, 4, &head(more)), frame(0, 1, body.as_bytes())].concat();
    let unheard = |what, frames: Vec<u8>| Case { what, sent: frames, statuses: Vec::new(), heard: Vec::new() };
    let injected = "x\r\nX-Smuggled: 1";
    vec![
        unheard("8.1.1: a length that is not the body's", with_body(&[("content-length", "3")], HIDDEN)),
        unheard("8.1.1: a body longer than nothing", with_body(&[("content-length", "0")], HIDDEN)),
        unheard("8.2.1: a name in upper case", whole(&[("X-Smuggled", "1")])),
        unheard("8.2.1: a line in a value", whole(&[("x-a", injected)])),
        unheard("8.2.1: a line in a name", whole(&[("x-a: 1\r\nx-smuggled", "1")])),
        unheard("8.2.1: a NUL in a value", whole(&[("x-a", "a\0b")])),
        unheard(
            "8.2.2: transfer-encoding",
            with_body(&[("transfer-encoding", "chunked")], &format!("0\r\n\r\n{HIDDEN}")),
        ),
        unheard("8.2.2: connection", whole(&[("connection", "x-smuggled")])),
        unheard("8.3.1: a line in the path", whole(&[(":path", "/run/noting/a HTTP/1.1\r\nX-Smuggled: 1\r\nX:")])),
        unheard("8.3.1: a line in the method", whole(&[(":method", "GET /run/noting/hidden HTTP/1.1\r\nX:")])),
        unheard("8.3.1: a space in the path", whole(&[(":path", "/run/noting/a b")])),
        unheard("8.3.1: a dot segment", whole(&[(":path", "/run/noting/x/../a")])),
        unheard("8.3.1: another host beside the authority", whole(&[("host", "other")])),
        Case {
            what: "8.1: a sound one",
            sent: with_body(&[], "hello"),
            statuses: Vec::new(),
            heard: vec!["POST /run/noting/a hello".to_owned()],
        },
    ]
}

/// A field without compression (RFC 7541, section 6.2.2), whose strings are short.
fn field(name: &str, value: &str) -> Vec<u8> {
    let lengths = [name, value].map(|text| u8::try_from(text.len()).unwrap());
    assert!(lengths.iter().all(|length| *length < 127));
    [&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
}

/// A frame of the first stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Sends, ends, and reads all that comes back: until it is quiet, and, on a host that has much to do, until there are so many
/// answers.
fn exchange(world: &World, sent: &[u8], answers: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.address()).unwrap();
    stream.set_read_timeout(Some(QUIET)).unwrap();
    // Who is refused at its first byte may not be listened to until its last.
    let _ = stream.write_all(sent);
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let until = Instant::now() + PATIENCE;
    loop {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => read.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if statuses(&read).len() >= answers || Instant::now() > until {
                    break;
                }
            }
            Ok(0) | Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    read
}

fn statuses(read: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(read);
    text.match_indices("HTTP/1.1 ").map(|(at, mark)| text[at + mark.len()..][..3].parse().unwrap()).collect()
}

#[test]
fn uvicorn_hears_only_the_requests_that_the_gateway_meant() {
    let world = World::new();
    world.code("noting", include_str!("apps/noting.py"));
    world.settings("noting", "route: { auth: none }\n");
    world.serve();
    world.expect_rest("noting", "synced", "healthy");
    let noted = || {
        let noted = world.get("noting", "/noted").expect(200).json();
        let noted = noted.as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
        // A probe is a request too.
        noted.filter(|note| note != "GET /run/noting/ ").collect::<Vec<_>>()
    };
    noted();
    let mut wrong = Vec::new();
    for case in http1() {
        let read = exchange(&world, &case.sent, case.statuses.len());
        let heard = noted();
        let is_as_meant = heard == case.heard || case.statuses == [400] && heard.is_empty();
        // Of one that breaks off in its body, the app may have seen the end first.
        let said = statuses(&read);
        let is_answered_so = said == case.statuses || said == [502] && !case.heard.is_empty() && case.statuses == [400];
        if !is_as_meant || !is_answered_so {
            wrong.push(format!("{}: heard {heard:?}, said {}", case.what, String::from_utf8_lossy(&read)));
        }
    }
    for case in http2() {
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0][..]].concat();
        exchange(&world, &[preface, case.sent].concat(), 0);
        let heard = noted();
        // One that breaks off in its body may have begun.
        let is_as_meant =
            heard == case.heard || case.heard.is_empty() && heard.iter().all(|note| note == "POST /run/noting/a ");
        if !is_as_meant {
            wrong.push(format!("{}: heard {heard:?}", case.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
