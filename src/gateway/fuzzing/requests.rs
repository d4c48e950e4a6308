//! What reaches hyper through [`Watched`] of the requests of a connection: the same as without it, in whatever pieces it comes,
//! with what is wrong with each.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::activity::Activity;
use super::super::heads::Watched;

/// Longer ones can do without: no limit of hyper's is reached below, other than those of a single head.
const LONGEST: usize = 12 * 1024;

/// One request, as its app would see it, and what is said of it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// `None` where it broke off.
    body: Option<Bytes>,
    fault: Option<&'static str>,
}

/// Reads the requests of one connection. The first byte says in what pieces they come.
pub fn requests(data: &[u8]) {
    let Some((flags, text)) = data.split_first().filter(|(_, text)| text.len() <= LONGEST) else { return };
    let ours = read(text, usize::from(*flags) + 1, true);
    let theirs = read(text, usize::MAX, false);
    let shown = String::from_utf8_lossy(text);
    // What comes after a wish to leave HTTP, and a body of two lengths, is nobody's to understand.
    let ends = |seen: &Seen| seen.headers.contains_key(UPGRADE) || seen.fault.is_some();
    let last = ours.iter().position(ends).map_or(ours.len(), |last| last + 1);
    assert!(last <= theirs.len(), "{shown:?} is more to us, {ours:?}, than to hyper, {theirs:?}");
    if last == ours.len() && !ours.last().is_some_and(ends) {
        assert_eq!(ours.len(), theirs.len(), "{shown:?} is less to us, {ours:?}, than to hyper, {theirs:?}");
    }
    for (ours, theirs) in ours.iter().zip(&theirs).take(last) {
        let same = Seen {
            fault: None,
            headers: ours.headers.clone(),
            uri: ours.uri.clone(),
            method: ours.method.clone(),
            body: ours.body.clone(),
        };
        assert_eq!(same, *theirs, "{shown:?}");
        // hyper drops the length that it does not go by, so what it shows can have one alone.
        let is_both = ours.headers.contains_key(TRANSFER_ENCODING) && ours.headers.contains_key(CONTENT_LENGTH);
        assert!(!is_both || ours.fault.is_some(), "{shown:?} has two lengths");
    }
    assert_eq!(ours, read(text, usize::MAX, true), "{shown:?} depends on how it is cut");
}

/// What comes of a connection on which this is sent in pieces of so many bytes, and then no more.
fn read(text: &[u8], piece: usize, is_watched: bool) -> Vec<Seen> {
    let (seen, activity) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Activity::default()));
    let service = service_fn(|request: Request<Incoming>| {
        activity.set_request(!request.body().is_end_stream(), false);
        let mut open = Activity::begin(&activity, std::time::Instant::now().into());
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let fault = open.fault().filter(|_| is_watched);
            let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            if let Ok(mut seen) = seen.lock() {
                seen.push(Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body, fault });
            }
            open.answered();
            drop(open);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let pieces = Pieces { text: text.to_owned().into(), piece };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // How it ends is told by what was seen.
    let _ = if is_watched {
        let stream = TokioIo::new(Watched::new(pieces, Arc::clone(&activity), false));
        runtime.block_on(http1::Builder::new().serve_connection(stream, service))
    } else {
        runtime.block_on(http1::Builder::new().half_close(true).serve_connection(TokioIo::new(pieces), service))
    };
    std::mem::take(&mut *seen.lock().expect("nobody panics with it"))
}

/// A caller that sends something in pieces, and reads and forgets all that it is answered.
struct Pieces {
    text: Bytes,
    piece: usize,
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.piece.min(self.text.len()).min(buffer.remaining());
        buffer.put_slice(&self.text.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
