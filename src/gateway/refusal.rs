//! A refusal is why a request gets no answer from an API, as its caller is told.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::body::Body;
use super::rate::{Allowances, whole_seconds};

/// When a caller may ask again for an API that is suspended: nobody knows, so not soon.
const RETRY_SUSPENDED: u64 = 60;

/// When a caller may ask again for an API that is being started or replaced: about as long as a start takes.
const RETRY_UNAVAILABLE: u64 = 2;

/// When a caller may ask again for an API that has too much to do: about as long as those before it wait.
const RETRY_OVERLOADED: u64 = 2;

/// Why a request gets no answer from an API. None of them holds an address, a path or an error text of the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 400: the request can be understood in two ways, or not at all.
    Bad(&'static str),
    /// 401: no key, a wrong one, one that is revoked or opens other APIs, or no such API. All alike: whoever has no
    /// key must not learn which APIs there are.
    Unauthorized,
    /// 401, as before: a token that no known key of its issuer has signed. There may be newer ones.
    UnknownSigner,
    /// 403: the key opens the API, but not in that way, or not from there.
    Forbidden(&'static str),
    /// 408: the body stopped coming.
    Stalled,
    /// 413: the body is larger than this many bytes.
    TooLarge(u64),
    /// 429: over the limit.
    TooMany(Box<Allowances>),
    /// 500: our own fault.
    Internal,
    /// 502: no instance could be reached, or what it said was no HTTP.
    BadGateway(&'static str),
    /// 503: the tree says to run nothing, and this sentence.
    Suspended(String),
    /// 503: nothing is ready, with a sentence why.
    Unavailable(String),
    /// 503: all instances have as much to do as they may, and enough wait.
    Overloaded,
    /// 504: no answer began within this time.
    TimedOut(Duration),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::UnknownSigner => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::Suspended(_) | Self::Unavailable(_) | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Bad(reason) | Self::Forbidden(reason) | Self::BadGateway(reason) => (*reason).to_owned(),
            Self::Unauthorized | Self::UnknownSigner => {
                "Missing or invalid API key, or API not found. Include 'Authorization: Bearer YOUR_API_KEY' header"
                    .to_owned()
            }
            Self::Stalled => "the request body stopped coming".to_owned(),
            Self::TooLarge(limit) => format!("the request body is larger than {limit} bytes, the most this API takes"),
            Self::TooMany(_) => "Rate limit exceeded".to_owned(),
            Self::Internal => "the gateway failed; its log tells more under this request id".to_owned(),
            Self::Suspended(reason) | Self::Unavailable(reason) => reason.clone(),
            Self::Overloaded => "the API has more to do than it can; ask again later".to_owned(),
            Self::TimedOut(after) => format!("the API did not begin to answer within {} s", after.as_secs_f64()),
        }
    }

    /// The answer, but for the headers that every answer has.
    pub(super) fn answer(&self, request_id: &str) -> Response<Body> {
        let mut body = Map::new();
        body.insert("error".to_owned(), self.message().into());
        if let Self::TooMany(left) = self {
            body.insert("limit".to_owned(), left.tightest.limit.into());
            body.insert("reset".to_owned(), left.reset.into());
        }
        body.insert("request_id".to_owned(), request_id.into());
        let mut response = json_answer(self.status(), &Value::Object(body));
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized | Self::UnknownSigner => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::TooMany(left) => {
                left.write_to(headers);
                headers.insert(RETRY_AFTER, whole_seconds(left.tightest.retry_after).max(1).into());
            }
            Self::Suspended(_) => {
                headers.insert(RETRY_AFTER, RETRY_SUSPENDED.into());
            }
            Self::Unavailable(_) => {
                headers.insert(RETRY_AFTER, RETRY_UNAVAILABLE.into());
            }
            Self::Overloaded => {
                headers.insert(RETRY_AFTER, RETRY_OVERLOADED.into());
            }
            _ => {}
        }
        response
    }
}

/// An answer of JSON, as the gateway and its neighbours give.
#[must_use]
pub fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The 404 for a path that nobody serves.
#[must_use]
pub fn not_found(request_id: &str) -> Response<Body> {
    let error = "nothing is served here; an API is called as /run/<id>/<path>";
    json_answer(StatusCode::NOT_FOUND, &json!({ "error": error, "request_id": request_id }))
}
