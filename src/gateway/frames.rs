//! Frames of HTTP/2 are counted as they pass: a caller that sends next to nothing but framing is sent away.
//!
//! Frames that ask for nothing cost their sender nothing and keep a core of the gateway busy for as long as they come:
//! PING, SETTINGS, PRIORITY, empty DATA, windows that nobody has used up (CVE-2019-9511 to 9518), CONTINUATION without
//! end (CERT VU#421644). h2 bounds what each of them makes us remember, and not how many there are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What comes before the first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// The length, type, flags and stream that each frame begins with (section 4.1).
const HEAD: usize = 9;

/// Types of frames (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Frames that ask for nothing which a caller may send, whatever comes of them.
const IDLE: u64 = 200;

/// More of them for each second that the connection lasts.
const IDLE_A_SECOND: u64 = 50;

/// More of them for each request: it may be given up, ranked, and need fields or windows of its own.
const FOR_A_REQUEST: u64 = 10;

/// More of them for each frame of an answer, whose reader has to open its windows again: of the stream and of all.
const FOR_AN_ANSWER: u64 = 2;

/// So many of them in what is read at once, and others come before more of it is read.
const BURST: u64 = 16;

/// Bytes that are read at once at the very beginning, and after a burst: some 120 frames, so that others wait for microseconds
/// rather than for as long as h2 takes over all that has come.
const AFTER_BURST: usize = 2048;

/// A connection on which frames are counted.
#[derive(Debug)]
pub(super) struct Framed<S> {
    stream: S,
    read: Parser,
    written: Parser,
    began: Instant,
    /// Frames that asked for nothing.
    idle: u64,
    /// Such frames that what was asked and answered has made room for.
    allowed: u64,
    /// Many came at the last read, and nobody else has had their turn since.
    others_first: bool,
    /// Not much is read at the next one.
    little_at_once: bool,
}

impl<S> Framed<S> {
    /// Counts from the preface on.
    pub(super) fn new(stream: S) -> Self {
        let (read, written) = (Parser { skip: PREFACE, ..Parser::default() }, Parser::default());
        Self {
            stream,
            read,
            written,
            began: Instant::now(),
            idle: 0,
            allowed: IDLE,
            others_first: false,
            little_at_once: true,
        }
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { read, idle, allowed, .. } = self;
        let (before, mut frames) = (*idle, 0);
        read.pass(bytes, |kind, length| {
            frames += 1;
            match kind {
                HEADERS => *allowed += FOR_A_REQUEST,
                DATA if length > 0 => {}
                _ => *idle += 1,
            }
        });
        self.others_first = self.idle - before >= BURST;
        if frames > 0 {
            self.little_at_once = self.others_first;
        }
        if self.idle > self.allowed && self.idle > self.allowed + IDLE_A_SECOND * self.began.elapsed().as_secs() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the caller sends next to nothing but framing"));
        }
        Ok(())
    }

    fn sent(&mut self, bytes: &[u8]) {
        let allowed = &mut self.allowed;
        self.written.pass(bytes, |kind, _| *allowed += if kind == DATA { FOR_AN_ANSWER } else { 0 });
    }
}

/// Finds the heads of frames in what passes.
#[derive(Debug, Default)]
struct Parser {
    /// Bytes until the next head.
    skip: usize,
    head: [u8; HEAD],
    /// Bytes of it that have come.
    come: usize,
}

impl Parser {
    /// Tells of each frame whose head ends in these bytes: its type, and the length of what it carries.
    fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(u8, usize)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD - self.come).min(bytes.len());
            self.head[self.come..self.come + taken].copy_from_slice(&bytes[..taken]);
            self.come += taken;
            bytes = &bytes[taken..];
            if self.come == HEAD {
                let [a, b, c, kind, ..] = self.head;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.come = 0;
                tell(kind, self.skip);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Framed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.others_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if self.little_at_once {
            let mut little = [0; AFTER_BURST];
            let mut part = ReadBuf::new(&mut little[..AFTER_BURST.min(buffer.remaining())]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
            buffer.put_slice(part.filled());
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        }
        self.received(&buffer.filled()[before..])?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Framed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(sent)) = polled {
            self.sent(&bytes[..sent]);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut left)) = polled {
            for slice in slices {
                let sent = left.min(slice.len());
                self.sent(&slice[..sent]);
                left -= sent;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, 0, 0, 0, 0, 1][..], &vec![HEADERS; length.into()]].concat()
    }

    fn begun() -> Framed<()> {
        let mut framed = Framed::new(());
        framed.received(&[b'P'; PREFACE]).unwrap();
        framed
    }

    #[test]
    fn frames_are_found_wherever_what_is_read_is_cut() {
        let all = [frame(DATA, 3), frame(PING, 8), frame(DATA, 0), frame(HEADERS, 200)].concat();
        for cut in 1..all.len() {
            let (mut parser, mut seen) = (Parser::default(), Vec::new());
            for part in all.chunks(cut) {
                parser.pass(part, |kind, length| seen.push((kind, length)));
            }
            assert_eq!(seen, [(DATA, 3), (PING, 8), (DATA, 0), (HEADERS, 200)], "{cut}");
        }
    }

    /// How much each read of a connection gives, and where others come first.
    fn reads(bytes: &[u8]) -> Vec<Option<usize>> {
        let mut framed = Framed::new(bytes);
        framed.received(&[b'P'; PREFACE]).unwrap();
        let (mut room, mut reads) = ([0; 4096], Vec::new());
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            let mut buffer = ReadBuf::new(&mut room);
            let polled = Pin::new(&mut framed).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            all.extend_from_slice(buffer.filled());
            reads.push(polled.is_ready().then_some(buffer.filled().len()));
        }
        assert_eq!(all, bytes);
        reads
    }

    #[test]
    fn a_burst_of_framing_is_read_bit_by_bit_and_others_come_between() {
        let pings = frame(PING, 8).repeat(190);
        assert_eq!(reads(&pings), [Some(2048), None, Some(1182)]);
        // What asks for something is read as it comes.
        let asking = [frame(HEADERS, 200), frame(DATA, 200), frame(PING, 8)].concat().repeat(15);
        assert_eq!(reads(&asking), [Some(2048), Some(4096), Some(381)]);
    }

    #[test]
    fn framing_alone_ends_soon_and_what_asks_or_answers_does_not() {
        for kind in [DATA, 2, 4, PING, WINDOW_UPDATE, 9, 77] {
            let mut framed = begun();
            let ended = (0..10 * IDLE).position(|_| framed.received(&frame(kind, 0)).is_err());
            assert!(ended.is_some_and(|at| at as u64 == IDLE), "{kind}: {ended:?}");
        }
        let mut framed = begun();
        for _ in 0..10 * IDLE {
            framed.received(&frame(HEADERS, 10)).unwrap();
            framed.received(&frame(DATA, 1)).unwrap();
            framed.received(&frame(WINDOW_UPDATE, 4)).unwrap();
            framed.sent(&frame(DATA, 100));
            framed.received(&frame(WINDOW_UPDATE, 4)).unwrap();
            framed.received(&frame(WINDOW_UPDATE, 4)).unwrap();
        }
    }
}
