//! Heads of requests are watched as they come, for what hyper settles by itself where we want to refuse: a body that is
//! announced with both lengths (RFC 9112, section 6.1), and lines that end in LF alone (section 2.2).
//!
//! hyper takes such a body as chunked, drops the other length and ends the connection afterwards, so nothing can hide
//! behind it. But whoever sends both is mistaken or means harm, and should be told.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::half::Half;
use super::scan::Scan;

/// A connection of HTTP/1 whose heads are watched. What is read at once ends with the request that ends in it, so that the head
/// that has come last is the one of the request that hyper begins with next.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    /// What has come already and is read first.
    ahead: Bytes,
    activity: Arc<Activity>,
    scan: Scan,
    /// Set where the caller sends no more and is still answered.
    half: Option<Half>,
    written: u64,
    is_secure: bool,
}

impl<S> Watched<S> {
    /// `is_secure` says whether the stream is one of TLS.
    pub(super) fn new(stream: S, activity: Arc<Activity>, is_secure: bool) -> Self {
        let scan = Scan::default();
        Self { stream, ahead: Bytes::new(), activity, scan, half: None, written: 0, is_secure }
    }

    /// The same from its beginning, after `unread`, which came and nobody has taken.
    pub(super) fn again(self, unread: Bytes) -> Self {
        let ahead = match (unread.is_empty(), self.ahead.is_empty()) {
            // An empty one may still hold the buffer that it is the end of.
            (true, true) => Bytes::new(),
            (true, false) => self.ahead,
            (false, true) => unread,
            (false, false) => [unread, self.ahead].concat().into(),
        };
        Self { ahead, ..Self::new(self.stream, self.activity, self.is_secure) }
    }

    /// Looks at what has come, as far as the request goes that ends in it; how far that is.
    fn look_at(&mut self, bytes: &[u8]) -> usize {
        let looked = self.scan.pass(bytes, &|| self.activity.is_busy());
        if let Some(verdict) = self.scan.verdict() {
            self.activity.set_fault(verdict.err());
        }
        looked
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

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Waits until nobody is answered who sends no more, or has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.activity.wake_at_end(cx);
        match &mut self.half {
            // What hyper has taken in of an answer may wait to be sent when nothing else of it is left.
            Some(half) if self.activity.is_busy() || self.activity.has_unsent() => {
                half.poll_gone(cx, &mut self.stream, &self.activity, self.written)
            }
            _ => Poll::Ready(()),
        }
    }

    /// Takes note of what became of a write.
    fn note(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.set_unsent(polled.is_pending());
        if let Poll::Ready(Ok(written)) = polled {
            self.written += written as u64;
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.half.is_some() {
            ready!(self.poll_gone(cx));
        } else if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            if buffer.filled().len() == before && buffer.remaining() > 0 && self.scan.is_between() {
                self.half = Some(Half::new(self.written, self.is_secure));
                ready!(self.poll_gone(cx));
            }
            let looked = self.look_at(&buffer.filled()[before..]);
            self.ahead = Bytes::copy_from_slice(&buffer.filled()[before + looked..]);
            buffer.set_filled(before + looked);
        } else {
            let part = self.ahead.slice(..self.ahead.len().min(buffer.remaining()));
            let looked = self.look_at(&part);
            buffer.put_slice(&part[..looked]);
            self.ahead.advance(looked);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(polled)
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
