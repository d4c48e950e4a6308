//! Forwarding sends one request to an upstream of its API, again where that is safe, and brings the answer back.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Response};

use super::balance::admit;
use super::headers::{SERVER_TIMING, value};
use super::hop::{Failure, Hop};
use super::outgoing::Outgoing;
use super::refusal::Refusal;
use super::route::{Route, Routes};
use super::sending::Sending;
use super::upload::{Progress, State, Upload};
use super::upstream::InFlight;
use crate::metrics::Metrics;

/// The most replicas that are tried, one after the other, where no connection comes about.
const TRIES: usize = 3;

/// What one API is asked, ready to be sent.
pub(super) struct Call {
    sending: Box<Sending>,
    progress: Arc<Progress>,
    /// See [`crate::tree::RouteSettings::timeout`].
    timeout: Duration,
    /// The most bytes of the request body, for the error that says so.
    max_body: u64,
}

impl Call {
    pub(super) fn new(
        method: &Method,
        head: Outgoing,
        headers: HeaderMap,
        upload: Upload,
        timeout: Duration,
        max_body: u64,
    ) -> Self {
        let progress = upload.progress();
        let sending = Box::new(Sending::new(method, head, headers, upload));
        Self { sending, progress, timeout, max_body }
    }

    /// Whether it surely did nothing, or is harmless twice and met a connection that had ended.
    fn may_be_sent_again(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Unsent(_) => true,
            Failure::Unanswered(_) => self.sending.is_harmless_twice(),
            Failure::Malformed(_) | Failure::Stopped => false,
        }
    }
}

/// An answer whose head has come.
pub(super) struct Answer {
    pub(super) response: Response<()>,
    pub(super) hop: Box<Hop>,
    pub(super) upload: Arc<Progress>,
    pub(super) in_flight: InFlight,
    pub(super) timing: Timing,
}

/// What took how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    began: Instant,
    /// When there was a place at an upstream and a connection to it. From there to the head of the answer is the app's, which
    /// includes sending the request.
    reached: Instant,
}

impl Timing {
    /// Writes `Server-Timing`, in milliseconds, behind what the app says of itself. What is left of the whole is ours.
    pub(super) fn write_to(self, headers: &mut HeaderMap, whole: Duration, now: Instant) {
        let Self { began, reached } = self;
        let (reach, app) = (reached - began, now.saturating_duration_since(reached));
        let ours = whole.saturating_sub(reach + app);
        let millis = [ours, reach, app].map(|time| time.as_secs_f64() * 1000.0);
        let text = format!("gateway;dur={:.3}, reach;dur={:.3}, app;dur={:.3}", millis[0], millis[1], millis[2]);
        headers.append(SERVER_TIMING, value(&text));
    }
}

/// Sends a request to an upstream of `route`, or of the route that has come in its place.
///
/// Sent again are only requests that surely did nothing: to another replica where no connection came about, on a fresh
/// connection where the pooled one had ended before anything of the request was written, and, also on a fresh one, those that
/// are harmless twice where the pooled one ended without a byte of an answer.
///
/// # Errors
/// What the caller is told: 408, 413, 502, 503 or 504.
pub(super) async fn forward(
    routes: &Routes,
    metrics: Option<&Metrics>,
    route: &Arc<Route>,
    mut call: Call,
) -> Result<Answer, Refusal> {
    let began = Instant::now();
    let Reached { in_flight, mut hop, mut reused, reached } = reach(routes, metrics, route).await?;
    call.progress.begin(reached.into());
    loop {
        hop.begin(reached);
        let mut alarm = std::mem::take(&mut hop.alarm);
        let answered = tokio::select! {
            biased;
            answered = poll_fn(|cx| hop.poll_answer(cx, &mut call.sending)) => answered,
            () = call.progress.upstream_silent(call.timeout, &mut alarm, reached.into()) => return Err(Refusal::TimedOut(call.timeout)),
        };
        let failure = match answered {
            Ok(response) => {
                hop.alarm = alarm;
                hop.go_on(call.sending);
                let timing = Timing { began, reached };
                return Ok(Answer { response, hop, upload: call.progress, in_flight, timing });
            }
            Err(failure) => failure,
        };
        match call.progress.state() {
            State::TooLarge => return Err(Refusal::TooLarge(call.max_body)),
            State::Stalled => return Err(Refusal::Stalled),
            State::Broken => return Err(Refusal::Bad("the request body broke off")),
            State::Moving | State::Waiting | State::Ended => {}
        }
        if !reused || !call.may_be_sent_again(&failure) {
            tracing::debug!(api = %route.id, container = %in_flight.upstream().container, error = %failure, "no answer");
            return Err(Refusal::BadGateway(match failure {
                Failure::Malformed(_) => "the API gave an answer that cannot be understood",
                _ => "the API ended the connection without an answer",
            }));
        }
        call.sending.begin_again();
        // In a box, as all that is rare: each idle connection has room for what its requests may wait for.
        hop = Box::pin(connect(metrics, route, &in_flight)).await?;
        reused = false;
    }
}

/// A place at an upstream and a connection to it.
struct Reached {
    in_flight: InFlight,
    hop: Box<Hop>,
    /// It is one of the pool.
    reused: bool,
    reached: Instant,
}

async fn reach(routes: &Routes, metrics: Option<&Metrics>, route: &Arc<Route>) -> Result<Reached, Refusal> {
    let mut tried = Vec::new();
    loop {
        let in_flight = match admit(routes, route, &tried).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return Err(refusal.filter(|_| tried.is_empty()).unwrap_or(UNREACHABLE)),
        };
        let now = Instant::now();
        if let Some(hop) = in_flight.upstream().pool.take(now) {
            return Ok(Reached { in_flight, hop, reused: true, reached: now });
        }
        match Box::pin(connect(metrics, route, &in_flight)).await {
            Ok(hop) => return Ok(Reached { in_flight, hop, reused: false, reached: Instant::now() }),
            Err(refusal) if tried.len() + 1 >= TRIES => return Err(refusal),
            Err(_) => tried.push(Arc::clone(in_flight.upstream())),
        }
    }
}

const UNREACHABLE: Refusal = Refusal::BadGateway("the API cannot be reached");

/// A fresh connection.
async fn connect(metrics: Option<&Metrics>, route: &Route, in_flight: &InFlight) -> Result<Box<Hop>, Refusal> {
    let (upstream, begun) = (in_flight.upstream(), Instant::now());
    let opened = Hop::open(upstream.address).await;
    if let Some(metrics) = metrics {
        metrics.connected(route.id.as_str(), opened.is_ok().then(|| begun.elapsed()));
    }
    match opened {
        Ok(hop) => {
            upstream.standing.reached();
            Ok(hop)
        }
        Err(error) => {
            upstream.standing.missed();
            tracing::debug!(container = %upstream.container, %error, "no connection");
            Err(UNREACHABLE)
        }
    }
}
