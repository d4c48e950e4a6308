//! An encoder is the body of an answer that is compressed on its way: piece by piece, and handed on when the app pauses.

use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::BodyError;
use super::compress::Coding;

/// The most answers that are compressed side by side; any other goes on as it is. Each takes up to 1.5 MiB.
pub(super) const MOST: usize = 128;

/// How much is compressed at once, in bytes: a fraction of a millisecond.
const PIECE: usize = 16 * 1024;

/// How much is compressed before others have a turn on the thread, in bytes.
const TURN: usize = 64 * 1024;

/// How much is gathered before it is handed on, where the app does not pause, in bytes.
const GATHERED: usize = 8 * 1024;

/// How far back is looked for what was there before, as a power of two in bytes: twice that, and a table of places, is
/// what each answer takes. RFC 9659 lets `zstd` have up to 8 MiB.
const WINDOW: u32 = 17;

/// The body of an answer, compressed.
pub(super) struct Encoder<B> {
    /// What is compressed; `None` once it has ended.
    body: Option<B>,
    /// `None` once the last of it has been handed on.
    stream: Option<Stream>,
    /// What has come and is not compressed yet.
    rest: Bytes,
    /// Whether something is in the stream that has not come out of it.
    holds: bool,
    /// What comes behind the last of it.
    trailers: Option<Frame<Bytes>>,
    /// How many bytes have been compressed in this turn.
    worked: usize,
    _place: OwnedSemaphorePermit,
}

/// A stream of compressed bytes, which come out at its other end.
enum Stream {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

/// What makes an [`Encoder`], for which there is a place.
pub(super) struct Prepared {
    stream: Stream,
    place: OwnedSemaphorePermit,
}

impl Prepared {
    /// For an answer of that length where it is known; `None` where too many are being compressed.
    pub(super) fn new(coding: Coding, length: Option<u64>, places: &Arc<Semaphore>) -> Option<Self> {
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let stream = Stream::new(coding, length).ok()?;
        Some(Self { stream, place })
    }

    /// The body that it makes of another.
    pub(super) fn of<B>(self, body: B) -> Encoder<B> {
        let Self { stream, place } = self;
        let (body, stream) = (Some(body), Some(stream));
        Encoder { body, stream, rest: Bytes::new(), holds: false, trailers: None, worked: 0, _place: place }
    }
}

impl<B> Encoder<B> {
    /// Compresses the next piece of what has come.
    fn work(&mut self) -> io::Result<Option<Bytes>> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.worked += piece.len();
        self.holds = true;
        let Some(stream) = &mut self.stream else { return Ok(None) };
        stream.writer().write_all(&piece)?;
        Ok(stream.take(GATHERED))
    }

    /// Brings out what is in the stream, as the app has meant it to go out by now.
    fn flush(&mut self) -> io::Result<Option<Bytes>> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.holds) else { return Ok(None) };
        self.holds = false;
        stream.writer().flush()?;
        Ok(stream.take(1))
    }

    /// Brings out the last of it, which says that it is the last.
    fn finish(&mut self) -> io::Result<Option<Bytes>> {
        // What is behind it, the connection to the app first of all, is free from here on.
        self.body = None;
        let last = self.stream.take().map(Stream::finish).transpose()?;
        Ok(last.filter(|last| !last.is_empty()).map(Bytes::from))
    }

    /// Breaks off, without what would look like an end.
    fn fail<T>(&mut self, error: impl Into<BodyError>) -> Poll<Option<Result<T, BodyError>>> {
        (self.body, self.stream, self.trailers) = (None, None, None);
        self.rest.clear();
        Poll::Ready(Some(Err(error.into())))
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Encoder<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let mut pauses = false;
            let done = if !self.rest.is_empty() {
                if self.worked >= TURN {
                    self.worked = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.work()
            } else if let Some(body) = &mut self.body {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            self.rest = data;
                            continue;
                        }
                        Err(trailers) => {
                            self.trailers = Some(trailers);
                            self.finish()
                        }
                    },
                    Poll::Ready(Some(Err(error))) => return self.fail(error),
                    Poll::Ready(None) => self.finish(),
                    Poll::Pending => {
                        (self.worked, pauses) = (0, true);
                        self.flush()
                    }
                }
            } else {
                return Poll::Ready(self.trailers.take().map(Ok));
            };
            match done {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Ok(None) if pauses => return Poll::Pending,
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none() && self.stream.is_none() && self.trailers.is_none()
    }
}

impl<B: fmt::Debug> fmt::Debug for Encoder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("body", &self.body).field("trailers", &self.trailers).finish_non_exhaustive()
    }
}

