//! Forwarding sends one request to an upstream of its API, again where that is safe, and brings the answer back.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;

use super::pool::{self, Connection};
use super::refusal::Refusal;
use super::route::{Route, RouteState, Routes};
use super::upload::{Progress, State, Upload};
use super::upstream::{InFlight, Upstream};

/// How often a route is read again when all its upstreams were sealed in between. A seal comes after the route has
/// moved, so the second look finds the new one; the rest is for routes that move again and again.
const LOOKS: usize = 8;

/// What one API is asked, ready to be sent.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) upload: Upload,
    /// See [`crate::tree::RouteSettings::timeout`].
    pub(super) timeout: Duration,
    /// The most bytes of the request body, for the error that says so.
    pub(super) max_body: u64,
}

/// An answer whose head has come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
    pub(super) upload: Arc<Progress>,
    pub(super) in_flight: InFlight,
}

/// Sends a request to an upstream of `route`, or of the route that has come in its place.
///
/// Sent again are only requests that surely did nothing: to another replica where no connection came about, on a fresh
/// connection where the pooled one had ended before the request was written, and, also on a fresh one, requests that
/// mean the same when they come twice (RFC 9110, section 9.2.2) and have no body.
///
/// # Errors
/// What the caller is told: 408, 413, 502, 503 or 504.
pub(super) async fn forward(routes: &Routes, route: Arc<Route>, call: Call) -> Result<Answer, Refusal> {
    let mut in_flight = admit(routes, &route, None)?;
    let (mut connection, mut reused) = match in_flight.upstream().pool.take() {
        Some(connection) => (connection, true),
        None => match pool::connect(in_flight.upstream().address).await {
            Ok(connection) => (connection, false),
            Err(error) => {
                tracing::debug!(api = %route.id, container = %in_flight.upstream().container, %error, "no connection");
                in_flight = admit(routes, &route, Some(in_flight.upstream())).map_err(|_| UNREACHABLE)?;
                connect(&in_flight).await?
            }
        },
    };
    let Call { method, path, headers, upload, timeout, max_body } = call;
    let progress = upload.progress();
    let harmless_twice = method.is_idempotent() && progress.state() == State::Ended;
    let mut spare =
        (reused && harmless_twice).then(|| request(method.clone(), path.clone(), headers.clone(), Upload::empty()));
    let mut request = request(method, path, headers, upload);
    loop {
        let sent = tokio::select! {
            biased;
            sent = connection.try_send_request(request) => sent,
            () = progress.upstream_silent(timeout) => return Err(Refusal::TimedOut(timeout)),
        };
        let mut error = match sent {
            Ok(response) => return Ok(Answer { response, connection, upload: progress, in_flight }),
            Err(error) => error,
        };
        match progress.state() {
            State::TooLarge => return Err(Refusal::TooLarge(max_body)),
            State::Stalled => return Err(Refusal::Stalled),
            State::Broken => return Err(Refusal::Bad("the request body broke off")),
            State::Moving | State::Waiting | State::Ended => {}
        }
        let again = error.take_message().or_else(|| spare.take()).filter(|_| reused);
        let Some(again) = again else {
            tracing::debug!(api = %route.id, container = %in_flight.upstream().container, error = %error.error(), "no answer");
            return Err(Refusal::BadGateway("the API ended the connection without an answer"));
        };
        request = again;
        spare = None;
        (connection, reused) = connect(&in_flight).await?;
    }
}

const UNREACHABLE: Refusal = Refusal::BadGateway("the API cannot be reached");

/// A fresh connection, and that it is none of the pool.
async fn connect(in_flight: &InFlight) -> Result<(Connection, bool), Refusal> {
    let upstream = in_flight.upstream();
    match pool::connect(upstream.address).await {
        Ok(connection) => Ok((connection, false)),
        Err(error) => {
            tracing::debug!(container = %upstream.container, %error, "no connection");
            Err(UNREACHABLE)
        }
    }
}

fn request(method: Method, path: PathAndQuery, headers: HeaderMap, upload: Upload) -> Request<Upload> {
    let mut request = Request::new(upload);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// Picks an upstream and counts the request in, other than `not` if there is one.
fn admit(routes: &Routes, first: &Arc<Route>, not: Option<&Arc<Upstream>>) -> Result<InFlight, Refusal> {
    let mut route = Arc::clone(first);
    for _ in 0..LOOKS {
        match &route.state {
            RouteState::Suspended => return Err(Refusal::Suspended),
            RouteState::Unavailable { reason } => return Err(Refusal::Unavailable(reason.clone())),
            RouteState::Serving { upstreams, .. } => {
                let Some(upstream) = choose(upstreams, not) else { return Err(UNREACHABLE) };
                if let Some(in_flight) = Upstream::begin(upstream) {
                    return Ok(in_flight);
                }
            }
        }
        // It was removed: to one who could just call it, that is a moment like any other when nothing is there.
        route = routes.get(first.id.as_str()).ok_or_else(gone)?;
    }
    Err(gone())
}

fn gone() -> Refusal {
    Refusal::Unavailable("the API is being replaced or removed".to_owned())
}

/// The less loaded of two drawn at random: nearly as even as asking all of them, without every request rushing to the
/// one that was idle a moment ago (Mitzenmacher, "The Power of Two Choices", 2001).
fn choose<'a>(upstreams: &'a [Arc<Upstream>], not: Option<&Arc<Upstream>>) -> Option<&'a Arc<Upstream>> {
    let mut candidates = upstreams.iter().filter(|upstream| not.is_none_or(|not| !Arc::ptr_eq(not, upstream)));
    let count = candidates.clone().count();
    if count <= 1 {
        return candidates.next();
    }
    let first = rand::random_range(0..count);
    let second = (first + rand::random_range(1..count)) % count;
    let (first, second) = (candidates.clone().nth(first)?, candidates.nth(second)?);
    Some(if second.in_flight() < first.in_flight() { second } else { first })
}
