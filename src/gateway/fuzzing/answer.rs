//! What the gateway makes of an answer: the same in whatever pieces it comes, never more than hyper takes, and the same as
//! hyper does; and less only where it is stricter by intent.

use std::cell::LazyCell;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;

use super::super::framing::{Framing, Part};
use super::super::pool::READ_AHEAD;
use super::super::reply::Search;
use super::holds;

/// Longer ones can do without: no limit of ours or of hyper's is reached below, other than those of a single line.
const LONGEST: usize = 12 * 1024;

/// What is understood of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Reads an answer. The first byte says to which method, and in what pieces it comes.
pub fn answer(data: &[u8]) {
    let Some((flags, text)) = data.split_first().filter(|(_, text)| text.len() <= LONGEST) else { return };
    let method = [Method::GET, Method::HEAD, Method::POST, Method::PUT][usize::from(flags & 3)].clone();
    let whole = read(&method, text, usize::MAX);
    assert_eq!(whole, read(&method, text, usize::from(flags >> 2) + 1), "{:?}", String::from_utf8_lossy(text));
    let theirs = hypers(&method, text);
    match (whole, theirs) {
        (Some(ours), Some(theirs)) => {
            // That of a body with one length said twice is said once.
            let mut headers = theirs.headers.clone();
            if let Some(length) = ours.headers.get(CONTENT_LENGTH).filter(|_| headers != ours.headers) {
                headers.insert(CONTENT_LENGTH, length.clone());
            }
            assert_eq!(ours, Answer { headers, ..theirs }, "{:?}", String::from_utf8_lossy(text));
        }
        (Some(ours), None) => panic!("{:?} is no answer, and was read as {ours:?}", String::from_utf8_lossy(text)),
        (None, Some(theirs)) => {
            assert!(is_doubtful(text, &theirs.headers), "{:?} is refused for nothing", String::from_utf8_lossy(text));
        }
        (None, None) => {}
    }
}

/// What we understand, where it comes in pieces of so many bytes.
fn read(method: &Method, text: &[u8], piece: usize) -> Option<Answer> {
    let (mut search, mut room, mut read) = (Search::default(), HeaderMap::new(), BytesMut::new());
    let mut pieces = text.chunks(piece);
    let reply = loop {
        match search.next(&mut read, method, &mut room).ok()? {
            Some(reply) => break reply,
            None => read.extend_from_slice(pieces.next()?),
        }
    };
    let (mut framing, mut body, mut trailers) = (reply.framing, Vec::new(), None);
    loop {
        match framing.next(&mut read).ok()? {
            Part::Data(data) => body.extend(data),
            Part::Trailers(found) => trailers = Some(found),
            Part::End => break,
            Part::Missing => match pieces.next() {
                Some(piece) => read.extend_from_slice(piece),
                None => framing.end().ok()?,
            },
        }
    }
    let (parts, ()) = reply.response.into_parts();
    // Where nothing says how long it is, nothing can follow it.
    let is_bounded = reply.framing != Framing::ToEnd;
    assert!(is_bounded || !reply.goes_on);
    Some(Answer { status: parts.status, headers: parts.headers, body, trailers })
}

/// What hyper understands.
fn hypers(method: &Method, text: &[u8]) -> Option<Answer> {
    thread_local! {
        static RUNTIME: LazyCell<Runtime> =
            LazyCell::new(|| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
    }
    RUNTIME.with(|runtime| runtime.block_on(ask_hyper(method, text)))
}

async fn ask_hyper(method: &Method, text: &[u8]) -> Option<Answer> {
    let (near, mut far) = duplex(2 * READ_AHEAD);
    let (mut sender, driver) =
        Builder::new().max_buf_size(READ_AHEAD).handshake(TokioIo::new(near)).await.expect("a connection");
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    request.headers_mut().insert(HOST, HeaderValue::from_static("a"));
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    let app = async {
        // It speaks when it has been asked.
        let _ = far.read(&mut [0; 1024]).await;
        let _ = far.write_all(text).await;
        let _ = far.shutdown().await;
        std::future::pending::<()>().await;
    };
    let answer = async {
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let collected = body.collect().await.ok()?;
        let trailers = collected.trailers().cloned();
        let body = collected.to_bytes().to_vec();
        Some(Answer { status: parts.status, headers: parts.headers, body, trailers })
    };
    let driver = async {
        let _ = driver.with_upgrades().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer,
        () = driver => None,
        () = app => None,
    }
}

/// Whether an answer that hyper understands could be understood in another way; seen from afar, since the body is looked at
/// as well.
fn is_doubtful(text: &[u8], headers: &HeaderMap) -> bool {
    let lines = || text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let ends_wrong = lines().any(|line| !line.ends_with(b"\r\n"));
    let is_odd_size = |line: &[u8]| line.contains(&b';') || line.starts_with(&[b'0'; 8]);
    let has_empty_lines = !text.starts_with(b"HTTP/") || holds(text, "\r\n\r\n\r\n");
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    let is_plain = match codings.as_slice() {
        [] => true,
        [coding] => coding.eq_ignore_ascii_case(b"chunked") && !headers.contains_key(CONTENT_LENGTH),
        _ => false,
    };
    ends_wrong || lines().any(is_odd_size) || has_empty_lines || !is_plain
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// What answers are made of, and what they should not be.
    const PIECES: [&str; 40] = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n",
        "HTTP/1.1 299 \u{e9}\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 05, 5\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: +5\r\n",
        "content-length:\t5 \r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: CHUNKED\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "X: a\r\n",
        "X:\r\n",
        "X: \t\r\n",
        "X : a\r\n",
        " folded\r\n",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "\0",
        "5\r\n",
        "5 \r\n",
        "0005;a=b\r\n",
        "5;\"\r\n",
        "5\n",
        "hello",
        "hello\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "0\r\nX-Sum: 5\r\n\r\n",
        "fffffffffffffffff\r\n",
    ];

    proptest! {
        #[test]
        fn an_answer_is_understood_as_hyper_does_or_not_at_all(flags: u8, pieces in vec(select(&PIECES[..]), 0..12)) {
            answer(&[&[flags][..], pieces.concat().as_bytes()].concat());
        }

        #[test]
        fn an_answer_that_begins_well_is_too(flags: u8, pieces in vec(select(&PIECES[7..]), 0..10)) {
            answer(&[&[flags][..], b"HTTP/1.1 200 OK\r\n", pieces.concat().as_bytes()].concat());
        }
    }
}
