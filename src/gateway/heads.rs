//! Heads of requests are watched as they come, for what hyper settles by itself where we want to refuse: a body that is
//! announced with both lengths (RFC 9112, section 6.1).
//!
//! hyper takes such a body as chunked, drops the other length and ends the connection afterwards, so nothing can hide
//! behind it. But whoever sends both is mistaken or means harm, and should be told.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// A connection of HTTP/1 whose heads are watched. One that comes in the same breath as the request before it is not
/// seen, and left to hyper.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    /// What has come already and is read first.
    ahead: Bytes,
    activity: Arc<Activity>,
    head: Head,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, ahead: Bytes::new(), activity, head: Head::default() }
    }

    /// The same from its beginning, after `unread`, which came and nobody has taken.
    pub(super) fn again(self, unread: Bytes) -> Self {
        // An empty one may still hold the buffer that it is the end of.
        let ahead = if unread.is_empty() { Bytes::new() } else { unread };
        Self { ahead, ..Self::new(self.stream, self.activity) }
    }

    fn received(&mut self, bytes: &[u8]) {
        if self.head.is_over {
            if self.activity.is_busy() {
                return;
            }
            self.head = Head::default();
        }
        self.head.pass(bytes);
        if self.head.is_over {
            self.activity.set_ambiguous(self.head.has_both());
        }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Waits for the next request to begin; `false` where none will.
    ///
    /// # Errors
    /// Where the connection breaks off.
    pub(super) async fn begins(&mut self) -> io::Result<bool> {
        if self.ahead.is_empty() {
            let mut first = [0; 16];
            let read = self.stream.read(&mut first).await?;
            self.ahead = Bytes::copy_from_slice(&first[..read]);
        }
        Ok(!self.ahead.is_empty())
    }
}

/// What has come of a head.
#[derive(Debug, Default)]
struct Head {
    /// The beginning of the line that has begun, as far as it tells which field it is.
    line: [u8; LONGEST],
    length: usize,
    /// Which of [`NAMES`] it has.
    has: [bool; 2],
    has_begun: bool,
    is_over: bool,
}

/// The two ways of saying where a body ends.
const NAMES: [&str; 2] = ["content-length:", "transfer-encoding:"];
const LONGEST: usize = 18;

impl Head {
    fn has_both(&self) -> bool {
        self.has == [true, true]
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_over {
            let end = memchr::memchr(b'\n', bytes);
            let part = end.map_or(bytes, |end| &bytes[..end]);
            let kept = part.len().min(LONGEST - self.length);
            self.line[self.length..self.length + kept].copy_from_slice(&part[..kept]);
            self.length += kept;
            let Some(end) = end else { return };
            bytes = &bytes[end + 1..];
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = &self.line[..self.length];
        // Empty lines before the first are skipped, by hyper too.
        let is_empty = matches!(line, b"" | b"\r");
        self.is_over = is_empty && self.has_begun;
        self.has_begun |= !is_empty;
        for (name, has) in NAMES.iter().zip(&mut self.has) {
            let start = line.get(..name.len());
            *has |= start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
        }
        self.length = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(length));
        }
        self.received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.set_unsent(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.activity.set_unsent(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.set_unsent(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_are_seen_wherever_what_is_read_is_cut_and_only_in_a_head() {
        for (text, both) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTRANSFER-ENCODING: chunked\r\n\r\nhello", true),
            ("\r\nPOST / HTTP/1.1\nTransfer-Encoding:chunked\nHost: a\ncontent-length:5\n\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nX: Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            for cut in 1..text.len() {
                let mut head = Head::default();
                text.as_bytes().chunks(cut).for_each(|part| head.pass(part));
                assert_eq!((head.has_both(), head.is_over), (both, true), "{text:?}, {cut}");
            }
        }
    }
}
