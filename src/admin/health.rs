//! Whether this daemon is well, for whoever asks: a load balancer, a monitor, somebody at a desk.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::records::{Away, Records};
use crate::tree::Tree;

/// How long the records may take over an answer before whoever asks after our health is told that they give none.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What anybody is told of a `skep.yaml` with errors in it.
const UNUSED: &str = "skep.yaml cannot be used; what it said before goes on";

/// What the answer goes by.
pub(super) struct Asked<'a> {
    pub(super) records: &'a dyn Records,
    /// The tree, or why it cannot be read; `None` before anything is at work.
    pub(super) tree: Option<Result<Arc<Tree>, String>>,
    /// Another daemon reconciles.
    pub(super) follows: bool,
    /// Whether all that is followed could be asked, and what is said of it.
    pub(super) pulled: Option<(bool, Value)>,
    pub(super) deployed: usize,
    pub(super) tells_sentry: bool,
    pub(super) is_admin: bool,
}

impl Asked<'_> {
    /// `GET /health`.
    pub(super) async fn answer(self) -> Value {
        let Self { records, tree, follows, pulled, deployed, tells_sentry, is_admin } = self;
        let asked = Timestamp::now();
        let database = tokio::time::timeout(ANSWERS_WITHIN, records.version()).await;
        let silent = database.is_err().then(|| Away::silent(asked));
        let (is_connected, away) = (matches!(database, Ok(Ok(_))), silent.or_else(|| records.away()));
        // What a database says may name hosts and roles, and whoever asks after our health may be anybody.
        let away = away.map(|away| if is_admin { away } else { away.without_cause() });
        let is_reading = follows || matches!(tree, Some(Ok(_)));
        let settings = tree.and_then(Result::ok).and_then(|tree| {
            let broken = tree.broken_settings()?;
            Some(if is_admin { broken.to_string() } else { UNUSED.to_owned() })
        });
        let is_well = is_connected
            && away.is_none()
            && is_reading
            && settings.is_none()
            && pulled.as_ref().is_none_or(|(is_well, _)| *is_well);
        json!({
            "status": if is_well { "healthy" } else { "degraded" },
            "deployed_apis": deployed,
            "database": if is_connected { "connected" } else { "disconnected" },
            "waits": away.map(|away| away.to_string()),
            "settings": settings,
            "pull": pulled.map(|(_, said)| said),
            "role": if follows { "follower" } else { "leader" },
            "sentry_enabled": tells_sentry,
            "timestamp": Timestamp::now(),
        })
    }
}
