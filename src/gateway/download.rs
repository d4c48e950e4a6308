//! A download is the body of an answer on its way from an upstream: it keeps the upstream counted until it has ended,
//! and ends it itself where nothing more comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::body::BodyError;
use super::pool::{self, Connection};
use super::upload::{Progress, State};
use super::upstream::InFlight;

/// The body of an answer on its way from an upstream.
#[derive(Debug)]
pub(super) struct Download {
    incoming: Incoming,
    ended: bool,
    connection: Option<Connection>,
    upload: Arc<Progress>,
    in_flight: InFlight,
    /// `None` for what lasts.
    patience: Option<Patience>,
    silence: Option<Pin<Box<Sleep>>>,
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
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        upload: Arc<Progress>,
        in_flight: InFlight,
        patience: Option<Patience>,
    ) -> Self {
        Self { incoming, ended: false, connection: Some(connection), upload, in_flight, patience, silence: None }
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
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                self.silence = None;
                if let (Some(data), Some(connection)) = (frame.data_ref(), &self.connection) {
                    connection.meter.used(data.len());
                }
            }
            Poll::Ready(Some(Err(_))) => {}
            Poll::Pending => {
                if let Some(error) = self.is_over(cx) {
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Only a connection on which both sides have said all is fit for another request; any other one closes here.
        if self.is_end_stream()
            && self.upload.state() == State::Ended
            && let Some(connection) = self.connection.take()
        {
            pool::put_back(self.in_flight.upstream(), connection);
        }
    }
}
