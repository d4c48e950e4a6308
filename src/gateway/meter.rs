//! A meter breaks off an answer that is next to nothing but framing: what an app can send for ever without sending anything.
//!
//! Interim answers without end, a chunk whose length is noughts without end, chunks of a byte each: all of it is HTTP,
//! costs an app nothing, and keeps a core of the gateway busy for as long as it comes. So what is read is held against
//! what came of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that may be read for each byte of a body. A chunk has some five more than its content, and an event that is
/// worth a chunk has more than two.
const READ_FOR_ONE: u64 = 4;

/// Bytes that may be read besides: the head of an answer, and what is read ahead of the caller, twice over.
const BESIDES: u64 = 4 * super::pool::READ_AHEAD as u64;

/// Bytes that may be read besides in each second that an answer lasts, for those that trickle for hours.
const BESIDES_A_SECOND: u64 = 16 * 1024;

/// What was read of one answer, and what came of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Option<Reading>>>);

#[derive(Debug)]
struct Reading {
    begun: Instant,
    read: u64,
    used: u64,
}

impl Meter {
    /// A request is sent: its answer begins at nothing.
    pub(super) fn begin(&self) {
        self.set(Some(Reading { begun: Instant::now(), read: 0, used: 0 }));
    }

    /// What comes from here on is no answer any more, but the bytes of a tunnel.
    pub(super) fn end(&self) {
        self.set(None);
    }

    /// A part of a body has come of what was read.
    pub(super) fn used(&self, bytes: usize) {
        if let Some(reading) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            reading.used += bytes as u64;
        }
    }

    fn set(&self, reading: Option<Reading>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    }

    fn read(&self, bytes: usize) -> io::Result<()> {
        if let Some(reading) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            reading.read += bytes as u64;
            let allowed = READ_FOR_ONE * reading.used + BESIDES;
            if reading.read > allowed && reading.read > allowed + BESIDES_A_SECOND * reading.begun.elapsed().as_secs() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is next to nothing but framing"));
            }
        }
        Ok(())
    }
}

/// A connection whose reading is metered.
#[derive(Debug)]
pub(super) struct Metered {
    pub(super) stream: TcpStream,
    pub(super) meter: Meter,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.meter.read(buffer.filled().len() - before)?;
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_be_long_and_may_not_be_all_framing() {
        let meter = Meter::default();
        meter.begin();
        for _ in 0..1000 {
            meter.read(70_000).unwrap();
            meter.used(65_536);
        }
        meter.begin();
        // One byte in chunks of six.
        let cut = (0..1_000_000).position(|_| {
            meter.used(1);
            meter.read(6).is_err()
        });
        assert!(cut.is_some_and(|at| at > 100_000), "{cut:?}");
        meter.end();
        meter.read(usize::MAX / 2).unwrap();
    }
}
