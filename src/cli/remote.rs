//! The daemon elsewhere that `skep plan --remote` asks.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode, Uri};
use serde_json::Value;

use crate::admin::trial::pack;
use crate::settings::Settings;
use crate::web;

/// How long it may take to look at a tree and at the world.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most bytes of its answer: of a plan of ten thousand APIs.
const MOST: usize = 256 << 20;

/// What the tree below `root` would change there.
///
/// # Errors
/// Where there is no such daemon, or it does not let us in.
pub(super) async fn ask(url: &str, token: &str, root: &Path) -> anyhow::Result<Value> {
    let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
    // The environment belongs to a host, and the daemon has its own.
    let (settings, _) = Settings::read(&root, |_| None)?;
    let uri: Uri = format!("{}/admin/plan", url.trim_end_matches('/')).parse().context("this is no URL")?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_here => {}
        Some("http") => bail!("a key goes to {host} by https:// alone: by http:// anybody on the way could read it"),
        _ => bail!("write the URL as in https://apis.example.com:8664"),
    }
    let packed = pack(&settings.apis);
    let packed = packed.with_context(|| format!("cannot pack {}", settings.apis.display()))?;
    let request = Request::post(uri)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/gzip")
        .body(packed)
        .context("this is no key, or no URL")?;
    let answer = tokio::time::timeout(PATIENCE, web::send_for(request, MOST)).await;
    let Ok(answer) = answer else { bail!("{url} does not answer within {} s", PATIENCE.as_secs()) };
    let answer = answer.map_err(|cause| anyhow::anyhow!("cannot ask {url}: {cause}"))?;
    let status = answer.status();
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED => {
            bail!("{url} does not know this key; make one there: skep keys create --name ci --plans")
        }
        StatusCode::NOT_FOUND => {
            bail!("{url} knows no plans: is it the address of skep's control surface, and of this version?")
        }
        _ => bail!("{url} answers {status}: {}", body["error"].as_str().unwrap_or("no reason given")),
    }
}
