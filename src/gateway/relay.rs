//! A relay carries an answer to a caller of HTTP/2 in a task of its own, so that a caller who gives no room for it does
//! not keep the app: nobody else would notice, since its connection is well and its body is not asked for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::body::BodyError;

/// What comes over: a part, the end, or why there is none.
type Part = Option<Result<Frame<Bytes>, BodyError>>;

/// The caller's end of a relay.
#[derive(Debug)]
pub(super) struct Relay {
    parts: Receiver<Part>,
    size: SizeHint,
    ended: bool,
}

impl Relay {
    /// Carries an answer, and gives up where its caller takes nothing in for `patience`.
    pub(super) fn of<B>(mut body: B, patience: Duration, tasks: &TaskTracker) -> Self
    where
        B: Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static,
    {
        let size = body.size_hint();
        // One part under way, so that reading and sending go side by side.
        let (sender, parts) = channel::<Part>(1);
        tasks.spawn(async move {
            loop {
                let part = tokio::select! {
                    part = body.frame() => part,
                    () = sender.closed() => return,
                };
                let is_last = !matches!(part, Some(Ok(_)));
                if !matches!(timeout(patience, sender.send(part)).await, Ok(Ok(()))) || is_last {
                    return;
                }
            }
        });
        Self { parts, size, ended: false }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(cx).map(|part| match part {
            Some(Some(Ok(frame))) => Some(Ok(frame)),
            end => {
                self.ended = true;
                end.unwrap_or_else(|| Some(Err("the caller takes nothing in".into())))
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.size }
    }
}
