//! Callers' keys over the control surface: `/admin/keys`.

use http::StatusCode;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::read_json;
use super::fault::Fault;
use crate::callers::{Callers, KeyError, KeyWish, Rotation, keys_in_force, make_key, revoke_key, rotate_key};
use crate::gateway::{Body, json_answer};
use crate::records::Records;

/// `GET /admin/keys`: the keys in force, never the keys themselves.
pub(super) async fn list(records: &dyn Records, callers: &Callers) -> Result<Value, Fault> {
    let keys = keys_in_force(records, &callers.settings()).await?;
    Ok(json!({ "success": true, "keys": keys }))
}

/// `POST /admin/keys`: makes one, and shows it, once. It opens what it does when the answer is there.
pub(super) async fn make(
    records: &dyn Records,
    callers: &Callers,
    body: Incoming,
) -> Result<http::Response<Body>, Fault> {
    let wish: Option<KeyWish> = read_json(body).await?;
    let wish = wish.ok_or_else(|| Fault::Bad("a key needs a name: {\"name\": \"website\"}".to_owned()))?;
    let made = make_key(records, &callers.settings(), wish).await?;
    take_in(callers).await;
    let shown = json!({ "success": true, "secret": made.secret, "key": made.key });
    Ok(json_answer(StatusCode::CREATED, &shown))
}

/// `POST /admin/keys/{key}/rotate`: makes one in its place, and shows it, once.
pub(super) async fn rotate(
    records: &dyn Records,
    callers: &Callers,
    id: &str,
    body: Incoming,
) -> Result<http::Response<Body>, Fault> {
    let rotation: Rotation = read_json(body).await?.unwrap_or_default();
    let (made, until) = rotate_key(records, &callers.settings(), id, &rotation).await?;
    take_in(callers).await;
    let shown = json!({ "success": true, "secret": made.secret, "key": made.key, "old_until": until });
    Ok(json_answer(StatusCode::CREATED, &shown))
}

/// `DELETE /admin/keys/{key}`: it opens nothing when the answer is there.
pub(super) async fn revoke(records: &dyn Records, callers: &Callers, id: &str) -> Result<Value, Fault> {
    revoke_key(records, &callers.settings(), id).await?;
    callers.load().await?;
    Ok(json!({ "success": true, "message": format!("Key {id} opens nothing from now on") }))
}

/// Has the gateway know a key that was made. A key that nobody is shown is lost, so no trouble is a reason not to: whoever
/// looks whether the records have changed tries again within a second.
async fn take_in(callers: &Callers) {
    if let Err(error) = callers.load().await {
        tracing::warn!("{error}; the key that was made opens nothing until the keys can be read");
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown(_) => Self::Missing(error.to_string()),
            KeyError::Declared(_) | KeyError::Gone(_) => Self::Conflict(error.to_string()),
            KeyError::Records(error) => error.into(),
            _ => Self::Bad(error.to_string()),
        }
    }
}
