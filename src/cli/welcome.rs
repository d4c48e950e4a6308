//! The welcome is what `skep serve --welcome` prints: a fresh key, and commands to try.

use std::net::SocketAddr;

use jiff::Timestamp;

use crate::gateway::{RouteState, Routes};
use crate::records::{KeyScope, NewKey, Records};
use crate::report::style::{BOLD, NAME, paint};
use crate::settings::Settings;
use crate::tree::ApiId;

/// What the key is called, so that the next start can replace it.
const WELCOME_KEY: &str = "welcome";

/// Replaces the key that the last start with `--welcome` made.
pub(super) async fn welcome_key(records: &dyn Records) -> anyhow::Result<String> {
    let now = Timestamp::now();
    for key in records.keys().await?.into_iter().filter(|key| key.name == WELCOME_KEY) {
        records.revoke_key(&key.id, now).await?;
    }
    let made = NewKey::generate(WELCOME_KEY, KeyScope::All, now);
    records.add_key(&made.key).await?;
    Ok(made.secret)
}

/// Commands to try, as they stand.
pub(super) fn welcome(
    settings: &Settings,
    routes: &Routes,
    [address, control]: [SocketAddr; 2],
    secret: &str,
    admin_key: &str,
) -> String {
    let table = routes.table();
    let mut serving: Vec<&ApiId> =
        table.iter().filter(|(_, route)| matches!(route.state, RouteState::Serving { .. })).map(|(id, _)| id).collect();
    serving.sort();
    let (heading, url) = (paint("skep serves", BOLD), format!("http://{address}"));
    let mut text = format!("\n{heading} {} APIs of {}\n\n", serving.len(), settings.apis.display());
    for (label, value) in [("gateway", url.as_str()), ("caller key", secret), ("admin key", admin_key)] {
        text.push_str(&format!("  {:<11} {}\n", label, paint(value, NAME)));
    }
    text.push_str("\nTry:\n\n");
    text.push_str(&format!("  curl {url}/health\n"));
    for id in serving.iter().take(1) {
        text.push_str(&format!("  curl -H 'Authorization: Bearer {secret}' {url}/run/{id}/openapi.json\n"));
    }
    text.push_str(&format!("  curl -X POST -H 'Authorization: Bearer {admin_key}' http://{control}/admin/apply\n\n"));
    text.push_str("Change a file below apis/ and call again. Ctrl-C stops skep; containers go on running.\n\n");
    text
}
