//! A caller that sends no more may have gone, or may only have shut its side of the connection and wait for its answer (RFC 9112,
//! section 9.6, and RFC 9293, section 3.6). From here both look alike until something is sent: who has gone resets the connection.
//!
//! What may be sent before an answer is an interim one, `100 Continue`, which every client of HTTP/1.1 must expect (RFC 9110,
//! section 15.2). So a caller that has gone frees its instance within a moment, and one that waits is answered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Activity;

/// An answer that comes within this needs nothing of the kind.
const FIRST: Duration = Duration::from_millis(20);

/// The longest time between two interim answers, each after twice the time that the one before it has waited.
const LONGEST: Duration = Duration::from_secs(5);

/// For how long an answer may pause whose caller has sent no more since it began, and may have gone.
const PAUSE: Duration = Duration::from_secs(1);

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A caller that sends no more, while it is answered.
#[derive(Debug)]
pub(super) struct Half {
    next: Pin<Box<Sleep>>,
    wait: Duration,
    /// Interim answers that were sent.
    sent: u32,
    /// How much of the answer had been sent at the last look.
    before: Option<u64>,
}

impl Half {
    pub(super) fn new() -> Self {
        Self { next: Box::pin(sleep(FIRST)), wait: FIRST, sent: 0, before: None }
    }

    /// Waits until the caller is known to have gone. `written` is how much has been sent to it in all.
    pub(super) fn poll_gone<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        activity: &Activity,
        written: u64,
    ) -> Poll<()>
    where
        S: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.next.as_mut().poll(cx));
            let wait = if activity.is_answering() {
                // What is sent finds out by itself. Who was there after an interim answer waits for more.
                let pauses = self.before.replace(written) == Some(written);
                if pauses && self.sent < 2 && !activity.has_unsent() {
                    return Poll::Ready(());
                }
                PAUSE
            } else {
                if activity.takes_interim() {
                    let polled = Pin::new(&mut *stream).poll_write(cx, INTERIM);
                    // Nothing else waits to be sent, so that there is room for it on each connection that is whole.
                    if !matches!(polled, Poll::Ready(Ok(sent)) if sent == INTERIM.len()) {
                        return Poll::Ready(());
                    }
                    self.sent = self.sent.saturating_add(1);
                }
                self.wait = (self.wait * 2).min(LONGEST);
                self.wait / 2
            };
            self.next.as_mut().reset(Instant::now() + wait);
        }
    }
}
