//! A body is what the gateway and its neighbours answer with: bytes at hand, or a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::access::Access;
use super::download::Download;
use super::encoder::Encoder;
use super::relay::Relay;

/// Why a body ended early. Whoever reads the answer sees its connection break off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// Logged when the body has been sent or dropped.
    access: Option<Box<Access>>,
}

#[derive(Debug)]
enum Kind {
    Whole(Option<Bytes>),
    Download(Download),
    Encoder(Box<Encoder<Download>>),
    Relay(Relay),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self { kind: Kind::Whole(None), access: None }
    }

    /// A stream, as for server-sent events: each frame is flushed when no other is at hand.
    pub fn stream<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self { kind: Kind::Stream(body.map_err(Into::into).boxed_unsync()), access: None }
    }

    pub(super) fn download(download: Download) -> Self {
        Self { kind: Kind::Download(download), access: None }
    }

    pub(super) fn encoder(encoder: Encoder<Download>) -> Self {
        Self { kind: Kind::Encoder(Box::new(encoder)), access: None }
    }

    pub(super) fn relay(relay: Relay) -> Self {
        Self { kind: Kind::Relay(relay), access: None }
    }

    pub(super) fn log(&mut self, access: Box<Access>) {
        self.access = Some(access);
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { kind: Kind::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())), access: None }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Download(download) => Pin::new(download).poll_frame(cx),
            Kind::Encoder(encoder) => Pin::new(encoder).poll_frame(cx),
            Kind::Relay(relay) => Pin::new(relay).poll_frame(cx),
            Kind::Stream(stream) => Pin::new(stream).poll_frame(cx),
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(access)) = (&polled, &mut self.access) {
            access.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Download(download) => download.is_end_stream(),
            Kind::Encoder(encoder) => encoder.is_end_stream(),
            Kind::Relay(relay) => relay.is_end_stream(),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Download(download) => download.size_hint(),
            Kind::Encoder(encoder) => encoder.size_hint(),
            Kind::Relay(relay) => relay.size_hint(),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}
