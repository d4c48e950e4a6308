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

/// For how long nothing may be sent to one that may have gone, where nothing can find that out.
const PAUSE: Duration = Duration::from_secs(1);

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A caller that sends no more, while it is answered.
#[derive(Debug)]
pub(super) struct Half {
    next: Pin<Box<Sleep>>,
    wait: Duration,
    /// Interim answers that were sent: after the second, one that had gone would have said so.
    sent: u32,
    /// How much had been sent to it when it said that it sends no more.
    at: u64,
    /// … and at the last look.
    before: Option<u64>,
    /// Between it and us is TLS, which takes a write of nothing for none.
    is_secure: bool,
}

impl Half {
    /// One to which so much has been sent until now.
    pub(super) fn new(written: u64, is_secure: bool) -> Self {
        Self { next: Box::pin(sleep(FIRST)), wait: FIRST, sent: 0, at: written, before: None, is_secure }
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
            let wait = if activity.has_unsent() {
                // It takes in what it is sent, or is given up for that: see `Wire`.
                PAUSE
            } else if activity.is_answering() || !activity.takes_interim() {
                // To write nothing is enough to hear of a reset.
                let is_reset = matches!(Pin::new(&mut *stream).poll_write(cx, &[]), Poll::Ready(Err(_)));
                let has_been_told = self.sent >= 2 || (written > self.at && !self.is_secure);
                let pauses = self.before.replace(written) == Some(written);
                if is_reset || (pauses && !has_been_told) {
                    return Poll::Ready(());
                }
                PAUSE
            } else {
                match Pin::new(&mut *stream).poll_write(cx, INTERIM) {
                    Poll::Ready(Ok(sent)) if sent == INTERIM.len() => self.sent = self.sent.saturating_add(1),
                    Poll::Pending => {}
                    // Half of one would be no answer that could be gone on with.
                    Poll::Ready(_) => return Poll::Ready(()),
                }
                self.wait = (self.wait * 2).min(LONGEST);
                self.wait / 2
            };
            self.next.as_mut().reset(Instant::now() + wait);
        }
    }
}
