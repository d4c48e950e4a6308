//! An upload is the body of a request on its way to an upstream: counted, watched, never held.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::alarm::Alarm;

/// The most bytes, and the longest time, for which the rest of a refused body is read and thrown away, so that its
/// sender comes to read the answer. A connection closed with unread data is reset, and the answer lost with it.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(5);

/// Bytes for each second for which a caller is waited for, once that has been as long as it may be silent; much less
/// than any line carries, and enough that nobody holds an instance by sending a byte now and then. The time that the
/// app takes to read counts for nobody.
const RATE: u64 = 100;

/// Why a body stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    /// More bytes came than are allowed.
    #[error("the request body is too large")]
    TooLarge,
    /// The caller sent nothing for too long.
    #[error("the caller stopped sending")]
    Stalled,
    /// The caller's connection broke, or its chunks were malformed.
    #[error("the request body broke off")]
    Broken,
}

/// The body of a request on its way to an upstream.
#[derive(Debug)]
pub(super) struct Upload {
    incoming: Option<Incoming>,
    /// Bytes that may still come.
    allowed: u64,
    progress: Arc<Progress>,
    /// The longest silence of the caller.
    patience: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    /// Since when the caller is waited for, for how long it was before, and what came meanwhile.
    waits: Option<Instant>,
    waited: Duration,
    received: u64,
    /// Notes when bytes arrive, then wakes the task that it was made for.
    arrival: Option<(Waker, Waker)>,
    /// The caller waits for `100 Continue`, or for room in the window of HTTP/2, which reading the body first gives.
    held_back: bool,
}

impl Upload {
    /// Watches over a body of a request that began then, whose sender may be silent for `patience`. No bytes of it pass before [`Upload::allow`].
    pub(super) fn new(incoming: Incoming, began: Instant, patience: Duration, held_back: bool) -> Self {
        let ended = incoming.is_end_stream();
        let progress = Arc::new(Progress::new(if ended { State::Ended } else { State::Moving }, began, patience));
        Self {
            incoming: (!ended).then_some(incoming),
            allowed: 0,
            progress,
            patience,
            silence: None,
            waits: None,
            waited: Duration::ZERO,
            received: 0,
            arrival: None,
            held_back,
        }
    }

    /// No body, for a request that is sent again.
    pub(super) fn empty() -> Self {
        Self {
            incoming: None,
            allowed: 0,
            progress: Arc::new(Progress::new(State::Ended, Instant::now(), Duration::ZERO)),
            patience: Duration::ZERO,
            silence: None,
            waits: None,
            waited: Duration::ZERO,
            received: 0,
            arrival: None,
            held_back: false,
        }
    }

    /// Lets that many bytes pass.
    ///
    /// # Errors
    /// Where more are announced.
    pub(super) fn allow(&mut self, bytes: u64) -> Result<(), UploadError> {
        self.allowed = bytes;
        if self.size_hint().lower() > bytes { Err(UploadError::TooLarge) } else { Ok(()) }
    }

