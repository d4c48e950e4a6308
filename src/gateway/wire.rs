//! A wire is a caller's side of a connection: what was read of it to find out its protocol is read again, and a caller
//! that takes nothing in for too long is given up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrayvec::ArrayVec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// With what HTTP/2 begins where both sides know that it is spoken (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// With what a TLS handshake begins (RFC 8446, section 5.1): the type of its record.
const HANDSHAKE: u8 = 22;

/// As much is sent in one piece, as the head and the body of a small answer are: to copy it costs less than what the kernel
/// does to gather pieces.
const SHORT: usize = 2048;

/// What a caller begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A TLS handshake.
    Tls,
    /// The preface of HTTP/2.
    Http2,
    /// What must be HTTP/1 then.
    Http1,
}

/// A caller's side of a connection.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// What was read ahead, and how much of it has been read again.
    ahead: Option<Box<[u8]>>,
    /// The longest time for which nothing that waits to be sent is taken in.
    patience: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    stalled: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, ahead: None, patience, stall: None, stalled: false }
    }

    /// Reads as much as tells what the caller begins with, and keeps it to be read again. `None` where it ends first.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub(super) async fn beginning(&mut self) -> io::Result<Option<Beginning>> {
        let mut read = [0; PREFACE.len()];
        let mut length = 0;
        let beginning = loop {
            let more = self.stream.read(&mut read[length..]).await?;
            if more == 0 {
                return Ok(None);
            }
            length += more;
            match (read[0], &read[..length]) {
                (HANDSHAKE, _) => break Beginning::Tls,
                (_, all) if all == PREFACE => break Beginning::Http2,
                (_, part) if PREFACE.starts_with(part) => {}
                _ => break Beginning::Http1,
            }
        };
        self.ahead = Some(read[..length].into());
        Ok(Some(beginning))
    }

    /// Sends, and counts the time for which the caller takes nothing in.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        send: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(sent) = send(Pin::new(&mut self.stream), cx) {
            self.stalled = false;
            return Poll::Ready(sent);
        }
        let patience = self.patience;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !self.stalled {
            self.stalled = true;
            stall.as_mut().reset(Instant::now() + patience);
        }
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller takes nothing in")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(ahead) = self.ahead.take() else { return Pin::new(&mut self.stream).poll_read(cx, buffer) };
        let (now, later) = ahead.split_at(ahead.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.ahead = (!later.is_empty()).then(|| later.into());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.watch(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if length > SHORT {
            return self.watch(cx, |stream, cx| stream.poll_write_vectored(cx, slices));
        }
        let mut text = ArrayVec::<u8, SHORT>::new();
        // They fit, as was counted.
        let _ = slices.iter().try_for_each(|slice| text.try_extend_from_slice(slice));
        self.watch(cx, |stream, cx| stream.poll_write(cx, &text))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch(cx, AsyncWrite::poll_shutdown)
    }
}
