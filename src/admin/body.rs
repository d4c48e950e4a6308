//! A body is the small JSON that some calls come with.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::fault::Fault;

/// The most bytes of one.
const MOST: usize = 64 * 1024;

/// A small body as JSON; `None` where there is none.
///
/// # Errors
/// [`Fault::Bad`] where it makes no sense, with the place where it ceases to.
pub(super) async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<Option<T>, Fault> {
    let read = Limited::new(body, MOST).collect().await.map_err(|error| Fault::Bad(error.to_string()))?;
    let bytes = read.to_bytes();
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Fault::Bad(format!("the body is no such JSON: {error}")))
}
