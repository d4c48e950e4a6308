//! A hop is one connection to an upstream, on which one request at a time is sent and answered.
//!
//! It is driven by whoever waits for the answer, in the same task, and has no task of its own: a small request is one write
//! and one read, and nobody is woken for it but its exchange. Dropping it closes the connection at once.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;
use tokio_util::task::AbortOnDropHandle;

use super::alarm::Alarm;
use super::framing::{Framing, Malformed, Part};
use super::meter::Meter;
use super::pool::{CONNECT_LIMIT, READ_AHEAD};
use super::reply::Search;
use super::sending::{SendError, Sending};

/// What is read at once, unless more comes.
const READ_AT_ONCE: usize = 8 * 1024;

/// One connection to an upstream.
#[derive(Debug)]
pub(super) struct Hop {
    reader: OwnedReadHalf,
    /// `None` while the rest of a request is sent beside its answer.
    writer: Option<OwnedWriteHalf>,
    /// What sends that rest, and gives the writer back where it could.
    rest: Option<AbortOnDropHandle<Option<OwnedWriteHalf>>>,
    /// What was read and not yet taken.
    read: BytesMut,
    /// How much is read at once: more where much comes.
    at_once: usize,
    search: Search,
    /// Of the answer that is being read.
    framing: Framing,
    /// Whether another request may follow that answer.
    goes_on: bool,
    meter: Meter,
    /// For whoever waits for an answer.
    pub(super) alarm: Alarm,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The connection had ended before anything was written.
    #[error("the connection had ended: {0}")]
    Unsent(#[source] io::Error),
    /// It ended before anything was answered.
    #[error("the connection ended without an answer: {0}")]
    Unanswered(#[source] io::Error),
    /// The answer broke off, or is none.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The body of the request stopped; why, its progress tells.
    #[error("the request body stopped")]
    Stopped,
}

impl Hop {
    /// Opens a connection.
    ///
    /// # Errors
    /// Where nothing listens there, or it does not answer within [`CONNECT_LIMIT`]; nothing was sent.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Box<Self>> {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Box::new(Self {
            reader,
            writer: Some(writer),
            rest: None,
            read: BytesMut::new(),
            at_once: READ_AT_ONCE,
            search: Search::default(),
            framing: Framing::Ended,
            goes_on: true,
            meter: Meter::begin(Instant::now()),
            alarm: Alarm::default(),
        }))
    }

    /// Whether an idle one is still open, and nobody has said anything on it unasked.
    pub(super) fn is_quiet(&self) -> bool {
        // Costs a system call only where something has come.
        let news = self.reader.as_ref().poll_read_ready(&mut Context::from_waker(Waker::noop()));
        news.is_pending()
            || matches!(self.reader.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// A request is about to be sent: its answer begins at nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        self.meter = Meter::begin(now);
        self.search = Search::default();
    }

    /// Sends a request, and waits for the head of its answer, which may come before all of the request has been sent.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<Response<()>, Failure>> {
        if let Some(writer) = self.writer.as_mut().filter(|_| !sending.is_over())
            && let Poll::Ready(Err(error)) = sending.poll(cx, writer)
        {
            match error {
                SendError::Unsent(error) => return Poll::Ready(Err(Failure::Unsent(error))),
                SendError::Stopped => return Poll::Ready(Err(Failure::Stopped)),
                // Who takes no more may have said why.
                SendError::Broken(_) => {
                    sending.give_up();
                    self.writer = None;
                }
            }
        }
        loop {
            let (method, room) = sending.for_answer();
            if let Some(reply) = self.search.next(&mut self.read, method, room)? {
                (self.framing, self.goes_on) = (reply.framing, reply.goes_on);
                return Poll::Ready(Ok(reply.response));
            }
            let wrong = match ready!(self.poll_read(cx)) {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            return Poll::Ready(Err(if self.meter.has_read() {
                Failure::Malformed(Malformed("the head of the answer broke off"))
            } else {
                Failure::Unanswered(wrong)
            }));
        }
    }

    /// The answer has begun: what is left of the request is sent beside it, whoever reads the answer.
    pub(super) fn go_on(&mut self, mut sending: Box<Sending>) {
        if sending.is_over() {
            return;
        }
        if let Some(mut writer) = self.writer.take() {
            self.rest = Some(AbortOnDropHandle::new(tokio::spawn(async move {
                std::future::poll_fn(|cx| sending.poll(cx, &mut writer)).await.is_ok().then_some(writer)
            })));
        }
    }

    /// Reads the next part of the answer's body.
    ///
    /// # Errors
    /// Where it breaks off, or its framing cannot be read.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let broken = |malformed: Malformed| io::Error::new(io::ErrorKind::InvalidData, malformed);
        loop {
            match self.framing.next(&mut self.read).map_err(broken)? {
                Part::Data(data) => {
                    self.meter.used(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Part::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Part::End => return Poll::Ready(None),
                Part::Missing => {
                    if ready!(self.poll_read(cx))? == 0 {
                        self.framing.end().map_err(broken)?;
                    }
                }
            }
        }
    }

    /// Whether all of the answer's body has been read.
    pub(super) fn has_ended(&self) -> bool {
        self.framing == Framing::Ended
    }

    /// How long the rest of the answer's body is.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Ended => SizeHint::with_exact(0),
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunks(_) | Framing::ToEnd => SizeHint::default(),
        }
    }

    /// Whether both sides have said all, and another request may follow.
    pub(super) fn is_fit(&mut self) -> bool {
        if let Some(rest) = self.rest.take() {
            self.writer = rest.now_or_never().and_then(Result::ok).flatten();
        }
        let is_fit = self.goes_on && self.has_ended() && self.read.is_empty() && self.writer.is_some();
        if is_fit && self.at_once > READ_AT_ONCE {
            // Many may be idle, and the next answer is as likely to be a small one.
            (self.read, self.at_once) = (BytesMut::new(), READ_AT_ONCE);
        }
        is_fit
    }

    /// Both directions, and what has already come, once HTTP has been left.
    pub(super) fn into_stream(self) -> Option<(OwnedReadHalf, OwnedWriteHalf, Bytes)> {
        let Self { reader, writer, read, .. } = self;
        writer.map(|writer| (reader, writer, read.freeze()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.at_once);
        let mut room = (&mut self.read).limit(self.at_once);
        let count = ready!(poll_read_buf(Pin::new(&mut self.reader), cx, &mut room))?;
        self.meter.read(count)?;
        if count == self.at_once {
            self.at_once = READ_AHEAD.min(2 * self.at_once);
        }
        Poll::Ready(Ok(count))
    }
}