    /// How far it has come; stays readable after the upload has been handed over.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn stop(&mut self, error: UploadError) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.progress.set(match error {
            UploadError::TooLarge => State::TooLarge,
            UploadError::Stalled => State::Stalled,
            UploadError::Broken => State::Broken,
        });
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        this.held_back = false;
        if !this.arrival.as_ref().is_some_and(|(task, _)| task.will_wake(cx.waker())) {
            let arrival = Arrival { task: cx.waker().clone(), progress: Arc::clone(&this.progress) };
            this.arrival = Some((cx.waker().clone(), Arc::new(arrival).into()));
        }
        let waker = this.arrival.as_ref().map_or_else(|| cx.waker(), |(_, arrival)| arrival);
        // Before the look, so that bytes that arrive right after it find the state that they change.
        this.progress.set(State::Waiting);
        match Pin::new(&mut *incoming).poll_frame(&mut Context::from_waker(waker)) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.allowed.checked_sub(bytes) else { return this.stop(UploadError::TooLarge) };
                this.allowed = left;
                this.silence = None;
                this.received += bytes;
                this.progress.received.store(this.received, Ordering::Relaxed);
                this.waited += this.waits.take().map_or(Duration::ZERO, |since| since.elapsed());
                if this.waited > this.patience && this.received < RATE * this.waited.as_secs() {
                    return this.stop(UploadError::Stalled);
                }
                let ended = incoming.is_end_stream();
                this.progress.set(if ended { State::Ended } else { State::Moving });
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => this.stop(UploadError::Broken),
            Poll::Ready(None) => {
                this.incoming = None;
                this.progress.set(State::Ended);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let patience = this.patience;
                this.waits.get_or_insert_with(Instant::now);
                let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(patience)));
                if silence.as_mut().poll(cx).is_ready() { this.stop(UploadError::Stalled) } else { Poll::Pending }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        // Reading what the caller holds back would ask for it; and nobody resets over what was never sent.
        if let Some(incoming) = unread
            && !self.held_back
            && self.progress.state() != State::Broken
        {
            linger(incoming);
        }
    }
}

/// Takes note that it is no longer the caller whom all wait for, even where nobody comes to fetch the bytes.
struct Arrival {
    task: Waker,
    progress: Arc<Progress>,
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        if self.progress.state() == State::Waiting {
            self.progress.set(State::Moving);
        }
        self.task.wake_by_ref();
    }
}

/// Reads on for a while and throws away, so that the sender sees its answer.
fn linger(mut incoming: Incoming) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(timeout(LINGER_TIME, async move {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = incoming.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else { break };
            left = rest;
        }
    }));
}

/// What an upload is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// The last that was asked for has been handed on; the upstream has not asked for more.
    Moving,
    /// For the caller to send more.
    Waiting,
    /// Handed on whole.
    Ended,
    /// See [`UploadError::TooLarge`].
    TooLarge,
    /// See [`UploadError::Stalled`].
    Stalled,
    /// See [`UploadError::Broken`].
    Broken,
}

/// How far an upload has come, for whoever waits for the answer to it.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    /// See [`Upload::patience`].
    patience: Duration,
    state: AtomicU8,
    /// Milliseconds from `began` to the last change.
    changed: AtomicU64,
    /// Bytes that were handed on.
    received: AtomicU64,
}

impl Progress {
    fn new(state: State, began: Instant, patience: Duration) -> Self {
        let (changed, received) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began, patience, state: AtomicU8::new(state as u8), changed, received }
    }

    fn set(&self, state: State) {
        self.set_at(state, Instant::now());
    }

    fn set_at(&self, state: State, now: Instant) {
        let millis = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX);
        self.changed.store(millis, Ordering::Release);
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn state(&self) -> State {
        const ALL: [State; 6] =
            [State::Moving, State::Waiting, State::Ended, State::TooLarge, State::Stalled, State::Broken];
        ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// Bytes that were handed on.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The upstream's turn begins now: what passed before, the caller has waited for a place and a connection.
    pub(super) fn begin(&self, now: Instant) {
        self.set_at(self.state(), now);
    }

    /// Returns when it has been the upstream's turn for `limit`, be it to answer or to read on.
    pub(super) async fn upstream_silent(&self, limit: Duration, alarm: &mut Alarm, mut now: Instant) {
        // A turn that begins while this sleeps cannot end before it has slept for so long.
        let longest = limit;
        loop {
            let turn = self.began + Duration::from_millis(self.changed.load(Ordering::Acquire));
            // The caller's silence is the upload's own business. But it notices only while the upstream asks it for
            // more, so where both are silent, both times have to pass.
            let limit = if self.state() == State::Waiting { self.patience + limit } else { limit };
            let wait = limit.saturating_sub(now - turn);
            if wait.is_zero() {
                return;
            }
            alarm.go_off(now + wait.min(longest)).await;
            now = Instant::now();
        }
    }
}
