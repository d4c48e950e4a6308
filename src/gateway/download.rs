//! A download is the body of an answer on its way from an upstream: it keeps the upstream counted until it has ended,
//! and ends it itself where nothing more comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::body::BodyError;
use super::hop::Hop;
use super::pool::put_back;
use super::upload::{Progress, State};
use super::upstream::InFlight;

/// The body of an answer on its way from an upstream.
#[derive(Debug)]
pub(super) struct Download {
    /// `None` once it has been given back.
    hop: Option<Box<Hop>>,
    upload: Arc<Progress>,
    in_flight: InFlight,
    /// `None` for what lasts.
    patience: Option<Patience>,
    silence: Option<Pin<Box<Sleep>>>,
    /// Why it breaks off, once all before has been handed on.
    broken: Option<BodyError>,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The longest silence in the middle.
    pub(super) idle: Duration,
    /// When it must have come to its end.
    pub(super) until: Instant,
}

impl Download {
    /// Takes over the answer, and with it the connection that it comes on and the place in the upstream's count.
    pub(super) fn new(hop: Box<Hop>, upload: Arc<Progress>, in_flight: InFlight, patience: Option<Patience>) -> Self {
        Self { hop: Some(hop), upload, in_flight, patience, silence: None, broken: None }
    }

    /// Why nothing more is waited for, if so.
    fn is_over(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let Patience { idle, until } = self.patience?;
        let left = until.saturating_duration_since(Instant::now());
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(idle.min(left))));
        if silence.as_mut().poll(cx).is_pending() {
            return None;
        }
        tracing::debug!(container = %self.in_flight.upstream().container, "an answer stopped coming, or took too long");
        Some("the answer stopped coming, or took too long".into())
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(hop) = &mut self.hop else { return Poll::Ready(None) };
        match hop.poll_part(cx) {
            Poll::Ready(Some(Err(error))) => {
                // hyper throws away what it has not sent yet where a body breaks off, and sends it where one pauses.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(part) => {
                self.silence = None;
                Poll::Ready(part.map(|part| part.map_err(Into::into)))
            }
            Poll::Pending => self.is_over(cx).map_or(Poll::Pending, |error| Poll::Ready(Some(Err(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.hop.as_ref().is_none_or(|hop| hop.has_ended())
    }

    fn size_hint(&self) -> SizeHint {
        self.hop.as_ref().map_or_else(|| SizeHint::with_exact(0), |hop| hop.size_hint())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Only a connection on which both sides have said all is fit for another request; any other one closes here.
        if self.upload.state() == State::Ended
            && let Some(mut hop) = self.hop.take()
            && hop.is_fit()
        {
            put_back(self.in_flight.upstream(), hop);
        }
    }
}
