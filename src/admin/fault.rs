//! A fault is why the control surface does not do what it was asked for, as whoever asked is told.

use http::Response;
use http::StatusCode;
use http::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use serde_json::json;

use crate::engine::EngineError;
use crate::gateway::{Body, json_answer};
use crate::reconcile::TurnError;
use crate::records::RecordsError;
use crate::tree::ApiId;

/// Why something is not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// 400: what was sent makes no sense.
    Bad(String),
    /// 404: there is no such API.
    Unknown(ApiId),
    /// 404: there is no such thing of another kind.
    Missing(String),
    /// 404: there is no such path.
    NotFound,
    /// 405: the path knows these methods.
    Method(String),
    /// 409: not as things are.
    Conflict(String),
    /// 413: more bytes than that are not taken.
    TooLarge(usize),
    /// 503: not now.
    Unavailable(String),
}

impl Fault {
    /// How it is told, as a status and in words.
    pub(super) fn said(&self) -> (StatusCode, String) {
        match self {
            Self::Bad(why) => (StatusCode::BAD_REQUEST, why.clone()),
            Self::Unknown(id) => (StatusCode::NOT_FOUND, format!("there is no API {id}")),
            Self::Missing(what) => (StatusCode::NOT_FOUND, what.clone()),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is nothing here".to_owned()),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "this path does not know that method".to_owned()),
            Self::Conflict(why) => (StatusCode::CONFLICT, why.clone()),
            Self::TooLarge(most) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("more than {most} bytes are not taken here"))
            }
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        }
    }

    pub(super) fn answer(&self, request_id: &str) -> Response<Body> {
        if matches!(self, Self::NotFound) {
            return crate::gateway::not_found(request_id);
        }
        let (status, error) = self.said();
        let mut answer = json_answer(status, &json!({ "error": error, "request_id": request_id }));
        if let Self::Method(allowed) = self
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            answer.headers_mut().insert(ALLOW, allowed);
        }
        answer
    }
}

/// What one hears who shows no admin key.
pub(super) fn unauthorized(request_id: &str) -> Response<Body> {
    let error = "Missing or invalid admin key. Include 'Authorization: Bearer ADMIN_KEY' header";
    let mut answer = json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": error, "request_id": request_id }));
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

impl From<TurnError> for Fault {
    fn from(error: TurnError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<RecordsError> for Fault {
    fn from(error: RecordsError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