impl Stream {
    /// With levels above which each takes much more time for little. On a core of an EPYC and sources of programs, `zstd`
    /// takes 5 ms for a MiB and leaves 29 % of it, `br` 12 ms and 29 %, `gzip` 12 ms and 27 %.
    fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut stream = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
                // A short answer gets short tables.
                stream.set_pledged_src_size(length)?;
                stream.window_log(WINDOW)?;
                Self::Zstd(stream)
            }
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, 3, WINDOW))),
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(5))),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Zstd(stream) => stream,
            Self::Brotli(stream) => stream.as_mut(),
            Self::Gzip(stream) => stream,
        }
    }

    /// What has come out, where it is that much.
    fn take(&mut self, least: usize) -> Option<Bytes> {
        let out = match self {
            Self::Zstd(stream) => stream.get_mut(),
            Self::Brotli(stream) => stream.get_mut(),
            Self::Gzip(stream) => stream.get_mut(),
        };
        (out.len() >= least).then(|| std::mem::take(out).into())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(stream) => stream.finish(),
            Self::Brotli(stream) => Ok(stream.into_inner()),
            Self::Gzip(stream) => stream.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Read;
    use std::task::Waker;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    /// What an app does next.
    enum Turn {
        Sends(Bytes),
        Pauses,
        Trails(HeaderMap),
        BreaksOff,
    }

    struct App(VecDeque<Turn>);

    impl Body for App {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match self.0.pop_front() {
                Some(Turn::Sends(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Turn::Trails(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Turn::BreaksOff) => Poll::Ready(Some(Err("it broke off".into()))),
                Some(Turn::Pauses) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn encode(coding: Coding, turns: Vec<Turn>) -> Encoder<App> {
        Prepared::new(coding, None, &Arc::new(Semaphore::new(1))).unwrap().of(App(turns.into()))
    }

    fn poll(body: &mut Encoder<App>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    /// What a caller makes of what has come so far, and whether that is a valid end.
    fn decode(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut read = Vec::new();
        let ended = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut read),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut read),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut read),
        };
        (read, ended.is_ok())
    }

    fn noise(length: usize) -> Bytes {
        (0..length).map(|_| rand::random::<u8>() & 15).collect()
    }

    #[test]
    fn all_that_an_app_sends_comes_out_with_its_trailers_behind_it() {
        for coding in Coding::ALL {
            for (length, times) in [(0, 0), (1, 1), (100, 50), (300_000, 5)] {
                let part = noise(length);
                let trailers = HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))]);
                let mut turns: Vec<_> = (0..times).map(|_| Turn::Sends(part.clone())).collect();
                turns.push(Turn::Trails(trailers.clone()));
                let mut body = encode(coding, turns);
                let (mut out, mut turns, mut trailing) = (Vec::new(), 0, None);
                loop {
                    match poll(&mut body) {
                        Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
                            Ok(data) => out.extend(data),
                            Err(frame) => trailing = frame.into_trailers().ok(),
                        },
                        Poll::Ready(None) => break,
                        Poll::Pending => turns += 1,
                    }
                    assert!(trailing.is_none() || body.is_end_stream());
                }
                assert_eq!(decode(coding, &out), (part.repeat(times), true), "{coding:?} {length}");
                assert_eq!(trailing, Some(trailers));
                // Others have had their turns in between.
                assert!(turns * TURN + TURN >= length * times, "{coding:?}: {turns} turns for {length} times {times}");
            }
        }
    }

    #[test]
    fn what_an_app_has_sent_is_out_when_it_pauses_and_a_pause_alone_brings_nothing() {
        for coding in Coding::ALL {
            let mut turns = Vec::new();
            for _ in 0..3 {
                turns.extend([Turn::Sends(Bytes::from_static(b"one line\n")), Turn::Pauses, Turn::Pauses]);
            }
            let mut body = encode(coding, turns);
            let mut out = Vec::new();
            for lines in 1..=3 {
                let Poll::Ready(Some(Ok(frame))) = poll(&mut body) else { panic!("{coding:?} held {lines} back") };
                out.extend(frame.into_data().unwrap());
                assert_eq!(decode(coding, &out), (b"one line\n".repeat(lines), false), "{coding:?}");
                assert!(poll(&mut body).is_pending());
            }
            let Poll::Ready(Some(Ok(last))) = poll(&mut body) else { panic!("{coding:?} does not end") };
            out.extend(last.into_data().unwrap());
            assert_eq!(decode(coding, &out), (b"one line\n".repeat(3), true), "{coding:?}");
            assert!(body.is_end_stream() && matches!(poll(&mut body), Poll::Ready(None)));
        }
    }

    #[test]
    fn what_breaks_off_has_no_valid_end() {
        for coding in Coding::ALL {
            let mut body = encode(coding, vec![Turn::Sends(noise(50_000)), Turn::BreaksOff]);
            let mut out = Vec::new();
            loop {
                match poll(&mut body) {
                    Poll::Ready(Some(Ok(frame))) => out.extend(frame.into_data().unwrap()),
                    Poll::Ready(Some(Err(error))) => break assert_eq!(error.to_string(), "it broke off"),
                    other => panic!("{coding:?}: {other:?}"),
                }
            }
            assert!(!decode(coding, &out).1, "{coding:?}");
            assert!(matches!(poll(&mut body), Poll::Ready(None)));
        }
    }

    #[test]
    fn one_for_whom_there_is_no_place_is_left_as_it_is() {
        let places = Arc::new(Semaphore::new(1));
        let first = Prepared::new(Coding::Gzip, None, &places).unwrap();
        assert!(Prepared::new(Coding::Gzip, None, &places).is_none());
        drop(first.of(App(VecDeque::new())));
        assert!(Prepared::new(Coding::Gzip, None, &places).is_some());
    }
}
