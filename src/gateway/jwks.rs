//! A key set is fetched from where its issuer publishes it, or read from a file.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode, Uri};
use serde_json::Value;

use crate::settings::JwksPlace;
use crate::web;

/// For one fetch, all in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The server cannot be reached, or does not speak HTTP.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The server answered, but not with a key set.
    #[error("{0} answered with {1}")]
    Status(String, StatusCode),
    /// It is no JSON.
    #[error("this is no key set: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no list of keys, not even an empty one.
    #[error("this is no key set: it has no `keys`")]
    NoSet,
}

/// Fetches a key set.
pub(super) async fn fetch(place: &JwksPlace) -> Result<Value, FetchError> {
    match place {
        JwksPlace::File(path) => {
            let bytes = tokio::fs::read(path).await.map_err(|error| FetchError::File(path.clone(), error))?;
            Ok(serde_json::from_slice(&bytes)?)
        }
        JwksPlace::Url(uri) => {
            let unreachable = |cause: String| FetchError::Unreachable(uri.to_string(), cause);
            match tokio::time::timeout(TIMEOUT, ask(uri)).await {
                Ok(Ok((StatusCode::OK, bytes))) => Ok(serde_json::from_slice(&bytes)?),
                Ok(Ok((status, _))) => Err(FetchError::Status(uri.to_string(), status)),
                Ok(Err(cause)) => Err(unreachable(cause.to_string())),
                Err(_) => Err(unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
            }
        }
    }
}

async fn ask(uri: &Uri) -> Result<(StatusCode, Bytes), web::Cause> {
    let request = Request::get(uri).header(ACCEPT, "application/jwk-set+json, application/json").body(Bytes::new())?;
    let answer = web::send(request).await?;
    Ok((answer.status(), answer.into_body()))
}
