//! A download is the body of an answer on its way from an upstream; it keeps the upstream counted until it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

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
}

impl Download {
    /// Takes over the answer, and with it the connection that it comes on and the place in the upstream's count.
    pub(super) fn new(incoming: Incoming, connection: Connection, upload: Arc<Progress>, in_flight: InFlight) -> Self {
        Self { incoming, ended: false, connection: Some(connection), upload, in_flight }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(data), Some(connection)) = (frame.data_ref(), &self.connection) {
                    connection.meter.used(data.len());
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
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
