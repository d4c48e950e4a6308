//! Callers' keys over the control surface: `/admin/keys`.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::read_json;
use super::fault::Fault;
use crate::callers::{Callers, KeyError, KeyWish, Rotation, keys_in_force, make_key, revoke_key, rotate_key};
use crate::gateway::{Body, json_answer};
use crate::records::{Records, RecordsError};

/// `GET /admin/keys`: the keys in force, never the keys themselves.
pub(super) async fn list(records: &dyn Records, callers: &Callers) -> Result<Value, Fault> {
    let keys = keys_in_force(records, &callers.settings()).await?;
    Ok(json!({ "success": true, "keys": keys }))
}

/// `POST /admin/keys`: makes one, and shows it, once. It opens what it does when the answer is there.
pub(super) async fn make(
    records: Arc<dyn Records>,
    callers: Arc<Callers>,
    body: Incoming,
) -> Result<http::Response<Body>, Fault> {
    let wish: Option<KeyWish> = read_json(body).await?;
    let wish = wish.ok_or_else(|| Fault::Bad("a key needs a name: {\"name\": \"website\"}".to_owned()))?;
    let settings = callers.settings();
    let (made, _) = write(callers, async move { make_key(&*records, &settings, wish).await }).await?;
    let shown = json!({ "success": true, "secret": made.secret, "key": made.key });
    Ok(json_answer(StatusCode::CREATED, &shown))
}

/// `POST /admin/keys/{key}/rotate`: makes one in its place, and shows it, once.
pub(super) async fn rotate(
    records: Arc<dyn Records>,
    callers: Arc<Callers>,
    id: String,
    body: Incoming,
) -> Result<http::Response<Body>, Fault> {
    let rotation: Rotation = read_json(body).await?.unwrap_or_default();
    let settings = callers.settings();
    let rotated = async move { rotate_key(&*records, &settings, &id, &rotation).await };
    let ((made, until), _) = write(callers, rotated).await?;
    let shown = json!({ "success": true, "secret": made.secret, "key": made.key, "old_until": until });
    Ok(json_answer(StatusCode::CREATED, &shown))
}

/// `DELETE /admin/keys/{key}`: it opens nothing when the answer is there. Where keys cannot be read, that is an error, and it opens
/// nothing within a second of when they can be.
pub(super) async fn revoke(records: Arc<dyn Records>, callers: Arc<Callers>, id: String) -> Result<Value, Fault> {
    let message = format!("Key {id} opens nothing from now on");
    let settings = callers.settings();
    let ((), read) = write(callers, async move { revoke_key(&*records, &settings, &id).await }).await?;
    read?;
    Ok(json!({ "success": true, "message": message }))
}

/// Writes something of keys, and has the gateway know of it; to the end, also where whoever asked has gone. A key that nobody is
/// shown is lost, so that keys cannot be read is no reason not to: they are read as soon as they can be.
async fn write<T: Send + 'static>(
    callers: Arc<Callers>,
    write: impl Future<Output = Result<T, KeyError>> + Send + 'static,
) -> Result<(T, Result<(), RecordsError>), Fault> {
    let done = tokio::spawn(async move {
        let written = write.await;
        // Also where it failed: whether it did may be unknown.
        callers.have_changed();
        let read = callers.load().await;
        if let Err(error) = &read {
            tracing::warn!("{error}; what was written of keys holds as soon as they can be read");
        }
        written.map(|written| (written, read))
    });
    Ok(done.await.map_err(|error| Fault::Unavailable(error.to_string()))??)
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown(_) => Self::Missing(error.to_string()),
            KeyError::Declared(_) | KeyError::DeclaredToo(_) | KeyError::Gone(_) => Self::Conflict(error.to_string()),
            KeyError::Records(error) => error.into(),
            _ => Self::Bad(error.to_string()),
        }
    }
}
