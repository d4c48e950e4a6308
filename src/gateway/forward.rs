//! Forwarding sends one request to an upstream of its API, again where that is safe, and brings the answer back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

use super::balance::admit;
use super::headers::{SERVER_TIMING, value};
use super::pool::Connection;
use super::refusal::Refusal;
use super::route::{Route, Routes};
use super::upload::{Progress, State, Upload};
use super::upstream::InFlight;

/// The most replicas that are tried, one after the other, where no connection comes about.
const TRIES: usize = 3;

/// What one API is asked, ready to be sent.
pub(super) struct Call {
    /// Until it has been sent.
    request: Option<Request<Upload>>,
    progress: Arc<Progress>,
    /// See [`crate::tree::RouteSettings::timeout`].
    timeout: Duration,
    /// The most bytes of the request body, for the error that says so.
    max_body: u64,
}

impl Call {
    pub(super) fn new(request: Request<Upload>, timeout: Duration, max_body: u64) -> Self {
        let progress = request.body().progress();
        Self { request: Some(request), progress, timeout, max_body }
    }

    /// The same request again, where it means the same when it comes twice (RFC 9110, section 9.2.2) and has no body.
    fn spare(&self) -> Option<Request<Upload>> {
        let request = self.request.as_ref()?;
        let is_harmless = request.method().is_idempotent() && self.progress.state() == State::Ended;
        is_harmless.then(|| {
            let mut spare = Request::new(Upload::empty());
            request.method().clone_into(spare.method_mut());
            request.uri().clone_into(spare.uri_mut());
            request.headers().clone_into(spare.headers_mut());
            spare
        })
    }
}

/// An answer whose head has come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
    pub(super) upload: Arc<Progress>,
    pub(super) in_flight: InFlight,
    pub(super) timing: Timing,
}

/// What took how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// To a place at an upstream and a connection to it.
    reach: Duration,
    /// From there to the head of the answer, which includes sending the request.
    app: Duration,
}

impl Timing {
    /// Writes `Server-Timing`, in milliseconds, behind what the app says of itself. What is left of the whole is ours.
    pub(super) fn write_to(self, headers: &mut HeaderMap, whole: Duration) {
        let Self { reach, app } = self;
        let ours = whole.saturating_sub(reach + app);
        let millis = [ours, reach, app].map(|time| time.as_secs_f64() * 1000.0);
        let text = format!("gateway;dur={:.3}, reach;dur={:.3}, app;dur={:.3}", millis[0], millis[1], millis[2]);
        headers.append(SERVER_TIMING, value(&text));
    }
}

/// Sends a request to an upstream of `route`, or of the route that has come in its place.
///
/// Sent again are only requests that surely did nothing: to another replica where no connection came about, on a fresh
/// connection where the pooled one had ended before the request was written, and, also on a fresh one, those that are
/// harmless twice.
///
/// # Errors
/// What the caller is told: 408, 413, 502, 503 or 504.
pub(super) async fn forward(routes: &Routes, route: &Arc<Route>, call: &mut Call) -> Result<Answer, Refusal> {
    let began = Instant::now();
    let (in_flight, mut connection, mut reused) = reach(routes, route).await?;
    call.progress.begin();
    let reached = Instant::now();
    let mut spare = if reused { call.spare() } else { None };
    loop {
        let request = call.request.take().ok_or(Refusal::Internal)?;
        let (sent, alarm) = connection.send(request);
        let sent = tokio::select! {
            biased;
            sent = sent => sent,
            () = call.progress.upstream_silent(call.timeout, alarm) => return Err(Refusal::TimedOut(call.timeout)),
        };
        let mut error = match sent {
            Ok(response) => {
                connection.answers(&response);
                let timing = Timing { reach: reached - began, app: reached.elapsed() };
                return Ok(Answer { response, connection, upload: Arc::clone(&call.progress), in_flight, timing });
            }
            Err(error) => error,
        };
        match call.progress.state() {
            State::TooLarge => return Err(Refusal::TooLarge(call.max_body)),
            State::Stalled => return Err(Refusal::Stalled),
            State::Broken => return Err(Refusal::Bad("the request body broke off")),
            State::Moving | State::Waiting | State::Ended => {}
        }
        call.request = error.take_message().or_else(|| spare.take()).filter(|_| reused);
        if call.request.is_none() {
            tracing::debug!(api = %route.id, container = %in_flight.upstream().container, error = %error.error(), "no answer");
            return Err(Refusal::BadGateway("the API ended the connection without an answer"));
        }
        spare = None;
        // In a box, as all that is rare: each idle connection has room for what its requests may wait for.
        connection = Box::pin(connect(&in_flight)).await?;
        reused = false;
    }
}

/// A place at an upstream and a connection to it, and whether that is one of the pool.
async fn reach(routes: &Routes, route: &Arc<Route>) -> Result<(InFlight, Connection, bool), Refusal> {
    let mut tried = Vec::new();
    loop {
        let in_flight = match admit(routes, route, &tried).await {
            Ok(in_flight) => in_flight,
            Err(refusal) => return Err(refusal.filter(|_| tried.is_empty()).unwrap_or(UNREACHABLE)),
        };
        if let Some(connection) = in_flight.upstream().pool.take() {
            return Ok((in_flight, connection, true));
        }
        match Box::pin(connect(&in_flight)).await {
            Ok(connection) => return Ok((in_flight, connection, false)),
            Err(refusal) if tried.len() + 1 >= TRIES => return Err(refusal),
            Err(_) => tried.push(Arc::clone(in_flight.upstream())),
        }
    }
}

const UNREACHABLE: Refusal = Refusal::BadGateway("the API cannot be reached");

/// A fresh connection.
async fn connect(in_flight: &InFlight) -> Result<Connection, Refusal> {
    let upstream = in_flight.upstream();
    match Connection::open(upstream.address).await {
        Ok(connection) => {
            upstream.standing.reached();
            Ok(connection)
        }
        Err(error) => {
            upstream.standing.missed();
            tracing::debug!(container = %upstream.container, %error, "no connection");
            Err(UNREACHABLE)
        }
    }
}
